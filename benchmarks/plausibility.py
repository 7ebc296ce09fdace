"""What the screen for boards without a check lets through, and what it costs a real ECG.

    python -m benchmarks.plausibility [--shared ../shared] [--minutes 30] [--drop 0.0005 --flip 0.0005]

MIT-BIH records at each board's rate and resolution become the board's own frames; a byte in a thousand is hit, half of them
dropped, half with one bit inverted; what comes out is held against what was sent. Three kinds of wrong:

any      the value differs at all: the lowest bits are far below any noise, and no screen can see them;
> 25 uV  as much as the noise that IEC 60601-2-25 allows an electrocardiograph (30 uV), rounded down;
> 100 uV what can be seen: a millimetre on paper.

The screen's limits were set on every other record of one half of the data base (de Chazal's DS1) and the paced ones at 125
and 250 samples a second; the other records were not looked at before. The share lost of an ECG whose bytes are all right
stands beside it. The simulated patient, whose noise is less, is a row of its own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mitdb_sets import DS2
from edge_agent.journey import Samples
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Codec, Decoder
from edge_agent.sources.emulated import Emulated, Wearer, options_for
from edge_agent.sources.line_faults import Damage, Faults
from edge_agent.sources.simulated.script import Episode, Script

SET_ON = ("101", "108", "112", "115", "118", "122", "201", "205", "208", "215", "223")
UNSEEN = ("106", "109", "114", "116", "119", "124", "203", "207", "209", "220", "230")
REST = tuple(DS2)
PACED = ("102", "104", "107", "217")
RECORD_FS = 360
STEP = 4096


@dataclass
class Counted:
    values: int = 0
    any: int = 0
    over_25: int = 0
    over_100: int = 0
    given_up: int = 0
    given_up_rightly: int = 0

    def add(self, other: Counted) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def ecg_rows(codec: Codec) -> list[int]:
    return [row for row, channel in enumerate(codec.board.channels) if channel.kind == "ecg"]


def from_record(codec: Codec, record: Any) -> Samples:
    """The board's channels from a record's two leads, at its rate; what is no ECG is a slow wave."""
    from scipy.signal import resample_poly

    fs = round(codec.board.fs)
    leads = resample_poly(record, fs, RECORD_FS, axis=0).T
    count = leads.shape[1] // 8 * 8
    t = np.arange(count) / fs
    rows = []
    ecgs = 0
    for channel in codec.board.channels:
        if channel.kind == "ecg":
            ii, v = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, -0.5))[ecgs % 4]
            rows.append(ii * leads[0, :count] + v * leads[1, :count])
            ecgs += 1
        else:
            rows.append(1000 * (1 + np.sin(1.5 * t)) * channel.scale)
    return np.array(rows, np.float32)


def simulated(codec: Codec, name: str, minutes: float) -> Samples:
    wearer = Wearer(codec.board.fs, Script((Episode(name="sinus", duration_s=3600.0),)), 7, forever=True)
    board = Emulated(name, options_for(name)).board
    parts = wearer.samples(board, int(codec.board.fs * 60 * minutes) // 8 * 8)
    return np.concatenate([values for values, _ in parts], axis=1)


def decoded(decoder: Decoder, data: bytes) -> Samples:
    """With NaN for what was lost, so that the index is the sample's."""
    parts: list[Samples] = []
    chunks = [chunk for at in range(0, len(data), STEP) for chunk in decoder.decode(data[at : at + STEP])]
    for chunk in [*chunks, *decoder.flush()]:
        if chunk.lost_before:
            parts.append(np.full((chunk.values.shape[0], chunk.lost_before), np.nan, np.float32))
        parts.append(chunk.values)
    return np.concatenate(parts, axis=1)


