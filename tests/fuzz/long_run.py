"""``make fuzz``: millions of inputs for every parser, in processes of their own, so that a dead one is a find and not the end.

    python -m tests.fuzz.long_run --inputs 10000000 --jobs 4 --out reports/fuzz.json
    python -m tests.fuzz.long_run --parser tflite --seconds 600
    python -m tests.fuzz.long_run --parser tflite --atheris        (where atheris is installed: guided by coverage)

It goes in rounds, a parser and a seed each, and the report is written after every one: the same command goes on where it was ended.
Finds are written as files beside the report, with the error; ``--replay FILE --parser NAME`` tries one again. Exit status 1 with finds.

A parser of one file or message is called once for each input. A decoder of a line is given sixteen inputs a call, and a thousand in the
life of a connection, so that each meets what the ones before it left; a find is then all that the connection had.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import hashlib
import json
import logging
import multiprocessing
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

from tests.fuzz import in_memory
from tests.fuzz.mutate import mutated
from tests.fuzz.parsers import MEMORY, Line, Parser, parsers, refused

MEMORY_BYTES = 4 << 30
LONGEST_S = 20.0
"""Of a processor, for a thousand inputs: they need half a second at most. Not by the clock: a process that was stopped, or that a busy
machine gave nothing, is no find."""
MOST_FINDS = 20
A_CALL, A_LIFE = 16, 1024
"""Inputs of a decoder of a line."""
ROUND_S = 60.0


class TooSlowError(Exception):
    """Some input took longer than a stream may wait."""


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {LONGEST_S:.0f} s of a processor for a thousand inputs")


def _keep(folder: Path, name: str, data: bytes, error: BaseException) -> None:
    base = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    base.with_suffix(".bin").write_bytes(data)
    base.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")


@dataclass
class Tried:
    """A round's inputs, made and given to the parser."""

    parser: Parser
    chance: random.Random
    folder: Path
    inputs: int = 0
    refusals: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def one_by_one(self, n: int) -> None:
        parser, chance, seeds = self.parser, self.chance, self.parser.seeds
        for _ in range(n):
            data = mutated(seeds, chance)
            try:
                self.refusals += refused(parser, data)
            except Exception as error:  # noqa: BLE001  # that is what is looked for
                self._found(data, error)
        self.inputs += n

    def down_a_line(self, line: Line, n: int) -> None:
        """One connection, from its first byte to its end."""
        chance, seeds = self.chance, self.parser.seeds
        had: list[bytes] = []
        try:
            for _ in range(n // A_CALL):
                data = b"".join(mutated(seeds, chance) for _ in range(A_CALL))
                had.append(data)
                self.inputs += A_CALL
                line.decode(data)
            line.end()
        except Exception as error:  # noqa: BLE001
            self._found(b"".join(had), error)

    def _found(self, data: bytes, error: Exception) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] == 1 and len(self.kinds) <= MOST_FINDS:
            _keep(self.folder, self.parser.name, data, error)


def work(name: str, inputs: int, seconds: float, seed: str, folder: Path) -> dict[str, Any]:
    """One parser, until so many inputs or so many seconds."""
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings(
        "error", category=RuntimeWarning, module=r"edge_agent\."
    )  # of numpy: infinities and the like
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGPROF, _too_slow)
    with in_memory.instead_of_a_disk() as files:
        MEMORY.append(files)
        return _rounds(parsers()[name], inputs, seconds, seed, folder)


def _rounds(parser: Parser, inputs: int, seconds: float, seed: str, folder: Path) -> dict[str, Any]:
    name = parser.name
    tried = Tried(parser, random.Random(f"{name} {seed}"), folder)
    last = folder / f"{name}.last"  # of a process that dies, this is the input
    gc.collect()
    gc.freeze()
    began, began_cpu = time.monotonic(), time.process_time()
    while tried.inputs < inputs and time.monotonic() - began < seconds:
        last.write_text(json.dumps({"seed": f"{name} {seed}", "done": tried.inputs}), encoding="ascii")
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S, LONGEST_S)  # one system call for each thousand
        n = min(A_LIFE, inputs - tried.inputs)
        if parser.live is not None and n >= A_CALL:
            tried.down_a_line(parser.live(), n)
        else:
            tried.one_by_one(n)
    signal.setitimer(signal.ITIMER_PROF, 0)
    last.unlink(missing_ok=True)
    taken = {"seconds": time.monotonic() - began, "cpu_s": time.process_time() - began_cpu}
    return {"inputs": tried.inputs, "refused": tried.refusals, **taken, "finds": tried.kinds}


