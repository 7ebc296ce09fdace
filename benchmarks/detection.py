"""QRS detection against the peers: accuracy, delay, noise and cost, over the same records in the same run.

    python benchmarks/detection.py [--data DIR] [--records 100,101 | DS1 | DS2] [--peers all|none|sleepecg,xqrs]
        [--methods native,ecgdetectors:hamilton] [--noise 24,18,12,6,0] [--cost] [--out benchmarks/results/detection.md]

Ours is fed the record in blocks of 100 ms and never sees more than it would live; the peers get the whole record at
once. Scored after EC57 (``ec57.py``), on each record's first signal. A Markdown table is printed and written to
``--out``, with the figures as JSON and a picture (accuracy against delay, cost against accuracy) beside it.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout: the package beside this folder is the one to be measured
    sys.path.insert(0, str(ROOT))

from benchmarks import detection_report as report  # noqa: E402
from benchmarks import ec57, noise, peers  # noqa: E402
from benchmarks.mitdb_sets import DS1, DS2  # noqa: E402
from edge_agent.journey import Beat  # noqa: E402

METHODS = "native,native:rules,native:rules-fast"
BLOCK_S = 0.1
COST_RECORDS = 8
COST_REPEATS = 9


class BenchmarkError(RuntimeError):
    """What was asked for cannot be measured."""


class Detector(Protocol):
    """What every streaming QRS detector here can do."""

    def feed(self, x: NDArray[np.float32], first: int) -> list[Beat]: ...
    def flush(self) -> list[Beat]: ...


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    fs: float
    x: NDArray[np.float64]
    reference: ec57.Annotations

    @property
    def learns(self) -> bool:
        """Whether there is anything after the learning period."""
        return len(self.x) > ec57.to_samples(ec57.LEARNING_S, self.fs)


@dataclass(frozen=True, slots=True)
class Found:
    """A detector's beats in one record; ``known`` is None where it saw the whole record first."""

    samples: NDArray[np.int64]
    known: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    title: str
    ours: bool
    run: Callable[[NDArray[np.float64], float], Found]


# ---------------------------------------------------------------------------------------------------- records


def data_folder(given: Path | None) -> Path:
    """The folder that holds the records: as given, or mitdb in the shared data."""
    shared = Path(os.environ.get("EDGE_AGENT_SHARED", ROOT.parent / "shared"))
    folder = given or shared / "data" / "mitdb"
    if given is not None and (given / "mitdb").is_dir():
        folder = given / "mitdb"
    if not folder.is_dir():
        raise BenchmarkError(f"no data folder {folder}: give the folder of the WFDB records with --data")
    return folder


def record_names(folder: Path, wanted: str | None, annotator: str) -> list[str]:
    here = sorted(path.stem for path in folder.glob(f"*.{annotator}") if path.with_suffix(".hea").exists())
    if wanted is None:
        if not here:
            raise BenchmarkError(f"{folder} holds no record with annotations .{annotator}")
        return here
    groups = {"DS1": DS1, "DS2": DS2}
    names = [name for part in wanted.split(",") if part for name in groups.get(part, [part])]
    absent = [name for name in names if name not in here]
    if absent or not names:
        raise BenchmarkError(f"{folder} holds no annotated record {', '.join(map(repr, absent)) or repr(wanted)}")
    return list(dict.fromkeys(names))


def load(folder: Path, name: str, annotator: str) -> Record:
    """The first signal, in physical units, with missing samples held at the last value (the peers cannot take NaN)."""
    wfdb = import_module("wfdb")
    try:
        signal = wfdb.rdrecord(str(folder / name), channels=[0])
        marks = wfdb.rdann(str(folder / name), annotator)
    except (OSError, ValueError, IndexError) as cause:
        raise BenchmarkError(f"record {name} in {folder} cannot be read: {cause}") from cause
    x = np.asarray(signal.p_signal[:, 0], np.float64)
    good = np.isfinite(x)
    if not good.any():
        raise BenchmarkError(f"record {name} in {folder} has no valid sample in its first signal")
    if not good.all():
        newest = np.maximum.accumulate(np.where(good, np.arange(len(x)), -1))
        x = x[np.where(newest >= 0, newest, int(np.argmax(good)))]
    fs = float(signal.fs)
    reference = ec57.from_wfdb(marks.sample, marks.symbol, marks.subtype, fs=fs)
    return Record(name, fs, np.ascontiguousarray(x), reference)


