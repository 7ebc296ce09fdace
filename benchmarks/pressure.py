"""Pressure onsets against the ECG: what share of QRS is followed by exactly one onset where the quality calls both lines good.

    python -m benchmarks.pressure [--data FOLDER] [--half develop|report|both] [--qrs native] [--records]

Every record of the Challenge 2015 that has an arterial pressure goes through the streaming detectors in 100 ms blocks. The
records are split in two by a hash of their names: thresholds were chosen on the one half (``develop``), and the other (``report``)
is what the figures are worth.

A QRS counts when the interval from it to the next QRS lies in a *good stretch*: at least five seconds through which no window
that either quality called bad reaches, windows of both cover every sample, and every pulse keeps every rule. The same without
the five seconds, and by windows alone, is given beside it. It is right when exactly one onset lies between it and the next QRS. The
lag from QRS to foot is about the same for all beats of a patient; where it is close to the interval itself (fast hearts), the onset
falls now before and now after the next QRS, so the count is also given with each onset moved back by the record's usual lag less a
quarter of a second ("lag taken out").

Not every QRS moves blood: a premature beat may leave no pulse at all, and a detector that says so is right. So the misses
are told apart: the interval before is shorter than 0.8 of the usual (premature), or not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import wfdb
from numpy.typing import NDArray

from edge_agent.journey import Beat, Onset, Pulse, Quality
from edge_agent.signal.abp_quality import PressureQuality
from edge_agent.signal.ecg_quality import EcgQuality
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.qrs import make_qrs_detector

BLOCK_S = 0.1
ECG_LEADS = {"I", "II", "III", "V", "MCL", "MCL1", "aVF", "aVL", "aVR", "V1", "V2", "V3", "V4", "V5", "V6"}
PREMATURE = 0.8
STRETCH_S = 5.0


@dataclass
class Count:
    """Of QRS in good stretches."""

    one: int = 0
    none: int = 0
    more: int = 0
    none_premature: int = 0

    @property
    def all(self) -> int:
        return self.one + self.none + self.more

    @property
    def share(self) -> float:
        return self.one / self.all if self.all else float("nan")

    def add(self, other: Count) -> None:
        self.one += other.one
        self.none += other.none
        self.more += other.more
        self.none_premature += other.none_premature


@dataclass
class Found:
    """What the streaming path made of one record."""

    name: str
    fs: float
    samples: int
    beats: list[Beat] = field(default_factory=list)
    onsets: list[Onset] = field(default_factory=list)
    pulses: list[Pulse] = field(default_factory=list)
    ecg: list[Quality] = field(default_factory=list)
    abp: list[Quality] = field(default_factory=list)
    pressure: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))


def half_of(name: str) -> str:
    return "develop" if hashlib.sha256(name.encode()).digest()[0] % 2 == 0 else "report"


def records_with_pressure(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.hea") if "ABP" in p.read_text().split())


def stream(folder: Path, name: str, method: str) -> Found:
    record = wfdb.rdrecord(str(folder / name))
    signal = record.p_signal.astype(np.float32)
    fs = float(record.fs)
    ecg_at = next(i for i, n in enumerate(record.sig_name) if n in ECG_LEADS)
    ecg, abp = signal[:, ecg_at].copy(), signal[:, record.sig_name.index("ABP")].copy()
    found = Found(name, fs, len(signal), pressure=abp)
    qrs = make_qrs_detector(fs, "ecg", method)
    pressure = PressureDetector(fs, "abp")
    ecg_quality, abp_quality = EcgQuality(fs, "ecg"), PressureQuality(fs, "abp")
    step = round(BLOCK_S * fs)
    for first in range(0, len(signal), step):
        e, p = ecg[first : first + step], abp[first : first + step]
        beats = qrs.feed(e, first)
        made = pressure.feed(p, first)
        pulses = [m for m in made if isinstance(m, Pulse)]
        found.beats += beats
        found.onsets += [m for m in made if isinstance(m, Onset)]
        found.pulses += pulses
        found.ecg += ecg_quality.feed(e, first, False, beats)
        found.abp += abp_quality.feed(p, first, False, pulses)
    return found


def good_samples(found: Found) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Samples that only good windows cover: of the ECG, of the pressure."""

    def of(qualities: list[Quality]) -> NDArray[np.bool_]:
        good = np.zeros(found.samples, bool)
        for q in qualities:
            good[q.first : q.sample] = True
        for q in qualities:
            if not q.good:
                good[q.first : q.sample] = False
        return good

    return of(found.ecg), of(found.abp)


def good_pulses(found: Found) -> NDArray[np.bool_]:
    """Samples within pulses that break none of the rules per beat."""
    good = np.zeros(found.samples, bool)
    for p in found.pulses:
        good[max(0, p.sample) : p.end] = not p.reasons
    return good


def long_stretches(good: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """``good`` without its stretches shorter than ``least`` samples."""
    out = good.copy()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])).view(np.int8)))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if b - a < least:
            out[a:b] = False
    return out


