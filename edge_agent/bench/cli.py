"""``edge-bench``: times the models on this device and writes a report for each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.bench.environment import environment
from edge_agent.bench.single import Method, measure
from edge_agent.errors import EdgeAgentError, OutputError
from edge_agent.inference.judge import load_models, shipped_models

SCHEMA = "edge-agent/bench/1"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-bench",
        description="Latency of the models on this device: back to back, after a warm-up, with percentiles.",
        epilog="example:\n  edge-bench --device-name pi4-usb --out reports",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-bench {__version__}")
    parser.add_argument("--models-dir", type=Path, default=None, help="default: the shipped models")
    parser.add_argument("--models", metavar="NAME,...", help="default: all of the folder")
    parser.add_argument("--device-name", metavar="NAME", help="default: the host's name")
    parser.add_argument(
        "--out", type=Path, default=Path("reports"), help="folder of the reports (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=Method().run_s, help="least run time (default: %(default)g)")
    parser.add_argument("--calls", type=int, default=Method().run_calls, help="least calls (default: %(default)d)")
    return parser


def _reports(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    names = None if arguments.models is None else [name.strip() for name in arguments.models.split(",")]
    models = load_models(arguments.models_dir or shipped_models(), names)
    method = Method(run_s=arguments.seconds, run_calls=arguments.calls)
    around = environment(arguments.device_name)
    return [
        {
            "schema": SCHEMA,
            "model": name,
            "version": model.artifact.manifest.version,
            "digest": model.artifact.digest,
            "environment": around,
            "results": [measure(model, method)],
        }
        for name, model in models.items()
    ]


def write_report(report: dict[str, Any], folder: Path) -> Path:
    name = f"summary-{report['environment']['device']}-{report['model']}-{date.today():%Y-%m-%d}.json"
    path = folder / name.replace("/", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return path


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if not 0 < arguments.seconds <= 3600 or not 1 <= arguments.calls <= 10_000_000:
        parser.error("--seconds must be within 0..3600 and --calls within 1..10000000")
    try:
        reports = _reports(arguments)
        print(f"{'model':<24} {'backend':<18} {'calls':>8} {'p50 us':>8} {'p99 us':>8} {'max us':>9}  verdict")
        for report in reports:
            for result in report["results"]:
                verdict = "VALID" if result["valid"] else "INVALID: " + ", ".join(result["reasons"])
                percentiles = result["percentiles_us"]
                print(
                    f"{report['model']:<24} {result['backend']:<18} {result['count']:>8} {percentiles['p50']:>8.1f} "
                    f"{percentiles['p99']:>8.1f} {result['max_us']:>9.1f}  {verdict}"
                )
            print(f"  {write_report(report, arguments.out)}")
    except EdgeAgentError as error:
        print(f"edge-bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
