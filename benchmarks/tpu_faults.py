"""The TPU lost again and again under a running daemon: what that costs the patient's messages.

    python -m benchmarks.tpu_faults [--faults 200] [--streams 6] [--out benchmarks/results/tpu-faults.json]

Simulated patients in real time, through ventricular tachycardias, the real daemon, a real mosquitto and a subscriber. The models run
on the tests' stand-in for the TPU (gcc builds it), which aborts, hangs, fails or lies at a call drawn at random; when the daemon has
said ``degraded`` and then ``tpu`` again, it is struck once more. Before that, the same patients on the CPU alone.

Counted: windows that got no verdict; what a verdict, a beat and an alarm took from the arrival of the newest sample that they needed
to the message; that of the windows that met the fault; and what the daemon held before and after (processes, descriptors, shared
memory). Delays of some ms are the machine's as much as the daemon's: the last columns are how late a plain thread, which only wants to
wake every 5 ms, was while each of those messages was on its way.
Exit status 1 if a bound is not kept.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import rig
from edge_agent.inference.loaded import shipped_models
from tests.spine import PATIENCE_S, Agent, Heard, Listener, listening, running_agent, running_broker, wait_for
from tests.tpu.stand import ABORT, FAIL, HANG, LIE, Plan, held, with_file

KINDS = {"abort": ABORT, "hang": HANG, "fail": FAIL, "lie": LIE}
MODELS = ("ecg-beat-aami", "ecg-af-rr")
ANSWER_MS = 10.0
"""As shipped: how long a window waits for the TPU."""
VERDICT_WITHIN_MS = ANSWER_MS + 10.0
LATER_BY_MS = 20.0
WARM_UP_S = 15.0
"""The detectors learn."""
SCRIPT = """
[[episodes]]
duration_s = 20
rate_per_min = 95
pvc_per_min = 10

[[episodes]]
rhythm = "vt"
rate_per_min = 170
duration_s = 12
"""


def config(port: int, streams: int, models: Path, engine: str, standin: Path, plan: Plan, script: Path) -> str:
    listed = ", ".join(f'"{name}"' for name in MODELS)
    text = f"""
health_s = 1
[device]
id = "{rig.DEVICE}"
[mqtt]
host = "127.0.0.1"
port = {port}
qos_beats = 1
[outbox]
enabled = false
[inference]
models_dir = "{models}"
engine = "{engine}"
[inference.tpu]
delegate = "{standin}"
options = {{ plan = "{plan.path}" }}
sysfs = "{plan.path.parent / "no-sysfs"}"
retry_s = 0.05
retry_most_s = 0.05
"""
    for number in range(streams):
        text += (
            f'[[stream]]\nname = "bed{number}"\nmodels = [{listed}]\n[stream.source]\ntype = "simulated"\nfs = 250\n'
            f'channels = ["II", "ABP"]\nscript = "{script}"\nseed = {number}\nforever = true\n'
        )
    return text


@dataclass
class Run:
    """What came of one run of the daemon."""

    delays_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By kind of message: from the arrival of the newest sample that was needed."""
    failing_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of the verdicts on windows that met a fault, by kind of fault."""
    failing: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """The same verdicts whole, in the order in which they came."""
    struck: Counter[str] = field(default_factory=Counter)
    unread_lies: int = 0
    """That came later than the window waits, and were thrown away."""
    degraded: int = 0
    recovered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    beats: int = 0
    unjudged: int = 0
    """Beats without a verdict on them."""
    holes: int = 0
    """Messages that their sequence numbers say are missing."""
    turned_away: int = 0
    """Windows dropped or lost to a fault, as the daemon counts them."""
    held_before: dict[str, int] = field(default_factory=dict)
    held_after: dict[str, int] = field(default_factory=dict)
    machine_late_ms: float = 0.0
    control_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """What a plain thread suffered while each of the messages was on its way, by the same names."""


class Jitter:
    """How late a thread wakes from 5 ms of sleep: what this machine does to any program."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self._woke: list[float] = []
        self._late_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            time.sleep(0.005)
            late_ms = (time.monotonic() - began) * 1000 - 5
            self._woke.append(time.time())
            self._late_ms.append(late_ms)
            self.worst_ms = max(self.worst_ms, late_ms)

    def beside(self, data: dict[str, Any]) -> float | None:
        """The most that it was late while this message was on its way, or woke first after that."""
        arrived = datetime.fromisoformat(data["arrived"]).timestamp()
        first = bisect.bisect_left(self._woke, arrived)
        last = bisect.bisect_left(self._woke, arrived + delay_ms(data) / 1000)
        return max(self._late_ms[first : last + 1], default=None)

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self.worst_ms


