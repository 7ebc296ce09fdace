"""What `examples/wide-beats.tflite` makes of MIT-BIH records that it never saw (docs/bring-your-own-model.md).

    python -m benchmarks.example_model [--data ../shared/data] [--records 119 208 106 200]

The file gets its manifest as the page says, and runs on each record's first lead as in the daemon. A verdict counts for the
annotated beat within 150 ms of it. JSON is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from edge_agent import events
from edge_agent.cli import main as edge_agent
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models
from edge_agent.replay import Settings, replay

ROOT = Path(__file__).resolve().parent.parent
NAME = "wide-beats"
NEAR_S = 0.15
KINDS = ("N", "V", "F")


def counted(path: Path, judge: Judge) -> dict[str, dict[str, int]]:
    """Of each kind of annotated beat: how often the model said narrow, wide, and nothing (a bad signal, for one)."""
    import wfdb

    reference, fs = wfdb.rdann(str(path), "atr"), wfdb.rdheader(str(path)).fs
    said: list[events.Verdict] = []

    def take(event: events.Event) -> None:
        if isinstance(event, events.Verdict):
            said.append(event)

    replay(path, judge, Settings(models=(NAME,)), on_event=take, show_progress=False)
    at = np.array([event.sample for event in said])
    found = {kind: {"narrow": 0, "wide": 0, "nothing": 0} for kind in KINDS}
    for sample, symbol in zip(reference.sample, reference.symbol, strict=True):
        if symbol in KINDS and at.size:
            nearest = int(np.abs(at - sample).argmin())
            if abs(at[nearest] - sample) <= NEAR_S * fs:
                found[symbol][said[nearest].label or "nothing"] += 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("EDGE_AGENT_SHARED", "../shared")) / "data"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--records", nargs="+", default=["119", "208", "106", "200"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = ["models", "new", str(ROOT / "examples" / f"{NAME}.tflite"), f"{folder}/{NAME}"]
        made += ["--labels", "narrow,wide", "--anchor", "beat", "--rate", "125", "--before", "37"]
        with contextlib.redirect_stdout(sys.stderr):
            if edge_agent(made):
                return 1
        judge = Judge(load_models(Path(folder), [NAME]))
        print(
            json.dumps({name: counted(arguments.data / "mitdb" / name, judge) for name in arguments.records}, indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
