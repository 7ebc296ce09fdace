"""``replay --verify``: a monitor's alarms, each with a second opinion, from the recordings they were raised in.

A line of the file is a record, the kind of alarm and its time, separated by commas or blanks; the time in seconds, mm:ss or hh:mm:ss from
the recording's beginning. The recording goes through the daemon's own pipeline with all its leads, once, and only as far as the last alarm
asked about. Answers come in the order of the lines; a line that cannot be answered is named, and takes none of the others with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.alarms.opinion import KINDS, Combiner, Opinion
from edge_agent.clock import RecordedClock
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.pipeline import Pipeline
from edge_agent.replay import BLOCK_S, SESSION, Settings, open_for_replay, stream_name
from edge_agent.sources.paced import RecordingReader
from edge_agent.sources.resampled import blocks_at_rate
from edge_agent.stamp import REPLAYED, Stamp

ALIASES = {"ventricular_flutter_fib": "ventricular_fibrillation"}
"""As the Challenge 2015 names it."""


@dataclass(frozen=True, slots=True)
class Question:
    record: Path
    kind: str
    at_s: float
    where: str = ""
    """File and line."""


@dataclass(frozen=True, slots=True)
class Answered:
    question: Question
    sample: int
    opinion: Opinion

    def as_json(self) -> dict[str, Any]:
        said = self.opinion
        return {
            "record": str(self.question.record),
            "kind": self.question.kind,
            "time_s": self.question.at_s,
            "sample": self.sample,
            "answer": said.answer,
            "probability": round(said.probability, 3),
            "by": said.by,
            "evidence": said.evidence,
        }


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A line that nothing can be said to."""

    what: str


def read_questions(path: Path) -> list[Question | Unanswered]:
    """Every line that is neither empty nor a comment (#); a record is looked for beside the file, too."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise SourceError(
            f"{path}: no such file", remedy="a monitor's alarms, a line each: record, kind of alarm, time"
        ) from None
    except IsADirectoryError:
        raise SourceError(f"{path}: is a folder", remedy="name the file in it") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:  # UnicodeDecodeError
        raise SourceError(f"{path}: is not text in UTF-8", remedy="a line is: record, kind of alarm, time") from None
    asked: list[Question | Unanswered] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            asked.append(_question(line, path, number))
        except SourceError as error:
            asked.append(Unanswered(str(error)))
    if not asked:
        raise SourceError(f"{path}: asks nothing", remedy="a line is: record, kind of alarm, time")
    return asked


def _question(line: str, path: Path, number: int) -> Question:
    parts = [part for part in re.split(r"[,\s]+", line.strip()) if part]
    if len(parts) != 3:
        raise SourceError(f"{path}:{number}: {line.strip()!r}", remedy="a line is: record, kind of alarm, time")
    record, kind, time = parts
    kind = ALIASES.get(kind.lower(), kind.lower())
    if kind not in KINDS:
        raise SourceError(f"{path}:{number}: no opinion on {parts[1]!r}", remedy=f"one of {', '.join(KINDS)} is wanted")
    here = Path(record)
    beside = path.parent / record
    return Question(
        beside if not here.is_absolute() and _there(beside) and not _there(here) else here,
        kind,
        _seconds(time, path, number),
        f"{path}:{number}",
    )


def _there(record: Path) -> bool:
    return record.exists() or record.with_name(record.name + ".hea").exists()


def _seconds(text: str, path: Path, number: int) -> float:
    try:  # float reads the digits of any script
        parts = [float(part) for part in text.split(":")] if text.isascii() else []
    except ValueError:
        parts = []
    whole = all(part < 60 for part in parts[1:]) and all(part == int(part) for part in parts[:-1] if part < 1e9)
    if not 1 <= len(parts) <= 3 or any(not 0 <= part < 1e9 for part in parts) or not whole:
        raise SourceError(f"{path}:{number}: {text!r} is no time", remedy="seconds, mm:ss or hh:mm:ss is wanted")
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    return seconds


def verify(
    asked: Iterable[Question | Unanswered], settings: Settings, combiner: Combiner | None, *, fs: float | None = None
) -> Iterator[Answered | Unanswered]:
    """In the order of the questions; each recording is gone through once, when it is first asked about."""
    listed = list(asked)
    by_record: dict[Path, list[Question]] = {}
    for one in listed:
        if isinstance(one, Question):
            by_record.setdefault(one.record, []).append(one)
    said: dict[Question, Answered | Unanswered] = {}
    for one in listed:
        if isinstance(one, Unanswered):
            yield one
            continue
        if one not in said:
            said |= _answers(sorted(set(by_record[one.record]), key=lambda each: each.at_s), settings, combiner, fs)
        yield said[one]


def _answers(
    asked: list[Question], settings: Settings, combiner: Combiner | None, fs: float | None
) -> dict[Question, Answered | Unanswered]:
    """To each question about one recording."""
    said: dict[Question, Answered | Unanswered] = {}
    try:
        for one in _recording(asked[0].record, asked, settings, combiner, fs):
            said[one.question if isinstance(one, Answered) else one[0]] = one if isinstance(one, Answered) else one[1]
    except EdgeAgentError as error:  # a recording that is not there, or damaged from somewhere on
        said |= {one: Unanswered(f"{one.where}: {error}") for one in asked if one not in said}
    return said


def _recording(
    record: Path, asked: list[Question], settings: Settings, combiner: Combiner | None, fs: float | None
) -> Iterator[Answered | tuple[Question, Unanswered]]:
    recording, info = open_for_replay(record, settings, fs=fs, all_leads=True)
    try:
        seconds = (info.samples or 0) / info.fs
        late = [one for one in asked if info.samples is not None and one.at_s > seconds]
        for one in late:
            yield one, Unanswered(f"{one.where}: {record}: asked about {one.at_s:g} s, it lasts {seconds:g} s")
        waiting = asked[: len(asked) - len(late)]
        if not waiting:
            return
        clock = RecordedClock(info.fs, info.began)
        stamp = Stamp(
            device=settings.device,
            stream=stream_name(record),
            session=SESSION,
            fs=info.fs,
            clock=clock,
            delay_s=info.delay_s,
        )
        pipeline = Pipeline(info, models=(), limits=settings.limits, detector=settings.detector, stamp=stamp)
        reader = RecordingReader(recording)
        size = max(1, round(BLOCK_S * recording.info.fs))
        blocks = iter(lambda: reader.read(size), None)
        if info.fs != recording.info.fs:
            blocks = blocks_at_rate(recording.info, blocks, info.fs)
        for block in blocks:
            for _ in pipeline.feed(block, REPLAYED):
                pass
            while waiting and pipeline.ring.end >= round(waiting[0].at_s * info.fs):
                yield _answer(waiting.pop(0), pipeline, combiner)
            if not waiting:
                return
        for question in waiting:  # at the very end, where a resampled recording may be a sample short
            yield _answer(question, pipeline, combiner)
    finally:
        recording.close()


def _answer(question: Question, pipeline: Pipeline, combiner: Combiner | None) -> Answered:
    sample, said = pipeline.opinion(question.kind, round(question.at_s * pipeline.fs), combiner)
    return Answered(question, sample, said)
