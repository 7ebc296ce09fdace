"""A stretch of a recording as a picture, with its labels and alarms."""

from __future__ import annotations

from edge_agent.review import picture
from edge_agent.review.library import Open

MOST_NOTES = 1000


def strip_of(opened: Open, first: int, end: int) -> str:
    """A stretch as a picture, with its labels."""
    waves = opened.waves
    merged, _ = opened.merged()
    notes = []
    by_person = False
    for beat in merged.beats(first, end, MOST_NOTES) or []:
        if not beat.deleted:
            by_person = by_person or bool(beat.act)
            text = (beat.label or "·") + ("*" if beat.act else "")
            notes.append(picture.Note(beat.sample, text, picture.COLOURS.get(beat.label or "", "#000")))
    for alarm in opened.found.alarms(first, end):
        if alarm["sample"] >= first:
            notes.append(picture.Note(alarm["sample"], alarm["kind"], "#a00000", mark=True))
    seconds = first / waves.fs
    return picture.strip(
        title=f"{opened.name}, from {int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{seconds % 60:06.3f}",
        below="* by a person" if by_person else "",
        fs=waves.fs,
        first=first,
        signals=waves.signals,
        values=waves.read(first, end),
        notes=notes,
    )
