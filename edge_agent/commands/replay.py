"""``edge-agent replay``: recordings through the daemon's own pipeline, and a second opinion on a monitor's alarms."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge_agent.commands import described, not_an_input, positive
from edge_agent.errors import EdgeAgentError, OutputError, SourceError
from edge_agent.shown import lines, plain

if TYPE_CHECKING:
    from edge_agent.inference.judge import Judge
    from edge_agent.replay import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = described(
        commands,
        "replay",
        run,
        "Stream recordings through the daemon's own pipeline.",
        "edge-agent replay mitdb/100 mitdb/208 --annotations out --events out.jsonl",
    )
    parser.add_argument("records", nargs="*", type=Path, metavar="RECORD", help="WFDB record, .csv or .edf")
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="FILE",
        help="a monitor's alarms, a line each (record, kind, time): a second opinion on each; its answers are JSON lines, in --events"
        " or on the standard output",
    )
    parser.add_argument("--speed", type=_speed, default=None, metavar="max|X", help="default: max")
    parser.add_argument(
        "--events", type=Path, metavar="FILE.jsonl", help="write every message, one a line; - for the standard output"
    )
    parser.add_argument("--annotations", type=Path, metavar="DIR", help="write a WFDB annotation file per record")
    parser.add_argument("--models", metavar="NAME,...", help="default: every shipped model that fits; 'none' for none")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take limits, detector and models from its first stream, and every ECG channel, as its agent does",
    )
    parser.add_argument("--all-leads", action="store_true", help="every ECG channel, not just the first")
    parser.add_argument("--fs", type=positive, help="rate of a CSV without a time column")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _speed(text: str) -> float | None:
    return None if text == "max" else positive(text)


def run(arguments: argparse.Namespace) -> int:
    from edge_agent import config
    from edge_agent.inference.installed.catalogue import Catalogue, open_first
    from edge_agent.inference.judge import Judge
    from edge_agent.inference.loaded import default_names, load_models, shipped_models
    from edge_agent.outputs.annotations import file_of
    from edge_agent.replay import Settings, Summary, distinct, replay
    from edge_agent.sources.open import record_name

    if not arguments.records and arguments.verify is None:
        arguments.usage_error("RECORD or --verify FILE is wanted")
    catalogue, settings = None, Settings()
    if arguments.config is not None:
        loaded = config.load(arguments.config)
        settings = Settings.of(loaded.stream[0], loaded.device.id)
        catalogue = Catalogue.of(loaded.inference)  # what its agent would run
    names = list(settings.models) if settings.models is not None else None
    if arguments.models is not None:
        names = [] if arguments.models == "none" else [name.strip() for name in arguments.models.split(",")]
        settings = replace(settings, models=tuple(names))
    if catalogue is None:
        judge = Judge(load_models(shipped_models(), default_names(shipped_models()) if names is None else names))
    else:
        judge = Judge(open_first(catalogue, catalogue.default_names() if names is None else names))
    if arguments.verify is not None:
        return _verify(arguments, settings, judge)
    summaries: list[Summary] = []
    not_an_input(arguments.events, [*arguments.records, *_given(arguments.config)], "--events")
    if arguments.annotations is not None:
        for record in distinct(arguments.records):
            _not_what_was_said_then(file_of(record_name(record), arguments.annotations), record)
    with _open_events(arguments.events) as events_file:
        for record in distinct(arguments.records):
            summaries.append(
                replay(
                    record,
                    judge,
                    settings,
                    fs=arguments.fs,
                    all_leads=arguments.all_leads or arguments.config is not None,  # as its agent would
                    speed=arguments.speed,
                    events_file=events_file,
                    annotations=arguments.annotations,
                    show_progress=False if arguments.quiet else None,
                    partly=True,
                )
            )
        if events_file is not None:
            events_file.begin()
    if not arguments.quiet:
        with contextlib.redirect_stdout(sys.stderr) if str(arguments.events) == "-" else contextlib.nullcontext():
            print_summaries(summaries)
    broken = [one for one in summaries if one.broken is not None]
    for one in broken[:-1]:
        print(f"edge-agent: {lines(str(one.broken))}", file=sys.stderr, flush=True)
    if broken and broken[-1].broken is not None:
        sys.stdout.flush()
        raise broken[-1].broken
    return 0


def _verify(arguments: argparse.Namespace, settings: Settings, judge: Judge) -> int:
    from edge_agent.alarms.combiner import combiner_of
    from edge_agent.verify import Answered, Question, read_questions, verify

    if arguments.records:
        raise SourceError("--verify names its recordings itself", remedy="leave them out of the command line")
    questions = read_questions(arguments.verify)
    asked_about = {one.record for one in questions if isinstance(one, Question)}
    not_an_input(arguments.events, [arguments.verify, *asked_about, *_given(arguments.config)], "--events")
    combiner = combiner_of(model.artifact for model in judge.models.values())
    with _open_events(arguments.events) as file:
        unanswered = 0
        for answered in verify(questions, settings, combiner, fs=arguments.fs):
            if not isinstance(answered, Answered):
                unanswered += 1
                print(f"edge-agent: {lines(answered.what)}", file=sys.stderr, flush=True)
                continue
            line = json.dumps(answered.as_json())
            if file is not None:
                file.write(line + "\n")
            if file is None:
                print(line, flush=True)
        if file is not None and not unanswered:
            file.begin()
    return int(unanswered > 0)


def _given(path: Path | None) -> list[Path]:
    return [] if path is None else [path]


def _not_what_was_said_then(target: Path, record: Path) -> None:
    """Beside a recording, its annotations may be the recorder's: what the agent said then, alarms among it, and said nowhere else."""
    if target.exists() and target.parent.samefile(record.parent):
        raise OutputError(
            f"{target}: stands beside the recording, and may be what the agent said when it recorded that",
            remedy="name another folder for --annotations, or take the file away first",
        )


