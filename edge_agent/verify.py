"""``replay --verify``: a monitor's alarms, each with a second opinion, from the recordings they were raised in.

A line of the file is a record, the kind of alarm and its time, separated by commas or blanks; the time in seconds or as hh:mm:ss from the
recording's beginning. The recording goes through the daemon's own pipeline with all its leads, and only as far as the last alarm asked
about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.alarms.opinion import KINDS, Combiner, Opinion
from edge_agent.clock import RecordedClock
from edge_agent.errors import SourceError
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


def read_questions(path: Path) -> list[Question]:
    """Every line that is neither empty nor a comment (#); a record is looked for beside the file, too."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    return [
        _question(line, path, number)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


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
    )


def _there(record: Path) -> bool:
    return record.exists() or record.with_name(record.name + ".hea").exists()


def _seconds(text: str, path: Path, number: int) -> float:
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(not 0 <= part < 1e9 for part in parts):
        raise SourceError(f"{path}:{number}: {text!r} is no time", remedy="seconds, or hh:mm:ss")
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    return seconds


def verify(
    questions: Iterable[Question], settings: Settings, combiner: Combiner | None, *, fs: float | None = None
) -> Iterator[Answered]:
    """In the order of the questions, a recording at a time."""
    by_record: dict[Path, list[Question]] = {}
    for question in questions:
        by_record.setdefault(question.record, []).append(question)
    for record, asked in by_record.items():
        yield from _recording(record, sorted(asked, key=lambda one: one.at_s), settings, combiner, fs)


def _recording(
    record: Path, asked: list[Question], settings: Settings, combiner: Combiner | None, fs: float | None
) -> Iterator[Answered]:
    recording, info = open_for_replay(record, settings, fs=fs, all_leads=True)
    try:
        seconds = (info.samples or 0) / info.fs
        if info.samples is not None and asked[-1].at_s > seconds:
            raise SourceError(f"{record}: asked about {asked[-1].at_s:g} s, it lasts {seconds:g} s")
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
        waiting = list(asked)
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
