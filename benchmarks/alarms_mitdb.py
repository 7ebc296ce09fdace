"""Alarms on the 48 half-hours of the MIT-BIH Arrhythmia Database, through the daemon's own pipeline, every lead.

    python benchmarks/alarms_mitdb.py [--data ../shared/data] [--records 207 203]

Three questions. How many of the high alarms asystole, ventricular tachycardia and ventricular fibrillation are false,
per hour. Whether every episode of
flutter or fibrillation (record 207) and every run of five or more ventricular beats faster than 100 /min was raised,
or stood already, within 10 s of its
definition's being met. And atrial fibrillation by time, as WFDB's epicmp counts it (sensitivity and specificity of
the stream's rhythm), with the
time from each onset to its being known.

What counts as true: asystole, a reference interval of 4 s and more; tachycardia and fibrillation, an alarm from a
second before the reference episode to 10 s
after its end; either of the two within an episode of the other. These figures are
optimistic: the choices made for the fibrillation and the tachycardia rules (which texture, how many beats, what may speak against
them) and for atrial fibrillation were looked at on these very records, and the beat model, which the tachycardia rule and the rhythm
need, was trained on half of them (DS1). DS2 stands apart for the model alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout
    sys.path.insert(0, str(ROOT))

from benchmarks.mitdb_sets import DS2  # noqa: E402
from edge_agent import events  # noqa: E402
from edge_agent.inference.judge import Judge  # noqa: E402
from edge_agent.inference.loaded import load_models, shipped_models  # noqa: E402
from edge_agent.replay import Settings, replay  # noqa: E402

MODELS = ("ecg-beat-aami", "ecg-af-rr")
FATAL = ("asystole", "ventricular_tachycardia", "ventricular_fibrillation")
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
LATEST_S = 10.0
AFTER_S = 10.0
FS = 360.0

Span = tuple[float, float]


@dataclass(slots=True)
class Truth:
    flutter: list[Span] = field(default_factory=list)
    runs: list[tuple[float, float, float, int]] = field(default_factory=list)
    """First beat, definition met, last beat, beats."""
    pauses: list[Span] = field(default_factory=list)
    rhythm: list[tuple[float, str]] = field(default_factory=list)
    length_s: float = 0.0


def truth_of(path: Path) -> Truth:
    import wfdb

    annotation = wfdb.rdann(str(path), "atr")
    truth = Truth(length_s=wfdb.rdheader(str(path)).sig_len / FS)
    begun: float | None = None
    run: list[float] = []
    before: float | None = None
    for sample, symbol, note in zip(annotation.sample, annotation.symbol, annotation.aux_note, strict=True):
        at = sample / FS
        if symbol == "+":
            truth.rhythm.append((at, note.strip("\0").strip("(")))
        elif symbol == "[":
            begun, before = at, None
        elif symbol == "]" and begun is not None:
            truth.flutter.append((begun, at))
            begun = None
        elif symbol in BEATS:
            if before is not None and at - before >= 4.0:
                truth.pauses.append((before, at))
            before = at
            if symbol in "VE":
                run.append(at)
            else:
                _take_run(run, truth)
                run = []
    _take_run(run, truth)
    return truth


def _take_run(run: Sequence[float], truth: Truth) -> None:
    for i in range(len(run) - 4):
        if 240.0 / (run[i + 4] - run[i]) > 100.0:
            truth.runs.append((run[0], run[i + 4], run[-1], len(run)))
            return


@dataclass(slots=True)
class Said:
    alarms: list[events.Alarm] = field(default_factory=list)
    rhythms: list[events.Rhythm] = field(default_factory=list)

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.Alarm):
            self.alarms.append(event)
        elif isinstance(event, events.Rhythm):
            self.rhythms.append(event)

    def stood(self, kind: str, first: float, last: float) -> float | None:
        """When an alarm of the kind first stood between the two times."""
        since: float | None = None
        for alarm in self.alarms:
            if alarm.kind != kind or alarm.state in ("updated", "suppressed"):
                continue
            at = alarm.known / FS
            if alarm.state == "raised":
                if first <= at <= last:
                    return at
                since = at if at < first else None
            elif since is not None:
                if at > first:
                    return first
                since = None
        return first if since is not None else None


def is_true(alarm: events.Alarm, truth: Truth) -> bool:
    at = alarm.known / FS
    if alarm.kind == "asystole":
        return any(first <= at <= last + AFTER_S for first, last in truth.pauses)
    spans = [*truth.flutter, *((first, last) for first, _, last, _ in truth.runs)]
    return any(first - 1.0 <= at <= last + AFTER_S for first, last in spans)


def by_time(said: Said, truth: Truth) -> np.ndarray:
    """Seconds: fibrillating and said so, and not; not fibrillating and not said so, and said so all the same."""
    n = int(truth.length_s * 10)
    real, claimed = np.zeros(n, bool), np.zeros(n, bool)
    for i, (at, rhythm) in enumerate(truth.rhythm):
        end = truth.rhythm[i + 1][0] if i + 1 < len(truth.rhythm) else truth.length_s
        real[int(at * 10) : int(end * 10)] = rhythm == "AFIB"
    for change in said.rhythms:
        claimed[max(0, int(change.since / FS * 10)) :] = change.rhythm == "AFIB"
    return (
        np.array([(real & claimed).sum(), (real & ~claimed).sum(), (~real & ~claimed).sum(), (~real & claimed).sum()])
        / 10
    )


def onsets(said: Said, truth: Truth) -> list[float | None]:
    """For each onset of fibrillation that lasts a minute and more (the record's beginning is none): seconds until the
    rhythm was known to be so."""
    delays: list[float | None] = []
    for i, (at, rhythm) in enumerate(truth.rhythm):
        end = truth.rhythm[i + 1][0] if i + 1 < len(truth.rhythm) else truth.length_s
        if rhythm != "AFIB" or end - at < 60.0 or at < 1.0:
            continue
        before = [change for change in said.rhythms if change.known / FS <= at]
        if before and before[-1].rhythm == "AFIB":
            delays.append(0.0)
            continue
        known = [
            change.known / FS for change in said.rhythms if change.rhythm == "AFIB" and at < change.known / FS <= end
        ]
        delays.append(known[0] - at if known else None)
    return delays


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("EDGE_AGENT_SHARED", "../shared")) / "data"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--records", nargs="*")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    folder = arguments.data / "mitdb"
    names = arguments.records or sorted(path.stem for path in folder.glob("*.hea"))
    if not names:
        print(f"{folder}: no records here", file=sys.stderr)
        return 1
    judge = Judge(load_models(shipped_models(), list(MODELS)))
    settings = Settings(models=MODELS)
    hours = 0.0
    false, right, kinds = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    delays: dict[str, list[float]] = {"flutter/fibrillation": [], "ventricular run": []}
    missed: list[str] = []
    rhythm, rhythm_ds2 = np.zeros(4), np.zeros(4)
    known: list[float | None] = []
    for name in names:
        truth, said = truth_of(folder / name), Said()
        replay(folder / name, judge, settings, all_leads=True, on_event=said.take, show_progress=False)
        hours += truth.length_s / 3600
        for alarm in said.alarms:
            kinds[alarm.kind, alarm.state] += 1
            if alarm.state == "raised" and alarm.kind in FATAL:
                real = is_true(alarm, truth)
                (right if real else false)[alarm.kind] += 1
                if not real:
                    print(
                        f"{name}  false {alarm.kind} at {alarm.known / FS:.1f} s on {alarm.channel}: {alarm.evidence}",
                        flush=True,
                    )
        wanted = [
            ("flutter/fibrillation", "ventricular_fibrillation", first + 4.0, last, last - first)
            for first, last in truth.flutter
        ]
        wanted += [
            ("ventricular run", "ventricular_tachycardia", met, last, float(count))
            for _, met, last, count in truth.runs
        ]
        for what, kind, met, last, size in wanted:
            at = said.stood(kind, min(met, last) - 4.0, met + LATEST_S)
            if at is None:
                unit = "s" if what.startswith("flutter") else "beats"
                missed.append(f"{name}: {what} of {size:.1f} {unit}, met at {met:.1f} s")
            else:
                delays[what].append(max(0.0, at - met))
        seconds = by_time(said, truth)
        rhythm += seconds
        rhythm_ds2 += seconds if name in DS2 else 0
        known += onsets(said, truth)
    print(f"\n{len(names)} records, {hours:.2f} h\n")
    print("| alarm | raised, true | raised, false | false per hour | suppressed |\n|---|---|---|---|---|")
    for kind in FATAL:
        print(f"| {kind} | {right[kind]} | {false[kind]} | {false[kind] / hours:.2f} | {kinds[kind, 'suppressed']} |")
    print(f"| together | {sum(right.values())} | {sum(false.values())} | {sum(false.values()) / hours:.2f} | |")
    print(
        "\n| episode | raised in time | missed | delay from the definition: median s | longest s |\n|---|---|---|---|---|"
    )
    for what, times in delays.items():
        many = sum(what in one for one in missed)
        if times:
            print(f"| {what} | {len(times)} | {many} | {np.median(times):.1f} | {max(times):.1f} |")
    print("\n".join(["", *missed]))
    for what, (hit, miss, quiet, wrong) in (("all", rhythm), ("DS2", rhythm_ds2)):
        if hit + miss and quiet + wrong:
            print(
                f"atrial fibrillation by time, {what}: sensitivity {hit / (hit + miss):.1%}, specificity {quiet / (quiet + wrong):.1%}"
            )
    found = [delay for delay in known if delay is not None]
    if known:
        in_time = sum(delay <= 60 for delay in found)
        median, longest = np.median(found), max(found)
        print(f"onsets of a minute and more: {len(known)}, known {len(found)}, within 60 s {in_time}")
        print(f"delay median {median:.0f} s, longest {longest:.0f} s")
    others = ", ".join(
        f"{kind} {count}" for (kind, state), count in sorted(kinds.items()) if state == "raised" and kind not in FATAL
    )
    print(f"other alarms raised: {others}")
    if arguments.json is not None:
        figures = {
            "records": len(names),
            "hours": hours,
            "false": dict(false),
            "true": dict(right),
            "in_time": {what: len(times) for what, times in delays.items()},
            "missed": {what: sum(what in one for one in missed) for what in delays},
            "fibrillation_s": {"all": rhythm.tolist(), "DS2": rhythm_ds2.tolist()},
            "onset_delay_s": known,
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
