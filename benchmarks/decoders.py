"""What decoding the boards' bytes costs, and what gets through when the bytes are wrong.

    python -m benchmarks.decoders [--minutes 10] [--noise-mb 41.5] [--seed 1] [--boards cyton,bitalino]

Cost: bytes as they come from the line, in reads of 20 ms, at each board's highest rate; CPU time of the process.
Damage: a byte in a thousand, half dropped and half flipped (one bit; or the whole byte), and all dropped.
Noise: random bytes, an hour of them at 115200 baud by default, from the start and after a second of the real thing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.plausibility import simulated
from benchmarks.serial_faults import Outcome, coded, damage, judge, noise
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Codec
from edge_agent.sources.emulated import options_for

READ_S = 0.02
LINE_BYTES_PER_S = 11_520
RATE = 1e-3
NOISE_PART = 4096
HIGHEST_SHARE = 2.0
"""% of one core that eight boards may take."""


@dataclass(frozen=True)
class Cost:
    bulk_mb_per_s: float
    read_us: float
    share: float
    """% of one core, live."""


def cost(codec: Codec, name: str, seconds: float) -> Cost:
    board = codec.board
    data = codec.encoder().encode(simulated(codec, name, seconds / 60))
    decoder = codec.decoder()
    began = time.process_time()
    for at in range(0, len(data), 65536):
        decoder.decode(data[at : at + 65536])
    bulk = time.process_time() - began
    decoder = codec.decoder()
    per_read = board.frame_bytes * board.frames_per_s * READ_S
    cuts = [round(at * per_read) for at in range(int(len(data) / per_read) + 1)]
    reads = [data[start:end] for start, end in itertools.pairwise(cuts)]
    best = float("inf")
    for _ in range(3):
        decoder = codec.decoder()
        began = time.process_time()
        for read in reads:
            decoder.decode(read)
        best = min(best, time.process_time() - began)
    each = best / len(reads)
    return Cost(len(data) / bulk / 1e6, each * 1e6, each / READ_S * 100)


def spoil(codec: Codec, minutes: float, seed: int, flip: str, dropped: float) -> Outcome:
    samples = coded(codec, int(codec.board.fs * 60 * minutes) // 8 * 8)
    data = codec.encoder().encode(samples)
    return judge(codec, samples, data, damage(data, RATE, seed, "byte" if flip == "byte" else "bit", dropped))


def false_frames(codec: Codec, megabytes: float, seed: int) -> tuple[int, int, float]:
    """From the start; after the real thing; CPU seconds of both."""
    board = codec.board
    counts: list[int] = []
    began = time.process_time()
    for real in (b"", codec.encoder().encode(coded(codec, int(board.fs) // 8 * 8))):
        decoder = codec.decoder()
        decoder.decode(real)
        good = decoder.counters.frames_good
        held = 1 if board.sequence else 0  # a frame that waits for the next becomes a sample whatever comes
        for part in range(int(megabytes * 1e6 / NOISE_PART)):
            decoder.decode(noise(NOISE_PART, seed * 1_000_000 + part))
        counts.append(max(0, decoder.counters.frames_good - good - (held if real else 0)))
    return counts[0], counts[1], time.process_time() - began


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of signal for the damage")
    parser.add_argument("--noise-mb", type=float, default=LINE_BYTES_PER_S * 3600 / 1e6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--boards", default=",".join(registry.NAMES))
    parser.add_argument("--parts", default="cost,damage,noise")
    options = parser.parse_args(arguments)
    os.nice(10)
    names = options.boards.split(",")
    parts = options.parts.split(",")
    good = measure_cost(names) if "cost" in parts else True
    if "damage" in parts:
        measure_damage(names, options.minutes, options.seed)
    if "noise" in parts:
        measure_noise(names, options.noise_mb, options.seed)
    return 0 if good else 1


def measure_cost(names: Sequence[str]) -> bool:
    print(f"\nCost, in reads of {READ_S * 1000:g} ms\n")
    print("| board | rate /s | bytes/s | bulk MB/s | us a read | % of a core | eight of them % |")
    print("|---|---|---|---|---|---|---|")
    shares = {}
    for name in names:
        codec = registry.codec(name, **options_for(name))
        board = codec.board
        found = cost(codec, name, 60)
        shares[name] = found.share
        print(
            f"| {name} | {board.fs:g} | {board.frame_bytes * board.frames_per_s:.0f} | {found.bulk_mb_per_s:.1f} "
            f"| {found.read_us:.0f} | {found.share:.3f} | {8 * found.share:.2f} |",
            flush=True,
        )
    dearest = sorted(shares.values(), reverse=True)[:8]
    print(f"\nThe eight dearest together: {sum(dearest):.2f} % of a core (at most {HIGHEST_SHARE:g})")
    worst = 8 * dearest[0]
    print(f"Eight of the dearest: {worst:.2f} %")
    return max(sum(dearest), worst) <= HIGHEST_SHARE


def measure_damage(names: Sequence[str], minutes: float, seed: int) -> None:
    """Of the frames alone, without the screen: the samples are codes. What the screen does: ``benchmarks.plausibility``."""
    print(f"\nDamage: {RATE:g} of the bytes, {minutes:g} min, without the screen\n")
    print(
        "| board | bytes hit | sent | delivered | from wrong bytes | ECG values wrong | share | twice or out of order "
        "| gaps said right | good frames given up | sync late |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        codec = registry.codec(name)
        for flip, dropped, how in (("bit", 0.5, "bits, drops"), ("byte", 0.5, "bytes, drops"), ("bit", 1.0, "drops")):
            o = spoil(codec, minutes, seed, flip, dropped)
            print(
                f"| {name} | {how} | {o.sent} | {o.delivered} | {o.misframed} | {o.wrong_ecg} "
                f"| {o.wrong_ecg / max(1, o.ecg_values):.1e} | {o.out_of_order} | {o.gaps_right}/{o.gaps} "
                f"| {o.spared}/{o.intact} | {o.late} |",
                flush=True,
            )


def measure_noise(names: Sequence[str], megabytes: float, seed: int) -> None:
    print(f"\nNoise: {megabytes:.1f} MB\n")
    print("| board | false frames | false frames after sync | MB/s |")
    print("|---|---|---|---|")
    for name in names:
        first, after, seconds = false_frames(registry.codec(name), megabytes, seed)
        print(f"| {name} | {first} | {after} | {2 * megabytes / seconds:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