def build(folder: Path) -> Path:
    gcc = shutil.which("gcc")
    if gcc is None:
        raise SystemExit("gcc is needed for the stand-in")
    library = folder / "libstandin.so"
    source = rig.ROOT / "tests" / "tpu" / "standin.c"
    subprocess.run([gcc, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


def engine_said(listener: Listener) -> list[dict[str, Any]]:
    return listener.of("bridge", "engine")


def strike(
    listener: Listener, plan: Plan, run: Run, faults: int, seed: int, tell: Callable[[str], None]
) -> list[Heard]:
    """One after the other; the first verdict from the CPU after each is the failing window's."""
    rng = random.Random(seed)
    kinds = [*KINDS] * -(-faults // len(KINDS))
    rng.shuffle(kinds)
    failing = []
    for number, kind in enumerate(kinds[:faults]):
        before = engine_said(listener)[-1]
        first = hit(listener, plan, run, KINDS[kind], rng, int(before["degradations"]))

        def recovered(before: dict[str, Any] = before) -> bool:
            last = engine_said(listener)[-1]
            return bool(last["recoveries"] > before["recoveries"] and last["state"] == "tpu")

        wait_for(recovered, f"the recovery from {kind} ({number + 1})")
        run.struck[kind] += 1
        for one in listener.heard[first:]:
            if one.kind == "verdict" and (one.data["invoke_us"] or 0) and one.data["backend"].startswith("cpu/"):
                failing.append(one)
                run.failing_ms[kind].append(delay_ms(one.data))
                run.failing.append((kind, one.data))
                break
        tell(f"{number + 1} of {faults}: {kind}")
    return failing


def hit(listener: Listener, plan: Plan, run: Run, fault: int, rng: random.Random, degradations: int) -> int:
    """Until it has been noticed: a lie that comes after its limit is thrown away unread. Index of the first message after it."""

    def noticed() -> bool:
        return bool(engine_said(listener)[-1]["degradations"] > degradations)

    while True:
        fired, first = plan["fired"], len(listener.heard)
        plan.strike(fault, after=rng.randrange(12))
        wait_for(partial(plan.fired_since, fired), f"a call that meets fault {fault}")
        with contextlib.suppress(AssertionError):
            wait_for(noticed, f"fault {fault} to be noticed", 3.0 if fault == LIE else PATIENCE_S)
            return first
        if fault != LIE:
            raise AssertionError(f"fault {fault} was not noticed")
        run.unread_lies += 1


def delay_ms(data: dict[str, Any]) -> float:
    latency = data["latency"]
    return float((latency["queue_ms"] or 0) + (latency["compute_ms"] or 0))


def one_run(
    folder: Path, mosquitto: str, *, engine: str, faults: int, seconds: float, streams: int, seed: int, warm_up_s: float = WARM_UP_S,
    tell: Callable[[str], None],
) -> Run:  # fmt: skip
    folder.mkdir()
    models = folder / "models"
    models.mkdir()
    for name in MODELS:
        with_file(shipped_models() / name, models)
    script = folder / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    run = Run()
    with (
        Plan(folder / "plan") as plan,
        running_broker(mosquitto, folder) as broker,
        listening(broker.port) as listener,
        running_agent(folder, config(broker.port, streams, models, engine, build(folder), plan, script)) as agent,
    ):
        wait_for(
            lambda: engine_said(listener) and engine_said(listener)[-1]["state"] == engine,
            f"engine {engine}; {agent.log}",
        )
        time.sleep(warm_up_s)
        first = len(listener.heard)
        run.held_before = held(agent.process.pid)
        jitter = Jitter()
        if faults:
            strike(listener, plan, run, faults, seed, tell)
        else:
            time.sleep(seconds)
        run.machine_late_ms = jitter.stop()
        wait_for(lambda: held(agent.process.pid) == run.held_before, "what is held", 5.0) if not faults else time.sleep(
            1
        )
        run.held_after = held(agent.process.pid)
        last = len(listener.heard)
        time.sleep(1.0)
        finish(agent)
        count(run, listener, first, last, jitter)
    return run


def finish(agent: Agent) -> None:
    agent.process.terminate()
    agent.wait()


def count(run: Run, listener: Listener, first: int, last: int, jitter: Jitter) -> None:
    for kind, data in run.failing:
        run.control_ms[kind] += filter(None, [jitter.beside(data)])
    heard = listener.heard
    seqs: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    judged, beats = set(), []
    for number, one in enumerate(heard):
        if one.kind not in ("beat", "verdict", "alarm"):
            continue
        data = one.data
        seqs[(one.stream, one.kind, data["session"])].append(data["seq"])
        if one.kind == "verdict" and data["model"] == MODELS[0]:
            judged.add((one.stream, data["channel"], data["sample"]))
        if one.kind == "beat" and first <= number < last:
            beats.append((one.stream, data["channel"], data["sample"]))
        if first <= number < last:
            run.delays_ms[one.kind].append(delay_ms(data))
            run.control_ms[one.kind] += filter(None, [jitter.beside(data)])
    run.beats, run.unjudged = len(beats), sum(beat not in judged for beat in beats)
    run.holes = sum(max(each) - min(each) + 1 - len(set(each)) for each in seqs.values())
    engine = listener.of("bridge", "engine")
    states = [one["state"] for one in engine]
    run.degraded, run.recovered = engine[-1]["degradations"], engine[-1]["recoveries"]
    run.reasons = Counter(
        one["reason"].split(":")[0]
        for i, one in enumerate(engine)
        if one["state"] == "degraded" and states[i - 1] != "degraded"
    )
    health = listener.of("bridge", "health")[-1]["inference"]
    run.turned_away = health["dropped"] + health["faults"]


def late(run: Run, base: Run, kind: str) -> int:
    """Messages later than any without a TPU by more than what is allowed."""
    most = max(base.delays_ms[kind], default=0.0) + LATER_BY_MS
    return sum(one > most for one in run.delays_ms[kind])


def problems(run: Run, base: Run, faults: int) -> list[str]:
    failing = [one for each in run.failing_ms.values() for one in each]
    found = []
    if run.unjudged or run.holes or run.turned_away:
        found.append(
            f"{run.unjudged} beats without verdict, {run.holes} messages missing, {run.turned_away} turned away"
        )
    if run.degraded != faults or run.recovered != faults or sum(run.reasons.values()) != faults:
        found.append(f"{faults} faults, but {run.degraded} said degraded ({run.reasons}), {run.recovered} recovered")
    if run.held_after != run.held_before:
        found.append(f"held {run.held_before} before, {run.held_after} after")
    if len(failing) != faults:
        found.append(f"{len(failing)} failing windows were answered by the CPU")
    if max(failing, default=0.0) > VERDICT_WITHIN_MS:
        slow = sum(one > VERDICT_WITHIN_MS for one in failing)
        found.append(
            f"{slow} failing windows' verdicts took up to {max(failing):.1f} ms, {VERDICT_WITHIN_MS:g} are allowed"
        )
    for kind in ("beat", "alarm"):
        if late(run, base, kind):
            found.append(
                f"{late(run, base, kind)} {kind} messages more than {LATER_BY_MS:g} ms later than without a TPU"
            )
    return found


def row(name: str, values: Sequence[float], control: Sequence[float]) -> list[str]:
    return [name, str(len(values)), *figures(values), *figures(control)]


def figures(values: Sequence[float]) -> list[str]:
    return [f"{rig.percentile(list(values), part):.2f}" for part in (50, 99, 100)] if values else ["-"] * 3


def report(run: Run, base: Run) -> str:
    head = ["ms from the arrival of the newest sample", "messages", "p50", "p99", "max"]
    head += [f"a plain thread then: {part}" for part in ("p50", "p99", "max")]
    rows = []
    for kind in ("beat", "alarm", "verdict"):
        rows.append(row(f"{kind}, CPU alone", base.delays_ms[kind], base.control_ms[kind]))
        lost = f"{kind}, TPU lost {sum(run.struck.values())} times"
        rows.append(row(lost, run.delays_ms[kind], run.control_ms[kind]))
    rows += [
        row(f"verdict on the window that met: {kind}", run.failing_ms[kind], run.control_ms[kind]) for kind in KINDS
    ]
    lines = [
        rig.table(head, rows),
        "",
        f"struck: {dict(run.struck)}; unread lies: {run.unread_lies}",
        f"said: {run.degraded} degraded {dict(run.reasons)}, {run.recovered} recovered",
        f"{run.beats} beats, {run.unjudged} without verdict, {run.holes} messages missing, {run.turned_away} windows turned away",
        f"held before {run.held_before}, after {run.held_after}",
        f"a plain thread was up to {run.machine_late_ms:.1f} ms late (CPU alone: {base.machine_late_ms:.1f}); load {rig.load()}",
    ]
    return "\n".join(lines)


def both(folder: Path, mosquitto: str, args: argparse.Namespace, tell: Callable[[str], None]) -> tuple[Run, Run]:
    common: dict[str, Any] = {"streams": args.streams, "seed": args.seed, "tell": tell}
    base = one_run(folder / "cpu", mosquitto, engine="cpu", faults=0, seconds=args.seconds, **common)
    run = one_run(folder / "tpu", mosquitto, engine="tpu", faults=args.faults, seconds=0, **common)
    return run, base


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=120, help="of the run on the CPU alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args(arguments)
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
    if mosquitto is None:
        raise SystemExit("mosquitto is needed: apt install mosquitto")
    with tempfile.TemporaryDirectory(prefix="edge-agent-tpu-") as name:
        run, base = both(Path(name), mosquitto, args, lambda text: print(f"\r{text:<40}", end="", file=sys.stderr))
    print(file=sys.stderr)
    print(report(run, base))
    found = problems(run, base, args.faults)
    for problem in found:
        print(f"NOT KEPT: {problem}")
    if args.out is not None:
        kept = {
            "machine": {**rig.machine(), "load": rig.load()},
            "faults": args.faults,
            "streams": args.streams,
            "struck": run.struck,
            "unread_lies": run.unread_lies,
            "degraded": run.degraded,
            "recovered": run.recovered,
            "beats": run.beats,
            "unjudged": run.unjudged,
            "holes": run.holes,
            "turned_away": run.turned_away,
            "held_before": run.held_before,
            "held_after": run.held_after,
            "machine_late_ms": {"tpu": run.machine_late_ms, "cpu": base.machine_late_ms},
            "delays_ms": {
                **{
                    f"{kind} {which}": row("", one.delays_ms[kind], one.control_ms[kind])[1:]
                    for kind in ("beat", "alarm", "verdict")
                    for which, one in (("cpu", base), ("tpu", run))
                },
                **{f"failing {kind}": row("", run.failing_ms[kind], run.control_ms[kind])[1:] for kind in KINDS},
            },
            "not_kept": found,
        }
        args.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