class _Events:
    """A file that is begun with the first message: a recording that cannot be opened must not cost what an earlier one gave."""

    def __init__(self, path: Path, open_files: contextlib.ExitStack) -> None:
        self._path, self._open_files = path, open_files
        self._file: TextIO | None = None

    def begin(self) -> TextIO:
        """It is there from here on, empty where nothing was to be said."""
        if self._file is None:
            place = _at_once(self._path) if self._path.is_fifo() else self._path
            file = open(place, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # may be a descriptor; closed with the others
            self._file = self._open_files.enter_context(file)
        return self._file

    def write(self, text: str) -> None:
        (self._file or self.begin()).write(text)


class _Stdout:
    def begin(self) -> None:
        pass

    def write(self, text: str) -> None:
        sys.stdout.write(text)


@contextlib.contextmanager
def _open_events(path: Path | None) -> Iterator[_Events | _Stdout | None]:
    if path is None:
        yield None
        return
    if str(path) == "-":
        yield _Stdout()
        sys.stdout.flush()
        return
    try:
        with contextlib.ExitStack() as open_files:
            yield _Events(path, open_files)
    except OSError as error:
        if isinstance(error, EdgeAgentError):
            raise
        if error.errno == errno.ENXIO:
            raise OutputError(
                f"{path}: is a pipe that nobody reads", remedy=f"start its reader first: cat {path} &"
            ) from None
        raise OutputError(f"{path}: {error.strerror or error}") from None


def _at_once(fifo: Path) -> int:
    """To open a pipe waits for its reader, and nobody would know why: ENXIO where there is none."""
    descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def print_summaries(summaries: Sequence[object]) -> None:
    """A line per recording."""
    from edge_agent.progress import clock
    from edge_agent.replay import Summary

    print(f"{'record':<16} {'length':>8} {'speed':>7} {'beats':>7}  alarms; each model's classes")
    for one in summaries:
        assert isinstance(one, Summary)
        by_model = "".join(
            f"; {plain(model)} " + " ".join(f"{plain(label)}:{count}" for label, count in sorted(labels.items()))
            for model, labels in sorted(one.labels.items())
        )
        alarms = " ".join(f"{kind}:{count}" for kind, count in sorted(one.alarms.items())) or "none"
        speed = f"{one.seconds / one.wall_s:.0f}x" if one.wall_s > 0 else "-"
        print(f"{plain(one.name):<16} {clock(one.seconds):>8} {speed:>7} {one.beats:>7}  {alarms}{by_model}")
