"""``make fuzz``: millions of inputs for every parser, each in a process of its own, so that a dead one is a find and not the end.

    python -m tests.fuzz.long_run --inputs 10000000 --jobs 4 --out reports/fuzz.json
    python -m tests.fuzz.long_run --parser tflite --seconds 600
    python -m tests.fuzz.long_run --parser tflite --atheris        (where atheris is installed: guided by coverage)

Finds are written as files beside the report, with the error; ``--replay FILE --parser NAME`` tries one again. Exit status 1 with finds.
"""

from __future__ import annotations

import argparse
import faulthandler
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
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.mutate import mutated
from tests.fuzz.parsers import Parser, parsers, refused

MEMORY_BYTES = 4 << 30
LONGEST_S = 10
MOST_FINDS = 20


class TooSlowError(Exception):
    """One input took longer than a stream may wait."""


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {100 * LONGEST_S} s for a thousand inputs")


def _keep(folder: Path, name: str, data: bytes, error: BaseException) -> None:
    base = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    base.with_suffix(".bin").write_bytes(data)
    base.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def work(name: str, inputs: int, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """One parser, until so many inputs or so many seconds."""
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, _too_slow)
    parser, chance = parsers()[name], random.Random(f"{name} {seed}")
    last = folder / f"{name}.last"  # of a process that dies, this is the input
    done = refusals = 0
    kinds: dict[str, int] = {}
    began = time.monotonic()
    while done < inputs and time.monotonic() - began < seconds:
        state = chance.getstate() if done % 1000 == 0 else None
        if state is not None:
            last.write_text(json.dumps({"seed": f"{name} {seed}", "done": done}), encoding="ascii")
            signal.alarm(100 * LONGEST_S)  # one system call for each thousand
        data = mutated(parser.seeds, chance)
        done += 1
        try:
            refusals += refused(parser, data)
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] == 1 and len(kinds) <= MOST_FINDS:
                _keep(folder, name, data, error)
    signal.alarm(0)
    last.unlink(missing_ok=True)
    taken_s = time.monotonic() - began
    return {"parser": name, "inputs": done, "refused": refusals, "seconds": round(taken_s, 1), "finds": kinds}


def _job(name: str, inputs: int, seconds: float, seed: int, folder: Path) -> None:
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
    return {"parser": name, "inputs": 0, "refused": 0, "seconds": 0.0, "finds": {died: 1}}


def _guided(name: str, seconds: float, folder: Path) -> int:
    """By coverage, with libFuzzer: only where atheris is installed."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    parser: Parser = parsers()[name]
    corpus = folder / f"{name}.corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(parser.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.instrument_all()
    atheris.Setup(
        ["fuzz", str(corpus), f"-max_total_time={seconds:.0f}", f"-artifact_prefix={folder}/{name}-"],
        lambda data: refused(parser, bytes(data)),
    )
    atheris.Fuzz()
    return 0


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    arguments.add_argument("--parser", action="append", choices=sorted(parsers()), help="default: all of them")
    arguments.add_argument("--inputs", type=int, default=10_000_000, help="for each parser (default: %(default)d)")
    arguments.add_argument("--seconds", type=float, default=1e9, help="at most, for each parser")
    arguments.add_argument("--jobs", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
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
    results: list[dict[str, Any]] = []
    waiting = list(names)
    running: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    while waiting or running:
        while waiting and len(running) < wanted.jobs:
            name = waiting.pop(0)
            process = context.Process(
                target=_job, args=(name, wanted.inputs, wanted.seconds, wanted.seed, wanted.out.parent)
            )
            process.start()
            running[name] = process
        for name, process in list(running.items()):
            process.join(0.2)
            if process.exitcode is None:
                continue
            del running[name]
            results.append(_result(name, process.exitcode, wanted.out.parent))
            found = results[-1]
            said = f"{found['inputs']:>10} inputs, {found['seconds']:>8} s, {found['refused']} refused"
            print(f"{name:<28} {said}: {found['finds'] or 'nothing found'}", flush=True)
            wanted.out.write_text(
                json.dumps({"seed": wanted.seed, "results": results}, indent=1) + "\n", encoding="utf-8"
            )
    return int(any(one["finds"] for one in results))


if __name__ == "__main__":
    sys.exit(main())
