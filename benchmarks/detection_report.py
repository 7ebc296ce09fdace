"""What ``detection.py`` measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ec57 import Distribution, Tally, distribution
from benchmarks.peers import Peer

TARGETS = {  # of the detector by default, on mitdb's 48 records
    "F1 from minute 5, %": 99.85,
    "mean delay, s": 0.35,
    "delay, 99th percentile, s": 0.8,
    "R offset, median, ms": 25.0,
    "cost whole record / sleepecg": 1.0,
    "cost in 100 ms blocks / sleepecg": 3.0,
}
MAIN = "native"


class Progress:
    """A bar on a terminal; elsewhere a line at every tenth, so that a log says how far it got."""

    def __init__(self, steps: int) -> None:
        self.steps = max(steps, 1)
        self.at = 0
        self._tty = sys.stderr.isatty()

    def step(self, what: str) -> None:
        """Called as something begins."""
        tenth = self.at * 10 // self.steps
        if self._tty:
            filled = self.at * 30 // self.steps
            bar = "#" * filled + "." * (30 - filled)
            sys.stderr.write(f"\r[{bar}] {self.at}/{self.steps} {what:<45.45}")
            sys.stderr.flush()
        elif tenth != (self.at - 1) * 10 // self.steps:
            print(f"{tenth * 10} % ({self.at} of {self.steps})", file=sys.stderr, flush=True)
        self.at += 1

    def done(self) -> None:
        if self._tty:
            sys.stderr.write("\r" + " " * 100 + "\r")
            sys.stderr.flush()


def environment(chosen: Sequence[Peer]) -> dict[str, str]:
    kernel = getattr(import_module("edge_agent.signal.qrs"), "KERNEL", None)
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "detector": "compiled kernel" if kernel else "plain Python (no compiled kernel)",
        **{peer.package: metadata.version(peer.package) for peer in chosen},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    named = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(("model name", "model\t"))]
    return next((name for name in named if not name.isdigit()), "unknown processor")


# ---------------------------------------------------------------------------------------------------- adding up


def summarise(result: Mapping[str, Any]) -> dict[str, Any]:
    """Gross figures by group and per record, as plain numbers that JSON can hold (no NaN: what is undefined is null)."""
    out = {k: v for k, v in result.items() if k not in ("accuracy", "noise")}
    out["accuracy"] = {
        name: {
            "groups": {
                group: _group([by_record[r] for r in members]) for group, members in result["groups"].items() if members
            },
            "records": {record: _group([values]) for record, values in by_record.items()},
        }
        for name, by_record in result["accuracy"].items()
    }
    if "noise" in result:
        noise = result["noise"]
        out["noise"] = {
            **{k: v for k, v in noise.items() if k != "tallies"},
            "levels": {
                kind: {db: {n: _tally(t) for n, t in tallies.items()} for db, tallies in levels.items()}
                for kind, levels in noise["tallies"].items()
            },
        }
    return dict(out)


def _group(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    offsets_ms = 1000 * np.concatenate([np.asarray(m["offsets_s"], np.float64) for m in measured])
    delays = np.concatenate([np.asarray(m["delays_s"], np.float64) for m in measured])
    return {
        "scored": _tally(_sum(m["scored"] for m in measured)),
        "whole": _tally(_sum(m["whole"] for m in measured)),
        "delay_s": _spread(distribution(delays)) if delays.size else None,
        "offset_ms": _spread(distribution(offsets_ms)),
        "offset_abs_ms": _spread(distribution(np.abs(offsets_ms))),
    }


def _sum(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, Tally())


def _tally(t: Tally) -> dict[str, float | int | None]:
    percent = {"se": t.se, "ppv": t.ppv, "f1": t.f1, "der": t.der}
    return {**asdict(t), **{k: None if math.isnan(v) else 100 * v for k, v in percent.items()}}


def _spread(d: Distribution) -> dict[str, float | int | None]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(d).items()}


# ---------------------------------------------------------------------------------------------------- the table


def markdown(result: Mapping[str, Any], picture: str) -> str:
    parts = [
        "# QRS detection\n",
        f"{len(result['records'])} records, first signal; ours fed in blocks of 100 ms, the peers the whole record at "
        "once. Scored after ANSI/AAMI EC57 (match window 150 ms) as WFDB's `bxb` does. "
        + "; ".join(f"{k} {v}" for k, v in result["environment"].items())
        + ".\n",
        f"![accuracy against delay, cost against accuracy]({picture})\n",
        _targets(result),
        _gross(result),
        _delays(result),
        _noise(result),
        _cost(result),
        _records(result),
    ]
    return "\n".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _n(value: float | int | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}"


def _titles(result: Mapping[str, Any]) -> dict[str, str]:
    return {c["name"]: c["title"] for c in result["contestants"]}


def measured_targets(result: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Name, target, measured, of what this run measured."""
    if MAIN not in result["accuracy"]:
        return []
    whole = result["accuracy"][MAIN]["groups"]["all"]
    cost = result["cost"]
    found: dict[str, float | None] = {"F1 from minute 5, %": whole["scored"]["f1"]}
    if whole["delay_s"]:
        found["mean delay, s"] = whole["delay_s"]["mean"]
        found["delay, 99th percentile, s"] = whole["delay_s"]["p99"]
    found["R offset, median, ms"] = whole["offset_abs_ms"]["p50"]
    for key, run in (("cost whole record / sleepecg", "whole"), ("cost in 100 ms blocks / sleepecg", "100 ms")):
        ratios = cost.get(f"{MAIN}, {run}", {}).get("ratio", [])
        found[key] = float(np.median(ratios)) if ratios else None
    return [(k, TARGETS[k], v) for k, v in found.items() if v is not None]