def judge(codec: Codec, sent: Samples, faults: Faults, *, screen: bool) -> Counted:
    """One bit at a time would be exact too, but slow: what is flipped and what is dropped are judged apart.

    Dropped bytes move frames, whose loss may be an estimate; so a sample is compared with the one sent in its place, and
    where an estimate is off by one (it is, now and then) the rest of the record is left out.
    """
    rows = ecg_rows(codec)
    data = codec.encoder().encode(sent)
    truth = decoded(codec.frames(), data)[rows]
    spoilt = Damage(faults).spoil(data)
    make = codec.decoder if screen else codec.frames
    plain = decoded(codec.frames(), spoilt)[rows]
    got = decoded(make(), spoilt)[rows]
    # where the screen says nothing of a loss the two agree sample by sample
    assert got.shape == plain.shape
    counted = Counted()
    at = 0
    width = 2000
    for start in range(0, got.shape[1], width):
        part, bare = got[:, start : start + width], plain[:, start : start + width]
        at = _aligned(bare, truth, start, at)
        want = truth[:, start + at : start + at + part.shape[1]]
        size = want.shape[1]
        part, bare = part[:, :size], bare[:, :size]
        if np.nanmean(bare != want) > 0.2:
            continue  # an estimate changed in here
        wrong = np.abs(bare - want) * 1000
        passed = ~np.isnan(part)
        counted.values += int(passed.sum())
        counted.any += int((passed & (wrong > 0)).sum())
        counted.over_25 += int((passed & (wrong > 25)).sum())
        counted.over_100 += int((passed & (wrong > 100)).sum())
        doubted = ~passed & ~np.isnan(bare)
        counted.given_up += int(doubted.sum())
        counted.given_up_rightly += int((doubted & (wrong > 0)).sum())
    return counted


def _aligned(part: Samples, truth: Samples, start: int, near: int) -> int:
    """By how much the estimates of losses are off by now."""
    tries = sorted(range(near - 12, near + 13), key=lambda shift: abs(shift - near))
    best, least = near, 2.0
    for shift in tries:
        if start + shift < 0:
            continue
        want = truth[:, start + shift : start + shift + part.shape[1]]
        share = float(np.mean((part[:, : want.shape[1]] != want) & ~np.isnan(part[:, : want.shape[1]])))
        if share < least - 0.02:
            best, least = shift, share
    return best


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--boards", default="healthypi3,healthypi5,ads1292r,ads1293,max30003,cyton")
    parser.add_argument("--sets", default="unseen,rest,paced,set on,simulated")
    parser.add_argument("--drop", type=float, default=0.0005)
    parser.add_argument("--flip", type=float, default=0.0005)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    sets = {"unseen": UNSEEN, "rest": REST, "paced": PACED, "set on": SET_ON, "simulated": ("",)}
    print(
        "Per 100,000 ECG values that passed; without the screen in brackets. Lost: of an ECG whose bytes are all right.\n"
    )
    print("| board | signal | values | any | > 25 uV | > 100 uV | lost of a good one |\n|---|---|---|---|---|---|---|")
    for name in options.boards.split(","):
        codec = registry.codec(name, **options_for(name))
        for which in options.sets.split(","):
            with_it, without, clean = Counted(), Counted(), Counted()
            for number, record in enumerate(sets[which]):
                faults = Faults(drop=options.drop, flip=options.flip, seed=1000 * options.seed + number)
                if record:
                    import wfdb

                    path = str(options.shared / "data" / "mitdb" / record)
                    sent = from_record(
                        codec, wfdb.rdrecord(path, sampto=int(RECORD_FS * 60 * options.minutes)).p_signal
                    )
                else:
                    sent = simulated(codec, name, options.minutes)
                with_it.add(judge(codec, sent, faults, screen=True))
                without.add(judge(codec, sent, faults, screen=False))
                clean.add(judge(codec, sent, Faults(), screen=True))

            def per(key: str, one: Counted = with_it, other: Counted = without) -> str:
                return f"{1e5 * getattr(one, key) / one.values:.1f} ({1e5 * getattr(other, key) / other.values:.0f})"

            lost = 1e5 * clean.given_up / max(1, clean.values + clean.given_up)
            print(
                f"| {name} | {which} | {with_it.values} | {per('any')} | {per('over_25')} | {per('over_100')} "
                f"| {lost:.2f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
