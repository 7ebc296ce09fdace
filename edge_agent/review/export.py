"""Corrections as files: WFDB annotations, marks of ICM+, and the folders that ``edge-train finetune --corrections`` takes.

    <folder>/beats/NAME.rev + reviewed.json         all beats, the corrected among them; which samples a person looked at
    <folder>/segments/NAME.artf + reviewed.json     artefacts; which segments a person decided
    and the recording itself beside each, as links

Two folders, because who judged a segment of pressure has not looked at the beats in it.

An annotation that a person made has subtype 1 and, as its text, what was done: ``V was N, ann 2026-11-21T09:15:00.000Z``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge_agent.annotation_files import artf, mit
from edge_agent.errors import OutputError
from edge_agent.review.corrections import Journal
from edge_agent.review.merged import Beat, Merged
from edge_agent.review.waves import Waves

ANNOTATOR = "rev"
BY_PERSON = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Exported:
    name: str
    annotations: Path
    marks: Path
    beats: int
    corrected: int
    artefacts: int


def plain_name(record: str) -> str:
    """A record's name as wfdb takes it; folders become part of it, so that two records of one name stay apart."""
    return _PLAIN.sub("_", record)


def beat_annotations(merged: Merged) -> list[mit.Annotation]:
    """Each beat once, in order of time."""
    made: dict[int, mit.Annotation] = {}
    for beat in (merged.beat(int(i)) for i in merged.order):
        if beat.deleted:
            continue
        before = made.get(beat.sample)
        if before is not None and before.subtype == BY_PERSON:
            continue
        person = beat.act is not None
        made[beat.sample] = mit.Annotation(
            beat.sample, beat.label or "Q", BY_PERSON if person else 0, text=_note(beat) if person else ""
        )
    return [made[at] for at in sorted(made)]


def _note(beat: Beat) -> str:
    was = f" was {beat.model}" if beat.model else ""
    return f"{beat.act} {beat.label}{was}, {beat.who} {beat.at}"


def looked_at_beats(merged: Merged, journal: Journal) -> list[list[int]]:
    spans = [(int(one.value["first"]), int(one.value["end"])) for one in journal.reviewed]
    spans += [
        (beat.sample, beat.sample + 1)
        for beat in (merged.beat(int(i)) for i in merged.person.nonzero()[0])
        if not beat.deleted
    ]
    return _joined(spans)


def _joined(spans: Iterable[tuple[int, int]]) -> list[list[int]]:
    made: list[list[int]] = []
    for first, end in sorted(spans):
        if made and first <= made[-1][1]:
            made[-1][1] = max(made[-1][1], end)
        else:
            made.append([first, end])
    return made


def marks(merged: Merged, waves: Waves, before: artf.Artf, file: str) -> artf.Artf:
    """What was marked before, and what the person says now, which is stronger."""
    began = 0 if waves.began is None else (waves.began - EPOCH) // timedelta(microseconds=1)

    def us(sample: int) -> int:
        return began + round(sample / waves.fs * 1e6)

    decided = [one for one in merged.segments if one.artefact is not None]
    fresh: dict[str, list[artf.Mark]] = {}
    for one in decided:
        if one.artefact:
            at = datetime.fromisoformat(one.at or "") - EPOCH
            mark = artf.Mark(us(one.first), us(one.end), one.who, at // timedelta(milliseconds=1) * 1000)
            fresh.setdefault(one.channel, []).append(mark)
    groups = []
    for group in before.groups:
        spans = [(us(one.first), us(one.end)) for one in decided if group.signal in (None, one.channel)]
        kept = tuple(mark for mark in group.marks if not any(mark.start_us < b and a < mark.end_us for a, b in spans))
        kept += tuple(fresh.pop(group.signal, ())) if group.signal is not None else ()
        groups.append(artf.Group(group.signal, kept, group.other))
    groups += [artf.Group(channel, tuple(made)) for channel, made in fresh.items()]
    return artf.Artf(tuple(groups), before.hdf5_filename or file, before.user_id, before.info, before.foreign)


def marks_beside(recording: Path) -> artf.Artf:
    """Those that lie beside the recording already; none where there are none. Raises SourceError."""
    path = recording.with_suffix(".artf")
    return artf.read(path) if path.is_file() else artf.Artf(())


def export(
    folder: Path, record: str, recording: Path, files: list[Path], waves: Waves, merged: Merged, journal: Journal
) -> Exported:
    """``files``: all that the recording consists of, its header first. Raises OutputError, SourceError."""
    name = plain_name(record)
    beats, segments = folder / "beats", folder / "segments"
    noted = beat_annotations(merged)
    made = marks(merged, waves, marks_beside(recording), files[0].name)
    try:
        for place in (beats, segments):
            place.mkdir(parents=True, exist_ok=True)
            _beside(place, name, files)
        mit.write(beats / f"{name}.{ANNOTATOR}", noted)
        artf.write(segments / f"{name}.artf", made)
        _say(beats, name, looked_at_beats(merged, journal))
        _say(segments, name, _joined((one.first, one.end) for one in merged.segments if one.artefact is not None))
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}", remedy="name another folder with --state") from None
    corrected = sum(one.subtype == BY_PERSON for one in noted)
    artefacts = sum(len(group.marks) for group in made.groups)
    return Exported(name, beats / f"{name}.{ANNOTATOR}", segments / f"{name}.artf", len(noted), corrected, artefacts)


def _beside(place: Path, name: str, files: list[Path]) -> None:
    """The recording under its plain name: the header again, since it names the record, the samples as links."""
    for path in files:
        target = place / (f"{name}{path.suffix}" if path == files[0] else path.name)
        if path.suffix == ".hea":
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            for i, line in enumerate(lines):
                if line.strip() and not line.lstrip().startswith("#"):
                    lines[i] = re.sub(r"^\s*[^\s/]+", name, line, count=1)
                    break
            mit.whole(target, "".join(lines).encode())
            continue
        if target.exists() and target.samefile(path):
            continue
        target.unlink(missing_ok=True)
        with suppress(OSError):
            os.link(path, target)
            continue
        shutil.copyfile(path, target)


def _say(place: Path, name: str, reviewed: list[list[int]]) -> None:
    path = place / "reviewed.json"
    about: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        about = json.loads(path.read_text(encoding="utf-8"))
    about[name] = {"patient": name, "reviewed": reviewed}
    mit.whole(path, json.dumps(about, indent=1, sort_keys=True).encode())