def _targets(result: Mapping[str, Any]) -> str:
    rows = []
    for name, target, value in measured_targets(result):
        at_least = name.startswith("F1")
        reached = value >= target if at_least else value <= target
        limit = f"{'at least' if at_least else 'at most'} {target:g}"
        rows.append([name, limit, _n(float(value)), "yes" if reached else "**no**"])
    for kind, levels in result.get("noise", {}).get("levels", {}).items():
        for db, tallies in levels.items():
            own = tallies.get(MAIN, {}).get("f1")
            others = {c["name"]: tallies[c["name"]]["f1"] for c in result["contestants"] if not c["ours"]}
            if own is None or not others:
                continue
            best = max(others, key=lambda n: others[n] or 0.0)
            reached = own > (others[best] or 0.0)
            rows.append(
                [
                    f"F1, {kind} noise {db} dB, %",
                    f"above {best}'s {_n(others[best], 2)}",
                    _n(own, 2),
                    "yes" if reached else "**no**",
                ]
            )
    if not rows:
        return ""
    return f"## Targets (`{MAIN}`, these records)\n\n" + _table(["what", "target", "measured", "reached"], rows)


def _gross(result: Mapping[str, Any]) -> str:
    out = []
    for part, title in (("scored", "from minute 5"), ("whole", "whole record")):
        rows = []
        for name, title_of in _titles(result).items():
            groups = result["accuracy"][name]["groups"]
            t = groups["all"][part]
            apart = [_n(groups[g][part]["f1"]) if g in groups else "-" for g in ("DS1", "DS2")]
            rows.append([title_of, *(_n(t[k]) for k in ("f1", "der", "se", "ppv", "fn", "fp")), *apart])
        beats = result["accuracy"][next(iter(result["accuracy"]))]["groups"]["all"][part]
        head = ["detector", "F1 %", "DER %", "Se %", "P+ %", "missed", "extra", "F1 DS1", "F1 DS2"]
        out.append(f"## All records, {title} ({beats['tp'] + beats['fn']:,} beats)\n\n" + _table(head, rows))
    return "\n".join(out)


def _delays(result: Mapping[str, Any]) -> str:
    rows = []
    for name, title in _titles(result).items():
        g = result["accuracy"][name]["groups"]["all"]
        d, o, a = g["delay_s"], g["offset_ms"], g["offset_abs_ms"]
        delay = [_n(d[k]) for k in ("mean", "p50", "p95", "p99", "largest")] if d else ["whole record", *["-"] * 4]
        rows.append([title, *delay, _n(o["p50"], 1), _n(a["p50"], 1), _n(o["sd"], 1)])
    head = ["detector", "mean s", "p50", "p95", "p99", "largest", "R offset median ms", "median of its size", "sd"]
    return (
        "## Delay and position (from minute 5)\n\nDelay: from the R peak to the newest sample that was needed to "
        "report it, of every beat reported. Offset: reported minus reference position of the paired beats.\n\n"
        + _table(head, rows)
    )


def _noise(result: Mapping[str, Any]) -> str:
    if "noise" not in result:
        return ""
    noise = result["noise"]
    out = [
        f"## F1 (%) under noise, from minute 5\n\nNoise: {noise['source']}; protocol {noise['protocol']}; "
        "signal-to-noise ratio as WFDB's `nst` defines it.\n"
    ]
    for kind, levels in noise["levels"].items():
        names = list(next(iter(levels.values())))
        rows = [[_titles(result)[n], *(_n(levels[db][n]["f1"], 2) for db in levels)] for n in names]
        out.append(_table([kind, *(f"{db} dB" for db in levels)], rows))
    return "\n".join(out)


