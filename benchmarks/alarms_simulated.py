"""Random scripts of the simulated patient: is every scripted alarm raised within 10 s of its definition's being met,
and none that is not scripted?

    python -m benchmarks.alarms_simulated [--scripts 1000] [--first 0] [--snr 12 30]
    python -m benchmarks.alarms_simulated --scripts 100 --snr 0 0

Interrupted (SIGINT), it prints the table of what was done.

A script is drawn from its seed alone: six events (`sources.simulated.script.random_script`), each between stretches
of sinus rhythm, with noise of --snr dB on
the ECG all along; the events called noise are at -6 to 0 dB, where the technical alarm is wanted instead of clinical
ones. The patient knows the truth
(`truth.Expectation`); limits are the defaults. Under 12 dB nothing clinical is expected: the last table counts, by kind,
what was raised all the same where the script has it and where it has not, and in how many scripts the technical alarm
came. An alarm that is raised more than once in its episode is listed as said again. tests/alarms/test_simulated_scripts.py runs
a few of these.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_agent import events
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.replay import Settings, run_blocks
from edge_agent.sources.base import Signal, StreamInfo, guess_kind
from edge_agent.sources.open import SIMULATED_UNITS
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import random_script
from edge_agent.sources.simulated.truth import TrueEpisode

FS = 250.0
CHANNELS = ("II", "V", "ABP", "PLETH")
MODELS = ("ecg-beat-aami", "ecg-af-rr")
LATEST_S = 10.0
AFTER_S = 15.0
"""So long after an episode its alarm may still come, and is not one that nobody scripted."""
OF_ECG = frozenset(
    {
        *("asystole", "ventricular_fibrillation", "ventricular_tachycardia", "bradycardia", "tachycardia", "pause"),
        *("atrial_fibrillation", "ventricular_run", "ventricular_couplet", "ventricular_bigeminy", "pulse_lost"),
    }
)


def due_s(kind: str, episode: TrueEpisode) -> float:
    """From an episode's beginning until the definition is met at the latest."""
    beat_s = 60.0 / (episode.episode.rate_per_min or 60.0)
    return {
        "asystole": 4.0,
        "pause": 3.0,
        "ventricular_fibrillation": 4.0,
        "ventricular_tachycardia": 6 * beat_s,
        "ventricular_bigeminy": 8 * beat_s,
        "bradycardia": 6 * beat_s,
        "tachycardia": 18 * beat_s,
        "atrial_fibrillation": 50.0,
        "hypotension": 75.0,
        "hypertension": 75.0,
        "pulse_lost": 6.0,
        "lead_off": 2.0,
        "ecg_noise": 8.0,
        "abp_artifact": 4.0 + 3.0,
        "abp_damped": 4.0 + 3.0,
    }.get(kind, 10.0)


@dataclass(slots=True)
class Outcome:
    raised: Counter[str] = field(default_factory=Counter)
    late: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    unscripted: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Raised a second time in one episode."""
    from_ecg: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Clinical alarms that were raised of the ECG, by kind and whether the script has them there."""
    technical: int = 0
    """Scripts in which `ecg_noise` was raised."""
    delays_s: dict[str, list[float]] = field(default_factory=dict)
    """From the definition's being met, as far as the script tells; negative where it was met sooner than at the latest."""
    own_delays_s: dict[str, list[float]] = field(default_factory=dict)
    """As the events say."""
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        self.raised += other.raised
        self.late += other.late
        self.missed += other.missed
        self.unscripted += other.unscripted
        self.again += other.again
        self.from_ecg += other.from_ecg
        self.technical += other.technical
        self.seconds += other.seconds
        for mine, theirs in ((self.delays_s, other.delays_s), (self.own_delays_s, other.own_delays_s)):
            for kind, listed in theirs.items():
                mine.setdefault(kind, []).extend(listed)


def alarms_of(patient: SimulatedPatient, judge: Judge) -> list[events.Alarm]:
    info = StreamInfo(FS, tuple(Signal(name, guess_kind(name), SIMULATED_UNITS[name]) for name in CHANNELS))
    blocks = iter(lambda: patient.read(round(FS)), None)
    said = run_blocks(info, blocks, judge, Settings(models=tuple(judge.models)), "bed")
    return [event for event in said if isinstance(event, events.Alarm)]


