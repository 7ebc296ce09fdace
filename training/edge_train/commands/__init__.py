"""edge-train's subcommands, a module each: ``add(commands)`` describes it, ``run(arguments)`` does it."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec

ORDER = ("data", "fit", "tune", "finetune", "evaluate", "results", "explain", "export", "check_tpu", "pack", "alarm")


def add_all(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name in ORDER:
        module = f"edge_train.commands.{name}"
        if find_spec(module) is not None:
            import_module(module).add(commands)