# ---------------------------------------------------------------------------------------------------- contestants


def make_detector(method: str, fs: float) -> Detector:
    if method.startswith("ecgdetectors:"):
        return import_module("edge_agent.signal.qrs_ecgdetectors").make_ecgdetectors(fs, "ecg", method)  # type: ignore[no-any-return]
    return import_module("edge_agent.signal.qrs").make_qrs_detector(fs, "ecg", method)  # type: ignore[no-any-return]


def stream(method: str, x: NDArray[np.float32], fs: float, block_s: float | None) -> list[Beat]:
    """Feed ``x`` in blocks (None: all at once), then end the stream."""
    detector = make_detector(method, fs)
    step = len(x) if block_s is None else max(1, round(block_s * fs))
    found: list[Beat] = []
    for first in range(0, len(x), step):
        found += detector.feed(x[first : first + step], first)
    return found + detector.flush()


def ours(method: str, cache: Path | None) -> Contestant:
    slow = method.startswith("ecgdetectors:")  # minutes a run, and it changes only with its own file or package

    def run(x: NDArray[np.float64], fs: float) -> Found:
        kept: Path | None = None
        if slow and cache is not None:
            module = import_module("edge_agent.signal.qrs_ecgdetectors")
            key = hashlib.sha256(Path(str(module.__file__)).read_bytes() + x.tobytes())
            key.update(f"{method} {fs!r} {metadata.version('py-ecg-detectors')} {np.__version__}".encode())
            kept = cache / "sliding" / f"{key.hexdigest()[:32]}.npy"
            if kept.exists():
                samples, known = np.load(kept, allow_pickle=False)
                return Found(samples, known)
        beats = stream(method, np.ascontiguousarray(x, np.float32), fs, BLOCK_S)
        both = np.asarray([(b.sample, b.known) for b in beats], np.int64).reshape(-1, 2).T
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, both)
        return Found(both[0], both[1])

    return Contestant(method, f"**{method}**" if not slow else f"{method} (sliding)", True, run)


def theirs(peer: peers.Peer, cache: Path | None) -> Contestant:
    return Contestant(
        peer.name, f"{peer.title} {peer.version}", False, lambda x, fs: Found(peers.run(peer, x, fs, cache))
    )


# ---------------------------------------------------------------------------------------------------- measuring


def measure(record: Record, who: Contestant, x: NDArray[np.float64] | None = None) -> dict[str, Any]:
    """Everything about one contestant on one record, as plain numbers (the report adds them up)."""
    found = who.run(record.x if x is None else x, record.fs)
    test = ec57.beats(found.samples)
    whole = ec57.score(record.reference, test, record.fs, end=len(record.x), start_s=0.0)
    scored = whole
    start = 0
    if record.learns:
        scored = ec57.score(record.reference, test, record.fs, end=len(record.x))
        start = ec57.to_samples(ec57.LEARNING_S, record.fs)
    delays: list[float] = []
    if found.known is not None:
        delays = ((found.known - found.samples)[found.samples >= start] / record.fs).tolist()
    return {
        "whole": whole.tally,
        "scored": scored.tally if record.learns else ec57.Tally(),
        "offsets_s": (scored.offsets / record.fs).tolist(),
        "delays_s": delays,
    }


def accuracy(
    records: Sequence[Record], who: Sequence[Contestant], progress: report.Progress
) -> dict[str, dict[str, dict[str, Any]]]:
    out: dict[str, dict[str, dict[str, Any]]] = {c.name: {} for c in who}
    for record in records:
        for contestant in who:
            progress.step(f"{record.name} {contestant.name}")
            out[contestant.name][record.name] = measure(record, contestant)
    return out


