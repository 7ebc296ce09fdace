"""Corrections as files: WFDB annotations, marks of ICM+, and the folders that ``edge-train finetune --corrections`` takes.

    <folder>/beats/NAME.rev + reviewed.json         all beats, the corrected among them; which samples a person looked at
    <folder>/segments/NAME.artf + reviewed.json     artefacts; which segments a person decided
    and the recording itself beside each, as links

Two folders, because who judged a segment of pressure has not looked at the beats in it.

An annotation that a person made has subtype 1 and, as its text, what was done: ``V was N, ann 2026-11-21T09:15:00.000Z``.
"""

from __future__ import annotations

import hashlib
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
LONGEST_NAME = 80
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Exported:
    name: str
    annotations: Path
    marks: Path | None
    """None where nobody said anything of a segment: a recording in that folder is one to learn from."""
    beats: int
    corrected: int
    artefacts: int


def plain_name(record: str) -> str:
    """A record's name as wfdb takes it. One that is not such a name already keeps apart from those it would become like by its digest."""
    plain = _PLAIN.sub("_", record)
    if plain == record and len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[:LONGEST_NAME]}-{hashlib.sha256(record.encode()).hexdigest()[:8]}"


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
    decided = _joined((one.first, one.end) for one in merged.segments if one.artefact is not None)
    marked = sum(len(group.marks) for group in made.groups)
    try:
        _beside(beats, name, files)
        mit.write(beats / f"{name}.{ANNOTATOR}", noted)
        _say(beats, name, looked_at_beats(merged, journal))
        if decided:
            _beside(segments, name, files)
            artf.write(segments / f"{name}.artf", made)
            _say(segments, name, decided)
        elif (segments / f"{name}.artf").is_file():  # all of it was undone since
            (segments / f"{name}.artf").unlink()
            _say(segments, name, None)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}", remedy="name another folder with --state") from None
    corrected = sum(one.subtype == BY_PERSON for one in noted)
    there = segments / f"{name}.artf" if decided else None
    return Exported(name, beats / f"{name}.{ANNOTATOR}", there, len(noted), corrected, marked)


def _beside(place: Path, name: str, files: list[Path]) -> None:
    """The recording under its plain name, the samples as links: two streams' recordings that began together have files of one name."""
    place.mkdir(parents=True, exist_ok=True)
    endings = [path.suffix for path in files]
    named = {
        path.name: f"{name}{path.suffix}" if endings.count(path.suffix) == 1 else f"{name}_{i}{path.suffix}"
        for i, path in enumerate(files)
    }
    for path in files:
        target = place / named[path.name]
        if path.suffix == ".hea":
            mit.whole(target, _header(path, name, named).encode())
            continue
        if target.exists() and target.samefile(path):
            continue
        target.unlink(missing_ok=True)
        with suppress(OSError):
            os.link(path, target)
            continue
        shutil.copyfile(path, target)


def _header(path: Path, name: str, named: dict[str, str]) -> str:
    """With the new names of the record and of its files."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    first = True
    for i, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if first:
            lines[i] = re.sub(r"^\s*[^\s/]+", name, line, count=1)
            first = False
            continue
        file = line.split(None, 1)[0]
        if file in named:
            lines[i] = line.replace(file, named[file], 1)
    return "".join(lines)


def _say(place: Path, name: str, reviewed: list[list[int]] | None) -> None:
    """``reviewed``: None to forget it."""
    path = place / "reviewed.json"
    about: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        about = json.loads(path.read_text(encoding="utf-8"))
    if reviewed is None:
        about.pop(name, None)
    else:
        about[name] = {"patient": name, "reviewed": reviewed}
    mit.whole(path, json.dumps(about, indent=1, sort_keys=True).encode())
