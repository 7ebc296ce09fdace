"""A recording through the daemon's own pipeline, in a process of its own: what is found goes into a database.

``python -m edge_agent.review.analyse RECORD DATABASE SIGNATURE INFERENCE`` (``[inference]`` as JSON). At a lower priority: the page's
server stays small and answers while this computes. Of a recording that the daemon made, the daemon's own words stand; this adds what
its annotations do not hold: scores, segments, vitals, evidence.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from edge_agent import events
from edge_agent.config import InferenceConfig
from edge_agent.errors import EdgeAgentError
from edge_agent.inference import manifest
from edge_agent.inference.loaded import LoadedModel
from edge_agent.inference.manifest import SignalInput
from edge_agent.journey import Block
from edge_agent.replay import BLOCK_S, Settings, open_for_replay, run_blocks, stream_name
from edge_agent.review import recorded
from edge_agent.review.findings import create
from edge_agent.review.labelling import judge_of
from edge_agent.sources.paced import RecordingReader

COMMIT_S = 0.5
VITALS_EVERY_S = 5.0
SAME_BEAT_S = 0.05
SAME_ALARM_S = 3.0


def lengths(models: dict[str, LoadedModel], fs: float) -> dict[str, int]:
    """Of the windows of each model, in samples of the stream."""
    found = {}
    for name, model in models.items():
        spans = [
            part.samples / part.rate_hz for part in model.artifact.manifest.inputs if isinstance(part, SignalInput)
        ]
        found[name] = round(max(spans, default=0.0) * fs)
    return found


class Writer:
    def __init__(self, base: sqlite3.Connection, fs: float, spans: dict[str, int], *, recorded: bool = False) -> None:
        """``recorded``: beats, alarms and marks are there already, as the daemon said them."""
        self._base, self._fs, self._spans, self._recorded = base, fs, spans, recorded
        self._last_vitals = -1e9

    def event(self, event: events.Event) -> None:
        match event:
            case events.Beat() | events.Rhythm() | events.Quality() | events.Gap() if self._recorded:
                return
            case events.Beat():
                self._base.execute(
                    "INSERT OR IGNORE INTO beats(sample, channel) VALUES(?, ?)", (event.sample, event.channel)
                )
            case events.Verdict(task=manifest.BEAT_TASK):
                self._beat(event)
            case events.Alarm() if self._recorded:
                near = round(SAME_ALARM_S * self._fs)
                self._base.execute(
                    "UPDATE alarms SET evidence=?, priority=? WHERE kind=? AND evidence IS NULL AND sample BETWEEN ? AND ?",
                    (json.dumps(event.evidence), event.priority, event.kind, event.sample - near, event.sample + near),
                )
            case events.Verdict():
                span = self._spans.get(event.model, 0)
                score = event.scores.get(event.label) if event.label is not None else None
                end = event.sample + 1
                self._base.execute(
                    "INSERT OR REPLACE INTO segments VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (event.sample, max(0, end - span), end, event.channel, event.task, event.label, score, event.reason, _model(event)),
                )  # fmt: skip
            case events.Alarm():
                self._alarm(event)
            case events.Vitals():
                if event.sample >= self._last_vitals + VITALS_EVERY_S * self._fs:
                    self._last_vitals = event.sample
                    row = (event.heart_rate_per_min, event.systolic_mmhg, event.diastolic_mmhg, event.mean_mmhg)
                    self._base.execute("INSERT OR REPLACE INTO vitals VALUES(?, ?, ?, ?, ?)", (event.sample, *row))
            case events.Rhythm():
                self._mark(event.since, event.channel, "rhythm", event.rhythm)
            case events.Quality():
                said = "good" if event.good else ", ".join(event.reasons) or "bad"
                self._mark(event.sample, event.channel, "quality", said)
            case events.Gap():
                self._mark(event.first, None, "gap", f"{event.lost} samples lost: {event.cause}")

    def _beat(self, event: events.Verdict) -> None:
        score = event.scores.get(event.label) if event.label is not None else None
        row = (event.label, score, json.dumps(event.scores), event.reason, _model(event))
        if not self._recorded:
            self._base.execute(
                "UPDATE beats SET label=?, score=?, scores=?, reason=?, model=? WHERE sample=? AND channel=?",
                (*row, event.sample, event.channel),
            )
            return
        near = round(SAME_BEAT_S * self._fs)
        self._base.execute(  # a score of the same word, or the Q that the annotations cannot tell from no word at all
            "UPDATE beats SET label=?1, score=?2, scores=?3, reason=?4, model=?5 WHERE sample BETWEEN ?6 AND ?7"
            " AND (label=?1 OR (label IS NULL AND ?1='Q'))",
            (*row, event.sample - near, event.sample + near),
        )

    def _mark(self, sample: int, channel: str | None, kind: str, text: str) -> None:
        self._base.execute("INSERT INTO marks VALUES(?, ?, ?, ?)", (sample, channel, kind, text))

    def _alarm(self, event: events.Alarm) -> None:
        evidence = json.dumps(event.evidence)
        if event.state == "cleared":
            self._base.execute("UPDATE alarms SET until=?, state='cleared' WHERE id=?", (event.sample, event.id))
        elif event.state == "updated":
            self._base.execute("UPDATE alarms SET evidence=? WHERE id=?", (evidence, event.id))
        else:
            until = event.sample if event.state == "suppressed" else None
            self._base.execute(
                "INSERT OR REPLACE INTO alarms VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                (event.id, event.kind, event.priority, event.state, event.sample, until, event.channel, evidence),
            )


def _model(event: events.Verdict) -> str:
    return f"{event.model} {event.version}"


def device_words(record: Path, database: Path, signature: str, channels: Sequence[str]) -> bool:
    """The daemon's annotations alone, without asking a model. Whether there are any. Raises SourceError, sqlite3.Error."""
    path = recorded.beside(record)
    if path is None:
        return False
    with closing(create(database, {"signature": signature, "state": "running"})) as base:
        base.execute("BEGIN")
        recorded.take(base, path, channels)
        base.execute("INSERT OR REPLACE INTO about VALUES('state', 'whole')")
        base.execute("COMMIT")
    return True