def _job(name: str, inputs: int, seconds: float, seed: str, folder: Path) -> None:
    result = work(name, inputs, seconds, seed, folder)
    (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


def _result(name: str, status: int, folder: Path) -> dict[str, Any]:
    """What the process left; a dead one is a find, and its last thousand inputs can be made again."""
    path = folder / f"{name}.json"
    if status == 0:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        return found
    died = f"the process ended with {status}; {folder / name}.last says where"
    return {"inputs": 0, "refused": 0, "seconds": 0.0, "cpu_s": 0.0, "finds": {died: 1}}


def _added(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    after = {"rounds": before.get("rounds", 0) + 1}
    for key in ("inputs", "refused", "seconds", "cpu_s"):
        after[key] = round(before.get(key, 0) + found[key], 1)
    kinds = dict(before.get("finds", {}))
    for kind, n in found["finds"].items():
        kinds[kind] = kinds.get(kind, 0) + n
    return after | {"finds": kinds}


def _open(progress: dict[str, Any], names: list[str], wanted: argparse.Namespace) -> list[str]:
    """What is not at its end yet. Whoever goes fast is first, so that as many parsers as can be are through at any time."""

    def left_s(name: str) -> float:
        had = progress.get(name)
        return (
            0.0 if had is None or not had["inputs"] else (wanted.inputs - had["inputs"]) * had["cpu_s"] / had["inputs"]
        )

    def ended(had: dict[str, Any]) -> bool:
        return (
            had["inputs"] >= wanted.inputs
            or had["seconds"] >= wanted.seconds
            or any("ended" in kind for kind in had["finds"])
        )

    return sorted((name for name in names if not ended(progress.get(name, NOTHING))), key=left_s)


NOTHING: dict[str, Any] = {"inputs": 0, "seconds": 0.0, "finds": {}}


def _said(name: str, had: dict[str, Any]) -> str:
    said = f"{had['inputs']:>10} inputs, {had['cpu_s']:>8} s of a core, {had['refused']} refused"
    return f"{name:<28} {said}: {had['finds'] or 'nothing found'}"


def _of_the_agent() -> list[FunctionType]:
    """Its own functions: instrumenting all that Python has loaded takes minutes."""
    found: list[FunctionType] = []
    for name, module in list(sys.modules.items()):
        if not name.startswith("edge_agent"):
            continue
        for value in list(vars(module).values()):
            for one in list(vars(value).values()) if isinstance(value, type) else [value]:
                function = getattr(one, "__func__", one)  # of a class's or static method
                if isinstance(function, FunctionType) and function.__module__ == name:
                    found.append(function)
    return found


def _guided(name: str, seconds: float, folder: Path) -> int:
    """By coverage, with libFuzzer: only where atheris is installed."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    parser: Parser = parsers()[name]
    corpus = folder / f"{name}.corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(parser.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    for function in _of_the_agent():
        atheris.instrument_func(function)
    atheris.Setup(
        ["fuzz", str(corpus), f"-max_total_time={seconds:.0f}", f"-artifact_prefix={folder}/{name}-"],
        lambda data: refused(parser, bytes(data)),
    )
    with in_memory.instead_of_a_disk() as files:
        MEMORY.append(files)
        atheris.Fuzz()  # ends the process
    return 0


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    arguments.add_argument("--parser", action="append", choices=sorted(parsers()), help="default: all of them")
    arguments.add_argument("--inputs", type=int, default=10_000_000, help="for each parser (default: %(default)d)")
    arguments.add_argument("--seconds", type=float, default=1e9, help="at most, for each parser")
    arguments.add_argument("--jobs", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=Path, default=Path("reports/fuzz.json"))
    arguments.add_argument("--atheris", action="store_true", help="guided by coverage")
    arguments.add_argument("--replay", type=Path, help="one input again")
    wanted = arguments.parse_args()
    names = wanted.parser or sorted(parsers())
    if wanted.replay is not None:
        print("refused" if refused(parsers()[names[0]], wanted.replay.read_bytes()) else "taken")
        return 0
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    if wanted.atheris:
        return _guided(names[0], wanted.seconds, wanted.out.parent)
    progress: dict[str, Any] = json.loads(wanted.out.read_text(encoding="utf-8")) if wanted.out.exists() else {}
    running: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    while True:
        waiting = [name for name in _open(progress, names, wanted) if name not in running]
        if not waiting and not running:
            break
        for name in waiting[: wanted.jobs - len(running)]:
            had = progress.get(name, NOTHING)
            bounds = wanted.inputs - had["inputs"], min(ROUND_S, wanted.seconds - had["seconds"])
            seed = f"{wanted.seed} {had.get('rounds', 0)}"
            running[name] = context.Process(target=_job, args=(name, *bounds, seed, wanted.out.parent))
            running[name].start()
        for name, process in list(running.items()):
            process.join(0.5)
            if process.exitcode is None:
                continue
            del running[name]
            progress[name] = _added(progress.get(name, {}), _result(name, process.exitcode, wanted.out.parent))
            aside = wanted.out.with_name(f"{wanted.out.name}.new")
            aside.write_text(json.dumps(progress, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            aside.replace(wanted.out)
            print(_said(name, progress[name]), flush=True)
    return int(any(progress[name]["finds"] for name in names))


if __name__ == "__main__":
    sys.exit(main())
