"""edge-train's subcommands, a module each: ``add(commands)`` describes it, ``run(arguments)`` does it."""

from __future__ import annotations

import argparse
from importlib import import_module

ORDER = ("data", "fit", "tune", "finetune", "evaluate", "explain", "export", "check_tpu", "pack", "alarm")


def add_all(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name in ORDER:
        import_module(f"edge_train.commands.{name}").add(commands)
