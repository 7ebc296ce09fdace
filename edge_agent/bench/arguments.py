"""The arguments of ``edge-bench``, and what they mean."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from edge_agent import __version__
from edge_agent.bench.compare import METRICS, Limit
from edge_agent.bench.method import Method
from edge_agent.bench.report import SCENARIOS, Scenario
from edge_agent.bench.run import PACED_S, Plan
from edge_agent.bench.scenarios import pipeline, streams
from edge_agent.config import InferenceConfig, load

SERVICE_CONFIG = Path("/etc/edge-agent/edge-agent.toml")
EXAMPLES = """examples:
  edge-bench --device-name pi4-usb                          every shipped model, back to back
  edge-bench --device-name pi4-usb --scenario all --html    everything but the soak, with a page of plots
  edge-bench --device-name pi4-usb --int8-only --data DIR   every int8 model of a folder over its data sets
  edge-bench compare old.json new.json --fail-if p99:+20%
  edge-bench page reports/*.json --out page.html
  edge-bench publish reports/*.json --config edge-agent.toml
  edge-bench collect --config edge-agent.toml --html fleet.html

exit status: 0; 1 something went wrong; 2 usage; 3 a limit was passed; 130 Ctrl-C (what was measured is written)"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-bench",
        description="How long models, streams and the whole agent take on this device, said so that it can be believed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="measure and write reports; the command may be left out"))
    compare = commands.add_parser("compare", help="reports side by side: ratios, and whether they mean anything")
    compare.add_argument(
        "reports",
        nargs="+",
        type=Path,
        metavar="REPORT.json",
        help="or a folder of them; the first is what others are held against",
    )
    compare.add_argument(
        "--fail-if", action="append", type=_limit, default=[], metavar="METRIC:+N%",
        help=f"exit with status 3 if a figure is that much above the first report's; METRIC is one of {', '.join(METRICS)}",
    )  # fmt: skip
    compare.add_argument("--html", type=_html, metavar="FILE", help="a page with the plots of all of them")
    page = commands.add_parser("page", help="a page of plots from reports")
    page.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")
    page.add_argument(
        "--out",
        type=_page,
        default=Path("bench.html"),
        metavar="FILE",
        help="FILE.html, or FILE.png (needs matplotlib)",
    )
    publish = commands.add_parser("publish", help="send the reports' summaries to the broker, retained")
    publish.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")
    collect = commands.add_parser("collect", help="gather a fleet's summaries from the broker: one table, one plot")
    collect.add_argument("--html", type=_html, metavar="FILE", help="a page with the table and the plots")
    collect.add_argument("--png", type=_png, metavar="FILE", help="the plots (needs matplotlib)")
    for command in (publish, collect):
        command.add_argument(
            "--config",
            type=Path,
            default=SERVICE_CONFIG,
            metavar="FILE",
            help="the agent's; its [mqtt] is used (default: %(default)s)",
        )
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    method, many, whole = Method(), streams.Plan(), pipeline.Plan()
    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--scenario", "--scenarios", type=_scenarios, metavar="NAME,...", default=None,
        help=f"{', '.join(SCENARIOS)}; 'all' is all but soak (default: single; with --data or --int8-only accuracy too)",
    )  # fmt: skip
    what.add_argument("--models-dir", "--modelsDir", type=Path, metavar="DIR", help="default: the shipped models")
    what.add_argument("--models", type=_names, metavar="NAME,...", help="default: all of the folder")
    what.add_argument("--int8-only", action="store_true", help="leave float models out")
    what.add_argument(
        "--quantizedOnly", type=_boolean, default=False, metavar="True|False", help="the older spelling of --int8-only"
    )
    what.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data sets for accuracy: NAME/test.npz or TASK/test.npz, as edge-train writes them",
    )
    what.add_argument("--most-windows", type=_count, metavar="N", help="of a data set, evenly picked (default: all)")
    where = parser.add_argument_group("reports")
    where.add_argument(
        "--device-name",
        "--computerType",
        type=_device,
        metavar="NAME",
        help="in the report and its name (default: the host's name)",
    )
    where.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="default: %(default)s")
    where.add_argument("--html", action="store_true", help="a page of plots beside each report")
    where.add_argument("--png", action="store_true", help="the plots as a picture (needs matplotlib)")
    where.add_argument("--markdown", action="store_true", help="the tables beside each report")
    where.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the agent's configuration: its [inference], and its digest in the report",
    )
    where.add_argument("--quiet", action="store_true", help="no progress bar")
    where.add_argument("--strict", action="store_true", help="exit with status 3 if not all of it is VALID")
    where.add_argument(
        "--self-check", action="store_true", help="exit with status 3 if measuring adds too much to the runtime's call"
    )
    how = parser.add_argument_group("how (the run goes on until both the least time and the least count are reached)")
    how.add_argument("--seconds", type=_seconds, default=method.run_s, help="least run time (default: %(default)g)")
    how.add_argument("--calls", type=_count, default=method.run_calls, help="least calls (default: %(default)d)")
    how.add_argument("--warmup-seconds", type=_seconds, default=method.warmup_s, help="default: %(default)g")
    how.add_argument("--warmup-calls", type=_count, default=method.warmup_calls, help="default: %(default)d")
    how.add_argument(
        "--deadline-ms", type=_seconds, default=method.deadline_ms, help="longer is a miss (default: %(default)g)"
    )
    how.add_argument("--paced-seconds", type=_seconds, default=PACED_S, help="of paced (default: %(default)g)")
    how.add_argument("--soak-hours", type=_seconds, default=1.0, help="of soak, each model (default: %(default)g)")
    group = parser.add_argument_group("streams")
    group.add_argument("--streams", type=_counts, default=many.counts, metavar="N,...", help="how many, rising")
    group.add_argument("--streams-fs", type=_seconds, default=many.fs, metavar="HZ", help="default: %(default)g")
    group.add_argument("--block-ms", type=_seconds, default=many.block_s * 1000, help="default: %(default)g")
    group.add_argument(
        "--step-seconds", type=_seconds, default=many.step_s, help="at each number (default: %(default)g)"
    )
    group.add_argument("--limit-ms", type=_seconds, default=many.limit_ms, help="of the p99 (default: %(default)g)")
    group.add_argument(
        "--warm-seconds", type=_seconds, default=many.warm_s, help="of signal before it counts (default: %(default)g)"
    )
    group.add_argument("--core", type=_natural, metavar="N", help="to be pinned to (default: the last one allowed)")
    group = parser.add_argument_group("pipeline")
    group.add_argument(
        "--pipeline-streams", type=_count, default=whole.streams, metavar="N", help="default: %(default)d"
    )
    group.add_argument("--pipeline-seconds", type=_seconds, default=whole.seconds, help="default: %(default)g")
    group.add_argument(
        "--qos", type=int, choices=(0, 1), default=whole.qos, help="of beats and verdicts (default: as shipped)"
    )


def plan(arguments: argparse.Namespace) -> Plan:
    scenarios = arguments.scenario
    int8_only = arguments.int8_only or arguments.quantizedOnly
    if scenarios is None:
        scenarios = ("single", "accuracy") if int8_only or arguments.data is not None else ("single",)
    return Plan(
        device=arguments.device_name,
        models_dir=arguments.models_dir,
        models=arguments.models,
        scenarios=scenarios,
        int8_only=int8_only,
        data=arguments.data,
        most_windows=arguments.most_windows,
        method=Method(
            warmup_s=arguments.warmup_seconds,
            warmup_calls=arguments.warmup_calls,
            run_s=arguments.seconds,
            run_calls=arguments.calls,
            deadline_ms=arguments.deadline_ms,
            core=arguments.core,
        ),
        paced_s=arguments.paced_seconds,
        soak_s=arguments.soak_hours * 3600,
        streams=streams.Plan(
            fs=arguments.streams_fs,
            block_s=arguments.block_ms / 1000,
            counts=arguments.streams,
            step_s=arguments.step_seconds,
            warm_s=arguments.warm_seconds,
            limit_ms=arguments.limit_ms,
        ),
        pipeline=replace(
            pipeline.Plan(),
            streams=arguments.pipeline_streams,
            seconds=arguments.pipeline_seconds,
            qos=arguments.qos,
            limit_ms=arguments.limit_ms,
        ),
        configuration=arguments.config,
        inference=InferenceConfig() if arguments.config is None else load(arguments.config, streams=False).inference,
        out=arguments.out,
    )


def _scenarios(text: str) -> tuple[Scenario, ...]:
    if text == "all":
        return tuple(name for name in SCENARIOS if name != "soak")
    wanted = _names(text)
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(SCENARIOS)}, all")
    return tuple(name for name in SCENARIOS if name in wanted)


def _page(text: str) -> Path:
    return _ending(text, (".html", ".htm", ".png"))


def _html(text: str) -> Path:
    return _ending(text, (".html", ".htm"))


def _png(text: str) -> Path:
    return _ending(text, (".png",))


def _ending(text: str, endings: tuple[str, ...]) -> Path:
    path = Path(text)
    if path.suffix.lower() not in endings:
        raise argparse.ArgumentTypeError(f"{text!r}: a name that ends in {' or '.join(endings)} is wanted")
    return path


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("a name is wanted")
    return names


def _device(text: str) -> str:
    if not text or len(text) > 100 or not text.isprintable() or any(char in text for char in "+#/"):
        raise argparse.ArgumentTypeError(f"{text!r} is no device's name: up to 100 printable characters without + # /")
    return text


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def _limit(text: str) -> Limit:
    try:
        return Limit.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value <= 1e6:  # no comparison holds for what is no number
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1000000")
    return value


def _count(text: str) -> int:
    value = _natural(text)
    if not 1 <= value <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not within 1..10000000")
    return value


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    found = tuple(sorted({_count(part.strip()) for part in text.split(",")}))
    if found[-1] > 10_000:
        raise argparse.ArgumentTypeError(f"{found[-1]} streams: at most 10000")
    return found