def under_noise(
    records: Sequence[Record],
    who: Sequence[Contestant],
    source: noise.Source,
    kinds: Sequence[str],
    levels: Sequence[float],
    protocol: str,
    progress: report.Progress,
) -> dict[str, dict[str, dict[str, ec57.Tally]]]:
    """Gross tallies from minute 5 by kind, level and contestant."""
    out = {k: {f"{db:g}": {c.name: ec57.Tally() for c in who} for db in levels} for k in kinds}
    for kind in kinds:
        for record in records:
            added = source.make(kind, record.name, len(record.x), record.fs)
            for db in levels:
                x = noise.add_noise(record.x, added, db, record.reference, record.fs, protocol)
                for contestant in who:
                    progress.step(f"{kind} {db:g} dB {record.name} {contestant.name}")
                    out[kind][f"{db:g}"][contestant.name] += measure(record, contestant, x)["scored"]
    return out


def cost(
    records: Sequence[Record], methods: Sequence[str], chosen: Sequence[peers.Peer], progress: report.Progress
) -> dict[str, Any]:
    """CPU seconds per hour of ECG on one core; ratios to sleepecg from interleaved repeats, whose median counts."""
    some = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, COST_RECORDS).round().astype(int))]
    hours = sum(len(r.x) / r.fs for r in some) / 3600
    singles = {r.name: np.ascontiguousarray(r.x, np.float32) for r in some}
    runs: dict[str, Callable[[Record], object]] = {}
    for method in methods:
        runs[f"{method}, whole"] = lambda r, m=method: stream(m, singles[r.name], r.fs, None)  # type: ignore[misc]
        runs[f"{method}, 100 ms"] = lambda r, m=method: stream(m, singles[r.name], r.fs, BLOCK_S)  # type: ignore[misc]
    against = next((p for p in chosen if p.name == "sleepecg"), None)
    if against is not None:
        runs["sleepecg"] = lambda r: against.detect(r.x, r.fs)
    times: dict[str, list[float]] = {name: [] for name in runs}
    with _one_core():
        for repeat in range(COST_REPEATS + 1):  # the first warms caches and imports and is not kept
            order = list(runs)[repeat % len(runs) :] + list(runs)[: repeat % len(runs)]
            total = dict.fromkeys(runs, 0.0)
            for record in some:
                for name in order:
                    progress.step(f"cost {name}")
                    total[name] += _cpu_seconds(lambda r=record, n=name: runs[n](r))  # type: ignore[misc]
            if repeat:
                for name, seconds in total.items():
                    times[name].append(seconds / hours)
        for peer in chosen:
            if peer.name != "sleepecg":
                progress.step(f"cost {peer.name}")
                times[peer.name] = [sum(_cpu_seconds(lambda r=r, p=peer: p.detect(r.x, r.fs)) for r in some) / hours]  # type: ignore[misc]
    base = times.get("sleepecg")
    return {
        name: {
            "s_per_hour": float(np.median(values)),
            "repeats": len(values),
            "ratio": [a / b for a, b in zip(values, base, strict=True)] if base and len(values) == len(base) else [],
        }
        for name, values in times.items()
    }


def cost_steps(records: int, methods: int, chosen: Sequence[peers.Peer]) -> int:
    timed = 2 * methods + any(p.name == "sleepecg" for p in chosen)
    return (COST_REPEATS + 1) * min(records, COST_RECORDS) * timed + sum(p.name != "sleepecg" for p in chosen)


