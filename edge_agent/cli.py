"""``edge-agent``: the command line. Exit status 0, 1 for what went wrong, 2 for usage."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge_agent import __version__, doctor, heap, install_service, journal, models_cli, ports, simulate, sniff, watch
from edge_agent.errors import EdgeAgentError, OutputError, SourceError
from edge_agent.inference.tpu import command as tpu_cli
from edge_agent.review import command as review
from edge_agent.shown import lines, plain

if TYPE_CHECKING:
    from edge_agent.inference.judge import Judge
    from edge_agent.replay import Settings


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Heartbeats, classes and alarms from ECG and arterial pressure, over MQTT.",
        epilog="example:\n  edge-agent demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on the standard error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    run = _command(commands, "run", _run, "Run the daemon.", "edge-agent run /etc/edge-agent/edge-agent.toml")
    run.add_argument("config", type=Path, metavar="CONFIG")

    check = _command(
        commands, "check", _check, "Say all that is wrong with a configuration.", "edge-agent check my.toml"
    )
    check.add_argument("config", type=Path, metavar="CONFIG")

    _command(commands, "example", _example, "Print a configuration to start from.", "edge-agent example > my.toml")

    demo = _command(
        commands,
        "demo",
        _demo,
        "Show the whole journey: broker, simulated patient, daemon, subscriber.",
        "edge-agent demo --seed 7",
    )
    demo.add_argument("--seed", type=_natural, default=1, help="of the simulated patient (default: %(default)s)")
    demo.add_argument("--speed", type=_positive, default=6.0, help="patient seconds per second (default: %(default)g)")
    demo.add_argument("--forever", action="store_true", help="start the script again at its end, until Ctrl-C")

    replay = _command(
        commands,
        "replay",
        _replay,
        "Stream recordings through the daemon's own pipeline.",
        "edge-agent replay mitdb/100 mitdb/208 --annotations out --events out.jsonl",
    )
    replay.add_argument("records", nargs="*", type=Path, metavar="RECORD", help="WFDB record, .csv or .edf")
    replay.set_defaults(usage_error=replay.error)
    replay.add_argument(
        "--verify",
        type=Path,
        metavar="FILE",
        help="a monitor's alarms, a line each (record, kind, time): a second opinion on each; its answers are JSON lines, in --events"
        " or on the standard output",
    )
    replay.add_argument("--speed", type=_speed, default=None, metavar="max|X", help="default: max")
    replay.add_argument(
        "--events", type=Path, metavar="FILE.jsonl", help="write every message, one a line; - for the standard output"
    )
    replay.add_argument("--annotations", type=Path, metavar="DIR", help="write a WFDB annotation file per record")
    replay.add_argument("--models", metavar="NAME,...", help="default: every shipped model that fits; 'none' for none")
    replay.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take limits, detector and models from its first stream, and every ECG channel, as its agent does",
    )
    replay.add_argument("--all-leads", action="store_true", help="every ECG channel, not just the first")
    replay.add_argument("--fs", type=_positive, help="rate of a CSV without a time column")
    replay.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    for module in (watch, simulate, ports, sniff, models_cli, tpu_cli, doctor, install_service, review):
        module.add(commands)
    return parser


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _speed(text: str) -> float | None:
    return None if text == "max" else _positive(text)


def _run(arguments: argparse.Namespace) -> int:
    heap.settle()
    from edge_agent import config
    from edge_agent.daemon import Daemon

    status = Daemon(config.load(arguments.config), arguments.config).run()
    # Python gives handlers back as it takes itself down: one more signal then would make of an end in order a death by a signal.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return status


def _check(arguments: argparse.Namespace) -> int:
    from edge_agent.check import check

    good = check(arguments.config)
    for text in good.warnings:
        print(f"edge-agent: warning: {plain(text)}", file=sys.stderr)
    print(lines(f"{arguments.config}: good: {good.streams} streams, models {', '.join(good.models) or 'none'}"))
    return 0


def _example(_arguments: argparse.Namespace) -> int:
    from edge_agent.example import example_config

    print(example_config(), end="")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from edge_agent.demo import demo

    return demo(seed=arguments.seed, speed=arguments.speed, forever=arguments.forever)


def _replay(arguments: argparse.Namespace) -> int:
    from edge_agent import config
    from edge_agent.inference.installed.catalogue import Catalogue, open_first
    from edge_agent.inference.judge import Judge, default_names, load_models, shipped_models
    from edge_agent.replay import Settings, Summary, distinct, replay

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
    _not_an_input(arguments.events, arguments.records)
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
                )
            )
        if events_file is not None:
            events_file.begin()
    if not arguments.quiet:
        with contextlib.redirect_stdout(sys.stderr) if str(arguments.events) == "-" else contextlib.nullcontext():
            print_summaries(summaries)
    return 0


def _verify(arguments: argparse.Namespace, settings: Settings, judge: Judge) -> int:
    from edge_agent.alarms.combiner import combiner_of
    from edge_agent.verify import Answered, Question, read_questions, verify

    if arguments.records:
        raise SourceError("--verify names its recordings itself", remedy="leave them out of the command line")
    questions = read_questions(arguments.verify)
    _not_an_input(arguments.events, [arguments.verify, *{one.record for one in questions if isinstance(one, Question)}])
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


def _not_an_input(output: Path | None, records: Sequence[Path]) -> None:
    """Writing over a recording while it is read would empty it."""
    if output is None or str(output) == "-" or not output.exists():
        return
    inputs = [record.with_name(record.name + ending) for record in records for ending in ("", ".hea", ".dat")]
    if any(one.exists() and one.samefile(output) for one in inputs):
        raise OutputError(f"{output}: is one of the recordings", remedy="name another file for --events")


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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    journal.set_up(verbose=arguments.verbose)
    try:
        status: int = arguments.run(arguments)
    except EdgeAgentError as error:
        print(f"edge-agent: {lines(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        sys.stderr.close()
        return 1
    except OSError as error:  # what no module foresaw: a folder that may not be entered, a name too long
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        print(f"edge-agent: {lines(what)}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