def judge_script(seed: int, judge: Judge, snr_db: tuple[float, float] | None = (12.0, 30.0)) -> Outcome:
    patient = SimulatedPatient(FS, CHANNELS, random_script(seed, snr_db=snr_db), seed)
    alarms = alarms_of(patient, judge)
    episodes = patient.truth.episodes
    noise = any(alarm.kind == "ecg_noise" and alarm.state == "raised" for alarm in alarms)
    outcome = Outcome(seconds=episodes[-1].end / FS, technical=int(noise))
    for episode in episodes:
        for kind in episode.expected:
            _expected(seed, kind, episode, alarms, outcome)
    for alarm in alarms:
        if alarm.state != "raised":
            continue
        around = [one for one in episodes if one.first <= alarm.known <= one.end + AFTER_S * FS]
        if alarm.kind in OF_ECG:
            outcome.from_ecg[alarm.kind, any(alarm.kind in one.expected + one.tolerated for one in around)] += 1
        if not any(alarm.kind in one.expected + one.tolerated for one in around):
            names = ", ".join(one.name for one in around)
            outcome.unscripted.append(f"{seed}: {alarm.kind} at {alarm.known / FS:.1f} s in {names}: {alarm.evidence}")
    return outcome


def _expected(seed: int, kind: str, episode: TrueEpisode, alarms: Sequence[events.Alarm], outcome: Outcome) -> None:
    """It stood already, or is raised in time."""
    standing = False
    for alarm in alarms:
        if alarm.kind == kind and alarm.known < episode.first:
            standing = {"raised": True, "cleared": False}.get(alarm.state, standing)
    said = [one for one in alarms if one.kind == kind and one.state == "raised" and one.known >= episode.first]
    said = [one for one in said if one.known <= episode.end + AFTER_S * FS]
    where = (
        f"{seed}: {kind} in {episode.name} at {episode.first / FS:.0f} s ({(episode.end - episode.first) / FS:.0f} s)"
    )
    if not said:
        if standing:
            outcome.raised[kind] += 1
        else:
            outcome.missed.append(where)
        return
    if len(said) > 1 and kind in OF_ECG:
        outcome.again.append(f"{where}: raised {len(said)} times")
    outcome.raised[kind] += 1
    delay_s = (said[0].known - episode.first) / FS - due_s(kind, episode)
    outcome.delays_s.setdefault(kind, []).append(delay_s)
    outcome.own_delays_s.setdefault(kind, []).append(said[0].delay_ms / 1000)
    if delay_s > LATEST_S and not standing:
        outcome.late.append(f"{where}: {delay_s:.1f} s after its definition")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--snr", type=float, nargs=2, default=(12.0, 30.0), metavar=("LOW", "HIGH"))
    arguments = parser.parse_args()
    judge = Judge(load_models(shipped_models(), list(MODELS)))
    total, done = Outcome(), 0
    try:
        for seed in range(arguments.first, arguments.first + arguments.scripts):
            outcome = judge_script(seed, judge, tuple(arguments.snr))
            for what in ("missed", "late", "unscripted", "again"):
                for line in getattr(outcome, what):
                    print(f"{what} {line}", flush=True)
            total.add(outcome)
            done += 1
    except KeyboardInterrupt:  # what was done counts
        pass
    low, high = arguments.snr
    print(f"\n{done} scripts from seed {arguments.first}, {total.seconds / 3600:.1f} h, {low:g} to {high:g} dB\n")
    print("| alarm | raised | missed | late | unscripted | delay s, median | longest |\n|---|---|---|---|---|---|---|")
    for kind in sorted({*total.raised, *(line.split()[1] for line in (*total.missed, *total.unscripted))}):
        missed, late, extra = (
            sum(line.split()[1] == kind for line in lines) for lines in (total.missed, total.late, total.unscripted)
        )
        delays = total.own_delays_s.get(kind, [0.0])
        print(
            f"| {kind} | {total.raised[kind]} | {missed} | {late} | {extra} | {np.median(delays):.1f} | {max(delays):.1f} |"
        )
    print(f"\nraised a second time in its episode: {len(total.again)}")
    if low < 12.0:
        print(f"\necg_noise was raised in {total.technical} of {done} scripts\n")
        print("| clinical alarm from the ECG | where the script has it | where it has not |\n|---|---|---|")
        for kind in sorted({kind for kind, _ in total.from_ecg}):
            print(f"| {kind} | {total.from_ecg[kind, True]} | {total.from_ecg[kind, False]} |")
    return int(bool(total.missed or total.late or total.unscripted or total.again))


if __name__ == "__main__":
    sys.exit(main())
