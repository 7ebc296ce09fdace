"""What the way to the TPU's process and back costs: a call through shared memory, less what the delegate itself took.

    python -m benchmarks.tpu_round_trip [--calls 5000] [--spaced-ms 5] [--out benchmarks/results/tpu-round-trip.json]

The delegate is the tests' stand-in (gcc builds it), which computes the shipped models with the runtime's own kernels; its time is
measured in its process, around the interpreter's call, and taken off. Quantising, the tensors' copies and the runtime's calls
beside it are in. Once back to back, and once with pauses, as windows come: a processor that has gone to sleep takes longer. Beside it
stand the least that any two processes need here: one in Python that does nothing but answer a byte, and two in C with pipes like ours,
which sleep for the answer, or look for it as we do. And what the call takes of the processor, here and in the TPU's process.
Exit status 1 if the bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import rig
from benchmarks.tpu_faults import build
from edge_agent.inference.artifact import load, open_engine
from edge_agent.inference.loaded import shipped_models
from edge_agent.inference.tpu.failover import RemoteEngine
from edge_agent.inference.tpu.process import AWAKE_NS, TpuProcess
from tests.tpu.stand import Plan

MODELS = ("ecg-beat-aami", "ecg-af-rr", "ecg-af-10s")
BEYOND_P50_US = 150.0
COLUMNS = ("own", "cpu", "used here", "used there")
FLOOR = Path(__file__).with_name("round_trip_floor.c")
ECHO = "import os\nwhile (b := os.read(0, 1)): os.write(1, b)"


def timed(call: Callable[[int], float], calls: int, pause_s: float) -> list[float]:
    """Microseconds that each call took, less what ``call`` says is not to be counted."""
    found = []
    for number in range(calls):
        if pause_s:
            time.sleep(pause_s)
        began = time.perf_counter_ns()
        own = call(number)
        found.append((time.perf_counter_ns() - began) / 1000 - own)
    return found


def echo(calls: int, pause_s: float) -> list[float]:
    command = [sys.executable, "-S", "-c", ECHO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        given, got = process.stdin, process.stdout
        assert given is not None
        assert got is not None

        def call(_: int) -> float:
            given.write(b"x")
            got.read(1)
            return 0.0

        timed(call, 50, 0.0)
        return timed(call, calls, pause_s)


def floor(program: Path, calls: int, pause_s: float, look_us: int) -> list[float]:
    """Two processes in C; ``look_us``: how long the one that asks looks for the answer before it sleeps."""
    command = [str(program), str(calls), str(round(pause_s * 1e6)), str(look_us)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return [float(line) for line in said.split()]


def built(folder: Path) -> Path:
    program = folder / "floor"
    subprocess.run([shutil.which("gcc") or "gcc", "-O2", "-o", str(program), str(FLOOR)], check=True)
    return program


def measure(name: str, standin: Path, plan: Plan, calls: int, pause_s: float) -> dict[str, list[float]]:
    artifact = load(shipped_models() / name)
    cases = list(zip(*artifact.golden_inputs, strict=True))
    cpu, process = open_engine(artifact), TpuProcess()
    try:
        remote = process.load(artifact.tflite, str(standin), {"plan": str(plan.path)}, 20.0)
        remote.limit_s = 5.0
        engine, own = RemoteEngine(artifact, remote, name), []

        def ask(number: int) -> float:
            engine.invoke(cases[number % len(cases)])
            own.append(process.own_ns / 1000)
            return own[-1]

        def alone(number: int) -> float:
            cpu.invoke(cases[number % len(cases)])
            return 0.0

        timed(ask, 50, 0.0)
        own.clear()
        here_s, there_s = time.thread_time(), rig.cpu_s(process.pid)
        beyond = timed(ask, calls, pause_s)
        here_us = (time.thread_time() - here_s) / calls * 1e6
        there_us = (rig.cpu_s(process.pid) - there_s) / calls * 1e6
        return {
            "beyond": beyond, "own": own, "cpu": timed(alone, calls, pause_s), "used here": [here_us], "used there": [there_us],
        }  # fmt: skip
    finally:
        process.reap()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--spaced-ms", type=float, default=5.0, help="pause between two calls in the second round")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args(arguments)
    rows, kept, worst = [], {}, 0.0
    with tempfile.TemporaryDirectory(prefix="edge-agent-tpu-") as folder, Plan(Path(folder) / "plan") as plan:
        standin, program = build(Path(folder)), built(Path(folder))
        for pause_s, how, calls in (
            (0.0, "back to back", args.calls),
            (args.spaced_ms / 1000, f"every {args.spaced_ms:g} ms", max(200, args.calls // 5)),
        ):
            parts = {"a process that answers a byte": {"beyond": echo(calls, pause_s)}}
            for look_us in (0, AWAKE_NS // 1000):
                how_floor = f"two processes in C, looking for {look_us} us" if look_us else "two processes in C, asleep"
                parts[how_floor] = {"beyond": floor(program, calls, pause_s, look_us)}
            parts |= {name: measure(name, standin, plan, calls, pause_s) for name in MODELS}
            for name, found in parts.items():
                figures = {
                    key: [rig.percentile(values, part) for part in (50, 99, 99.9)] for key, values in found.items()
                }
                kept[f"{name}, {how}"] = figures
                shown = [f"{figures['beyond'][i]:.0f}" for i in range(3)]
                shown += [f"{figures[key][0]:.0f}" if key in figures else "-" for key in COLUMNS]
                rows.append([name, how, *shown])
                worst = max(worst, figures["beyond"][0] if name in MODELS else 0.0)
    head = ["us", "calls", "beyond the delegate: p50", "p99", "p99.9", "delegate p50", "CPU engine p50"]
    print(rig.table([*head, "processor's time a call: here", "there"], rows))
    print(f"\n{rig.machine()}; load {rig.load()}")
    if args.out is not None:
        about = {"machine": {**rig.machine(), "load": rig.load()}, "us p50 p99 p99.9": kept}
        args.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    if worst > BEYOND_P50_US:
        print(f"NOT KEPT: {worst:.0f} us at p50, {BEYOND_P50_US:g} are allowed")
    return int(worst > BEYOND_P50_US)


if __name__ == "__main__":
    sys.exit(main())