def _cost(result: Mapping[str, Any]) -> str:
    if not result["cost"]:
        return ""
    rows = []
    for name, c in result["cost"].items():
        ratios = c["ratio"]
        ratio = f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-"
        rows.append([name, _n(c["s_per_hour"], 4), ratio, str(c["repeats"])])
    return (
        "## Cost\n\nCPU seconds per hour of ECG on one core, medians of interleaved repeats; the ratio to sleepecg "
        "is the median over the repeats, with its range.\n\n"
        + _table(["detector", "s per hour", "ratio to sleepecg", "repeats"], rows)
    )


def _records(result: Mapping[str, Any]) -> str:
    names = list(_titles(result))
    first = names[0]
    rows = []
    for record in result["records"]:
        own = result["accuracy"][first]["records"][record]
        part = "scored" if own["scored"]["tp"] + own["scored"]["fn"] else "whole"
        d = own["delay_s"]
        rows.append(
            [
                record,
                _n(own[part]["tp"] + own[part]["fn"]),
                _n(own[part]["fn"]),
                _n(own[part]["fp"]),
                *([_n(d["mean"]), _n(d["p99"])] if d else ["-", "-"]),
                *(_n(result["accuracy"][n]["records"][record][part]["f1"], 2) for n in names),
            ]
        )
    head = ["record", "beats", f"missed by {first}", "extra", "delay mean s", "p99", *(f"F1 {n}" for n in names)]
    return "## Per record (from minute 5; the whole record where it is shorter)\n\n" + _table(head, rows)


# ---------------------------------------------------------------------------------------------------- the picture


def picture(result: Mapping[str, Any], path: Path) -> bool:
    """Detection error against delay, and cost against it; down and left is better. False without Matplotlib."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError:
        return False
    matplotlib.use("Agg")
    plt = import_module("matplotlib.pyplot")
    panels = 2 if result["cost"] else 1
    figure, axes = plt.subplots(1, panels, figsize=(7.5 * panels, 5.5), squeeze=False)
    own_colour, peer_colour = "#b2182b", "#4d4d4d"

    left = axes[0][0]
    reach = [1.0]
    for c in result["contestants"]:
        g = result["accuracy"][c["name"]]["groups"]["all"]
        if g["delay_s"]:
            reach.append(g["delay_s"]["p99"])
    offline = 1.6 * max(reach)
    for c in result["contestants"]:
        g = result["accuracy"][c["name"]]["groups"]["all"]
        der, d = g["scored"]["der"] or g["whole"]["der"], g["delay_s"]
        if not der:
            continue
        if d:
            left.plot([d["mean"], d["p99"]], [der, der], color=own_colour, alpha=0.4)
            left.plot(d["mean"], der, "o", color=own_colour)
            left.annotate(c["name"], (d["mean"], der), xytext=(4, 5), textcoords="offset points", fontsize=8)
        else:
            left.plot(offline, der, "s", color=peer_colour)
            left.annotate(c["name"], (offline, der), xytext=(6, -3), textcoords="offset points", fontsize=8)
    left.axvline(1.3 * max(reach), color="0.8", linestyle=":")
    left.set_xlim(0, 2.3 * max(reach))
    ticks = [t for t in left.get_xticks() if t <= 1.2 * max(reach)]
    left.set_xticks([*ticks, offline], [*(f"{t:g}" for t in ticks), "whole\nrecord"])
    left.set_yscale("log")
    left.margins(y=0.1)
    left.set_xlabel("delay, s: mean (dot) to 99th percentile (line)")
    left.set_ylabel("detection error rate, %")
    left.set_title("accuracy against delay")

    if result["cost"]:
        right = axes[0][1]
        for run, cost in result["cost"].items():
            name = run.split(", ")[0]
            g = result["accuracy"].get(name, {}).get("groups", {}).get("all")
            der = g and (g["scored"]["der"] or g["whole"]["der"])
            if not der:
                continue
            ours, at_once = ", " in run, run.endswith(", whole")
            colour = own_colour if ours else peer_colour
            face = "none" if at_once else colour
            right.plot(cost["s_per_hour"], der, "o" if ours else "s", markeredgecolor=colour, markerfacecolor=face)
            if not at_once:
                right.annotate(name, (cost["s_per_hour"], der), xytext=(6, 4), textcoords="offset points", fontsize=8)
        right.set_xscale("log")
        right.set_yscale("log")
        right.margins(x=0.25, y=0.1)
        right.set_xlabel("CPU seconds per hour of ECG, one core")
        right.set_ylabel("detection error rate, %")
        right.set_title("cost against accuracy (squares, hollow dots: the whole record at once)")
    for axis in axes[0]:
        axis.grid(visible=True, which="both", color="0.92")
        ticker = import_module("matplotlib.ticker")
        plain = ticker.FormatStrFormatter("%g")
        axis.yaxis.set_major_formatter(plain)
        axis.yaxis.set_minor_formatter(plain)
        if axis.get_xscale() == "log":  # decades: numbers between them would lie on one another
            axis.xaxis.set_major_formatter(plain)
            axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.tick_params(which="minor", labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True
