"""``edge-agent tpu``: which Edge TPU is there, what keeps it from being used, and whether it is worth using for these models."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from edge_agent import config
from edge_agent.inference.settings import InferenceConfig
from edge_agent.inference.tpu import devices
from edge_agent.shown import plain


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Show the Edge TPU that is there, and time your models on it and on the CPU."
    parser = commands.add_parser(
        "tpu",
        help=summary,
        description=summary + " Exit status 1 where there is none that can be used.",
        epilog="example:\n  edge-agent tpu --measure\n  edge-agent tpu --config /etc/edge-agent/edge-agent.toml --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--config", type=Path, metavar="FILE", help="take [inference] from there")
    parser.add_argument(
        "--measure", action="store_true", help="load, prove and time; a running agent must not hold the TPU"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load(arguments.config).inference if arguments.config is not None else InferenceConfig()
    found = look(settings)
    if arguments.measure:
        found["models"] = measured(settings)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for line in lines(found):
            print(plain(line))
    return int(not found["usable"])


def look(settings: InferenceConfig) -> dict[str, Any]:
    """The library, what it sees, and what the kernel shows. Nothing is opened."""
    from edge_agent.inference.tpu.process import ask_devices  # with numpy: not for every command

    tpu = settings.tpu
    library = devices.find_library(tpu.delegate)
    kernel = devices.devices(tpu.sysfs)
    asked = ask_devices(str(library or ""), tpu.python)
    refused = [one for one in kernel or () if one.remedy]
    return {
        "library": None if library is None else str(library),
        "version": asked.get("version"),
        "library_sees": asked.get("devices"),
        "library_fault": asked.get("error"),
        "kernel_shows": None
        if kernel is None
        else [{"type": one.kind, "path": one.path, "remedy": one.remedy or None} for one in kernel],
        "temperature_c": devices.temperature_c(tpu.sysfs),
        "usable": library is not None
        and "error" not in asked
        and (len(refused) < len(kernel) if kernel is not None else bool(asked.get("devices"))),
    }


def measured(settings: InferenceConfig) -> dict[str, Any]:
    """By model: where it would run, why, and the times. Waits as long as loading may take."""
    from edge_agent.inference.installed.catalogue import Catalogue, open_first
    from edge_agent.inference.tpu.engines import Engines

    catalogue = Catalogue.of(settings)
    engines = Engines(settings, lambda: None)
    models = open_first(catalogue, catalogue.default_names(), engines.open)
    engines.keep(models)
    try:
        engines.start()
        ends = time.monotonic() + (settings.tpu.load_s + 5) * len(models)
        while engines.pending and time.monotonic() < ends:
            time.sleep(0.05)
        return {name: one.model_dump(mode="json") for name, one in engines.message("", "").models.items()}
    finally:
        engines.stop()


def lines(found: dict[str, Any]) -> list[str]:
    said = [f"library       {found['library'] or 'none: see docs/edge-tpu.md for where to get libedgetpu1-std'}"]
    if found["library"] is not None:
        said.append(f"  version     {found['version'] or found['library_fault']}")
        said.append(f"  sees        {_many(found['library_sees'] or [])}")
    shown = found["kernel_shows"]
    said.append(f"kernel shows  {'nothing of its devices (a container?)' if shown is None else _many(shown)}")
    said += [f"  but         {one['remedy']}" for one in shown or () if one["remedy"]]
    if found["temperature_c"] is not None:
        said.append(f"temperature   {found['temperature_c']:.1f} C")
    for name, model in found.get("models", {}).items():
        said.append(f"{name}: {model['backend']}: {model['why']}")
    return said


def _many(those: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['type']} {one['path']}" for one in those) or "no Edge TPU"