def _cpu_seconds(run: Callable[[], object]) -> float:
    """CPU time, not the clock's: other work on the machine must not count."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        run()
        return time.process_time() - began
    finally:
        gc.enable()


class _one_core:  # noqa: N801  reads as the statement it is
    """Keep to one core, where the system lets a process choose."""

    def __enter__(self) -> None:
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        if self._cores:
            os.sched_setaffinity(0, {min(self._cores)})

    def __exit__(self, *_: object) -> None:
        if self._cores:
            os.sched_setaffinity(0, self._cores)


# ---------------------------------------------------------------------------------------------------- the command


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="QRS detection: ours, streaming, against the peers")
    parser.add_argument("--data", type=Path, help="folder of WFDB records (default: mitdb in the shared data)")
    parser.add_argument("--annotator", default="atr", help="of the reference beats (default atr)")
    parser.add_argument("--records", help="names with commas between, DS1 or DS2 (default: all in the folder)")
    parser.add_argument("--methods", type=_words, default=_words(METHODS), help=f"ours (default {METHODS})")
    parser.add_argument("--peers", default="all", help=f"all, none or some of {','.join(p.name for p in peers.PEERS)}")
    parser.add_argument("--noise", type=_numbers, default=[], help="signal-to-noise ratios in dB, as 24,18,12,6,0")
    parser.add_argument("--noise-kinds", type=_words, default=list(noise.KINDS), help=f"of {','.join(noise.KINDS)}")
    parser.add_argument("--noise-protocol", choices=noise.PROTOCOLS, default=noise.PROTOCOLS[0])
    parser.add_argument("--noise-seed", type=int, default=20)
    nstdb = os.environ.get(noise.NSTDB_VARIABLE)
    parser.add_argument(
        "--nstdb", type=Path, default=Path(nstdb) if nstdb else None, help="folder with nstdb's em, ma, bw"
    )
    parser.add_argument("--cost", action="store_true", help="also time ours against sleepecg, on one core")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "detection.md")
    parser.add_argument("--cache", type=Path, help="where the peers' beats are kept (default: the user's cache folder)")
    parser.add_argument("--no-cache", action="store_true", help="run the peers anew and keep nothing")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Measure, write the three files, and give what is to be printed."""
    folder = data_folder(args.data)
    names = record_names(folder, args.records, args.annotator)
    chosen = peers.choose(args.peers)
    source = noise.source(args.nstdb, args.noise_seed)
    unknown = sorted(set(args.noise_kinds) - set(noise.KINDS))
    if unknown:
        raise BenchmarkError(f"no noise is called {', '.join(unknown)}: {', '.join(noise.KINDS)}")
    cache = None
    if not args.no_cache:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        cache = args.cache or home / "edge-agent" / "benchmarks"
    methods: list[str] = args.methods
    for method in methods:  # a misspelt name or an absent package is told before an hour's work, not after
        try:
            make_detector(method, 250.0)
        except (ValueError, ImportError) as cause:
            raise BenchmarkError(str(cause)) from cause
    who = [ours(m, cache) for m in methods] + [theirs(p, cache) for p in chosen]
    if not who:
        raise BenchmarkError("nothing to measure: no methods and no peers")
    records = [load(folder, name, args.annotator) for name in names]

    noisy = [c for c in who if not c.title.endswith("(sliding)")]
    steps = len(records) * (len(who) + len(noisy) * len(args.noise) * len(args.noise_kinds))
    native = [m for m in methods if not m.startswith("ecgdetectors:")]
    if args.cost:
        steps += cost_steps(len(records), len(native), chosen)
    progress = report.Progress(steps)
    if args.cost:  # first, before the memory is full of results
        timed = cost(records, native, chosen, progress)
    result: dict[str, Any] = {
        "environment": report.environment(chosen),
        "records": names,
        "groups": {"DS1": [n for n in names if n in DS1], "DS2": [n for n in names if n in DS2], "all": names},
        "contestants": [{"name": c.name, "title": c.title, "ours": c.ours} for c in who],
        "accuracy": accuracy(records, who, progress),
        "cost": timed if args.cost else {},
    }
    if args.noise:
        with_learning = [r for r in records if r.learns]
        if not with_learning:
            raise BenchmarkError("noise begins at minute 5, and no record is longer than that")
        result["noise"] = {
            "source": source.title,
            "protocol": args.noise_protocol,
            "tallies": under_noise(
                with_learning, noisy, source, args.noise_kinds, args.noise, args.noise_protocol, progress
            ),
        }
    progress.done()
    result = report.summarise(result)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = report.markdown(result, picture=args.out.with_suffix(".png").name)
    args.out.write_text(text, encoding="utf-8")
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    drawn = report.picture(result, args.out.with_suffix(".png"))
    return f"{text}\nwritten: {args.out}, with .json {'and .png' if drawn else '(no picture: no Matplotlib)'} beside it"


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    try:
        print(run(args))
    except (BenchmarkError, peers.PeerError, noise.NoiseError, OSError) as cause:
        print(f"detection: {cause}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