def analyse(
    record: Path, database: Path, signature: str, inference: InferenceConfig, channels: Sequence[str] = ()
) -> None:
    """``channels``: all of the recording's, in its order. Raises EdgeAgentError."""
    with closing(create(database, {"signature": signature, "state": "running"})) as base:
        edge = recorded.beside(record)
        if edge is not None:
            base.execute("BEGIN")
            recorded.take(base, edge, channels)
            base.execute("COMMIT")
        judge = judge_of(inference)
        recording, info = open_for_replay(record, Settings(), fs=None, all_leads=False)
        with closing(recording):
            writer = Writer(base, info.fs, lengths(dict(judge.models), info.fs), recorded=edge is not None)
            reader = RecordingReader(recording)
            size = max(1, round(BLOCK_S * info.fs))
            reached = 0

            def blocks() -> Iterator[Block]:
                nonlocal reached
                while (block := reader.read(size)) is not None:
                    yield block
                    reached = block.end

            base.execute("BEGIN")
            committed = time.monotonic()
            for event in run_blocks(info, blocks(), judge, Settings(), stream_name(record)):
                writer.event(event)
                if time.monotonic() > committed + COMMIT_S:
                    base.execute("INSERT OR REPLACE INTO about VALUES('reached', ?)", (str(reached),))
                    base.execute("COMMIT")
                    base.execute("BEGIN")
                    committed = time.monotonic()
            base.execute("INSERT OR REPLACE INTO about VALUES('reached', ?)", (str(reached),))
            base.execute("INSERT OR REPLACE INTO about VALUES('state', 'whole')")
            base.execute("COMMIT")


def main(arguments: list[str]) -> int:
    with suppress(OSError):
        os.nice(10)
    record, database, signature, inference, *channels = arguments
    try:
        analyse(Path(record), Path(database), signature, InferenceConfig.model_validate_json(inference), channels)
    except (EdgeAgentError, OSError, sqlite3.Error) as error:
        print("; ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