def count(found: Found, good: NDArray[np.bool_], shift: int = 0) -> Count:
    """Onsets (moved back by ``shift`` samples) between each QRS in a good stretch and the next."""
    beats = np.array(sorted(b.sample for b in found.beats))
    onsets = np.array(sorted(o.sample - shift for o in found.onsets))
    out = Count()
    if len(beats) < 3:
        return out
    bad_before = np.concatenate(([0], np.cumsum(~good)))
    usual = float(np.median(np.diff(beats)))
    for i in range(1, len(beats) - 1):
        a, b = int(beats[i]), int(beats[i + 1])
        reach = min(b + max(0, shift), found.samples)
        if bad_before[reach] - bad_before[a]:
            continue
        n = int(np.searchsorted(onsets, b, side="left") - np.searchsorted(onsets, a, side="left"))
        if n == 1:
            out.one += 1
        elif n == 0:
            out.none += 1
            out.none_premature += beats[i] - beats[i - 1] < PREMATURE * usual
        else:
            out.more += 1
    return out


def usual_shift(found: Found) -> int:
    """The median lag from a QRS to the next foot, less a quarter of a second."""
    beats = np.array(sorted(b.sample for b in found.beats))
    lags = []
    for o in found.onsets:
        k = int(np.searchsorted(beats, o.sample, side="right")) - 1
        if k >= 0:
            lags.append(o.sample - beats[k])
    return round(float(np.median(lags)) - 0.25 * found.fs) if lags else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(os.environ.get("EDGE_AGENT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser.add_argument("--data", type=Path, default=here / "data" / "challenge2015")
    parser.add_argument("--half", choices=("develop", "report", "both"), default="both")
    parser.add_argument("--qrs", default="native", help="method of the QRS detector")
    parser.add_argument("--records", action="store_true", help="a line for each record")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    names = records_with_pressure(options.data)
    if not names:
        print(f"no records with an ABP in {options.data}", file=sys.stderr)
        return 1
    figures = {}
    for half in ("develop", "report"):
        if options.half in (half, "both"):
            found = [stream(options.data, n, options.qrs) for n in names if half_of(n) == half]
            figures[half] = report(half, found, options.records)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def report(half: str, found: list[Found], each: bool) -> dict[str, Any]:
    """What is printed of a half, and its figures."""
    by_record: dict[str, dict[str, int]] = {}
    stretches, shifted, beats, windows, anywhere = Count(), Count(), Count(), Count(), Count()
    seconds = ecg_good = abp_good = both_good = pulses_good = stretch_good = 0.0
    why_ecg: Counter[str] = Counter()
    why_abp: Counter[str] = Counter()
    delays: list[float] = []
    for f in found:
        ecg, abp = good_samples(f)
        both = ecg & abp
        trusted = both & good_pulses(f)
        long = long_stretches(trusted, STRETCH_S * f.fs)
        here = count(f, long)
        stretches.add(here)
        by_record[f.name] = {"one": here.one, "all": here.all}
        shifted.add(count(f, long, usual_shift(f)))
        beats.add(count(f, trusted))
        windows.add(count(f, both))
        anywhere.add(count(f, np.ones(f.samples, bool)))
        seconds += f.samples / f.fs
        ecg_good += float(ecg.sum()) / f.fs
        abp_good += float(abp.sum()) / f.fs
        both_good += float(both.sum()) / f.fs
        pulses_good += float(trusted.sum()) / f.fs
        stretch_good += float(long.sum()) / f.fs
        why_ecg.update(r for q in f.ecg for r in q.reasons)
        why_abp.update(r for q in f.abp for r in q.reasons)
        delays += [(o.known - o.sample) / f.fs for o in f.onsets]
        if each:
            good = (("ecg", ecg), ("abp", abp), ("both", both), ("stretches", long))
            shares = ", ".join(f"{k} {v.mean():.2f}" for k, v in good)
            print(
                f"  {f.name:6} {here.one:4} one {here.none:3} none ({here.none_premature} premature) {here.more:3} more"
                f"  good: {shares}"
            )
    print(f"{half}: {len(found)} records, {seconds / 60:.0f} min")
    print(
        f"  good: ECG {ecg_good / seconds:.1%}, ABP {abp_good / seconds:.1%}, both {both_good / seconds:.1%},"
        f" both and every pulse {pulses_good / seconds:.1%},"
        f" all that for {STRETCH_S:.0f} s {stretch_good / seconds:.1%} of the time"
    )
    print(f"  ECG windows by reason {dict(why_ecg.most_common())}")
    print(f"  ABP windows by reason {dict(why_abp.most_common())}")
    for title, c in (
        ("good stretches", stretches),
        ("  the same, lag taken out", shifted),
        ("good windows and good pulses", beats),
        ("good windows", windows),
        ("everywhere", anywhere),
    ):
        print(
            f"  {title}: {c.share:.2%} of {c.all} QRS followed by exactly one onset;"
            f" none {c.none} (after a premature QRS {c.none_premature}), more {c.more}"
        )
    d = np.array(delays)
    print(
        f"  an onset is known {np.median(d) * 1e3:.0f} ms after the foot (median), 99 % {np.percentile(d, 99) * 1e3:.0f},"
        f" at most {d.max() * 1e3:.0f} ms"
    )
    counts = {
        "stretches": stretches,
        "windows and pulses": beats,
        "windows": windows,
        "everywhere": anywhere,
    }
    return {
        "share": {name: {"one": c.one, "all": c.all, "percent": 100 * c.share} for name, c in counts.items()},
        "good_percent": {
            name: 100 * part / seconds
            for name, part in (("ecg", ecg_good), ("abp", abp_good), ("both", both_good), ("stretches", stretch_good))
        },
        "by_record": by_record,
        "known_ms": {"median": float(np.median(d) * 1e3), "largest": float(d.max() * 1e3)},
    }


if __name__ == "__main__":
    raise SystemExit(main())
