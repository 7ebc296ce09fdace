"""Scripts: what they refuse, how they are written down, and the alarms that they call for."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import SimulatedSource
from edge_agent.errors import SourceError
from edge_agent.sources.open import load_script
from edge_agent.sources.simulated import patient
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import (
    DEMO_SCRIPT,
    RHYTHM_RATES,
    RHYTHMS,
    Episode,
    Script,
    Timeline,
    random_script,
    script_from_dict,
    script_to_dict,
)
from edge_agent.sources.simulated.truth import Expectation, TrueEpisode

CHANNELS = ("II", "V", "ABP", "PLETH")


def expected(*episodes: Episode, channels: tuple[str, ...] = CHANNELS) -> list[tuple[set[str], set[str]]]:
    """(expected, tolerated) of each episode."""
    timeline = Timeline(Script(episodes), forever=False)
    walk = Expectation(channels)
    out = []
    for index in range(len(episodes)):
        span = timeline.span(index)
        assert span is not None
        sure, perhaps = walk.of(span)
        assert not set(sure) & set(perhaps)
        out.append((set(sure), set(perhaps)))
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rhythm": "sinsu"}, "rhythm 'sinsu' is not known; allowed: sinus, lbbb"),
        ({"line": "kinked"}, "line 'kinked' is not known; allowed: damped, flush"),
        ({"noise": ("hum",)}, "noise 'hum' is not known; allowed: white"),
        ({"noise": ()}, "one or more of white"),
        ({"noise": "white"}, "one or more of white"),
        ({"noise": ("white", "white")}, "twice"),
        ({"duration_s": 0.5}, "duration_s is 0.5; allowed: 1 to 86400"),
        ({"duration_s": float("inf")}, "duration_s is inf"),
        ({"rate_per_min": 300}, "allowed: 15 to 250"),
        ({"rhythm": "asystole", "rate_per_min": 60}, "rate_per_min of asystole"),
        ({"systolic_mmhg": 85}, "allowed: 90 to 260"),
        ({"diastolic_mmhg": 10}, "allowed: 25 to 160"),
        ({"transit_ms": 20}, "allowed: 80 to 400"),
        ({"snr_db": 100}, "allowed: -20 to 80"),
        ({"pulse_snr_db": float("nan")}, "allowed: -20 to 80"),
        ({"rate_per_min": True}, "must be a number"),
    ],
)
def test_an_episode_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Episode(**({"name": "x"} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "episodes must be a list"),
        ({"episodes": []}, "one or more"),
        ({"episodes": 3}, "must be a list"),
        ({"episodes": [3]}, "episode 1: must be a table"),
        ({"episode": []}, "episode not known; allowed: episodes"),
        ({"episodes": [{}, {"rythm": "af"}]}, "episode 2: rythm not known; allowed: name, duration_s, rhythm"),
        ({"episodes": [{"rhythm": "fibrillation"}]}, "episode 1: .*'fibrillation' is not known; allowed: sinus"),
        ({"episodes": [{"rhythm": 3}]}, "rhythm must be text"),
        ({"episodes": [{"duration_s": "long"}]}, "duration_s must be a number, not 'long'"),
        ({"episodes": [{"noise": "white"}]}, "noise must be a list of names"),
        ({"episodes": [{"lead_off": [1]}]}, "lead_off must be a list of names"),
        ({"episodes": [{}, {"noise": ["white"]}]}, "episode 2: noise without snr_db would be none at all; add one"),
        ({"episodes": [{"pulseless": 1}]}, "pulseless must be true or false"),
    ],
)
def test_a_dictionary_is_refused_with_its_place(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        script_from_dict(data)


def test_a_script_in_toml() -> None:
    text = """
    [[episodes]]
    duration_s = 20
    [[episodes]]
    name = "the worst"
    rhythm = "vf"
    duration_s = 12.5
    snr_db = 10
    noise = ["white", "mains"]
    lead_off = ["V"]
    """
    assert script_from_dict(tomllib.loads(text)) == Script(
        (
            Episode("sinus rhythm", 20.0),
            Episode("the worst", 12.5, "vf", snr_db=10.0, noise=("white", "mains"), lead_off=frozenset({"V"})),
        )
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[[episodes]]\n[[episodes]]\nlead_off = ["II", "aVF"]\n',
         "script: episode 2: lead_off 'aVF' is no channel of a simulated patient; allowed: II, V, ABP, PLETH"),
        ('[[episodes]]\nname = "ruhig"\n'.encode("utf-16"), "is not text in UTF-8\n  save it as text, in UTF-8"),
        (b"a = " + b"[" * 5000, "is not valid TOML: nested too deeply"),
    ],
    ids=["lead", "utf-16", "nested"],
)  # fmt: skip
def test_a_file_is_refused_in_words(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(SourceError) as refused:
        load_script(SimulatedSource(type="simulated", script=file))
    assert str(refused.value).startswith(f"{file}: {message}")


def test_a_file_may_serve_several_patients(tmp_path: Path) -> None:
    """A lead that this one has not, but another may; a byte order mark, as some editors write one."""
    file = tmp_path / "mine.toml"
    file.write_bytes(b'\xef\xbb\xbf[[episodes]]\nlead_off = ["V"]\n')
    source = SimulatedSource(type="simulated", script=file, channels=["II"])
    assert load_script(source).episodes[0].lead_off == {"V"}
    file.write_text('[[episodes]]\nlead_off = ["aVF"]\n')
    assert load_script(source, patient.CHANNELS).episodes[0].lead_off == {"aVF"}  # an emulated board's


def test_noise_of_no_strength_is_not_written_down() -> None:
    script = Script((Episode(noise=("white",)),))
    assert script_from_dict(script_to_dict(script)) == Script((Episode(),))


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        Script(())


@given(seed=st.integers(0, 10**6))
def test_scripts_survive_writing_down(seed: int) -> None:
    script = random_script(seed)
    assert script_from_dict(script_to_dict(script)) == script
    assert script_from_dict(script_to_dict(DEMO_SCRIPT)) == DEMO_SCRIPT


def test_every_rhythm_runs_with_nothing_but_its_name() -> None:
    for rhythm in RHYTHMS:
        episode = Episode("x", 5, rhythm)
        assert episode.rate_per_min == RHYTHM_RATES[rhythm]
        patient = SimulatedPatient(100, script=Script((episode,)))
        while patient.read(100) is not None:
            pass
        assert patient.truth.episodes[0].rhythm == rhythm


def test_timeline() -> None:
    script = Script((Episode("a", 3.7), Episode("b", 2.2)))
    once, ever = Timeline(script, False), Timeline(script, True)
    assert once.span(2) is None
    assert once.span(-1) is None
    end = 0.0
    for index in range(1000):
        span = ever.span(index)
        assert span is not None
        assert span.episode.name == "ab"[index % 2]
        assert span.start_s == end
        end = span.end_s
    assert end == pytest.approx(500 * 5.9)


# ---- which alarms a script calls for


def test_the_demo_calls_for_each_of_its_alarms_once() -> None:
    found = expected(*DEMO_SCRIPT.episodes)
    calls = [
        (episode.name, kind) for episode, (sure, _) in zip(DEMO_SCRIPT.episodes, found, strict=True) for kind in sure
    ]
    assert calls == [
        ("atrial fibrillation", "atrial_fibrillation"),
        ("noisy stretch", "ecg_noise"),
        ("ventricular tachycardia", "ventricular_tachycardia"),
        ("asystole", "asystole"),
        ("damped line", "abp_damped"),
        ("flushed line", "abp_artifact"),
        ("hypotension", "hypotension"),
        ("lead off", "lead_off"),
    ]
    assert 360 < DEMO_SCRIPT.duration_s < 430
    for before, here in zip(DEMO_SCRIPT.episodes, DEMO_SCRIPT.episodes[1:], strict=False):
        if before.name not in ("sinus rhythm", "ventricular beats"):
            assert "sinus recovery" in (before.name, here.name)


@pytest.mark.parametrize(
    ("episode", "sure"),
    [
        (Episode(), set()),
        (Episode("x", 3.0, "asystole"), set()),
        (Episode("x", 4.0, "asystole"), {"pause"}),
        (Episode("x", 5.0, "asystole"), {"asystole"}),
        (Episode("x", 30, rate_per_min=35), {"bradycardia"}),
        (Episode("x", 30, rate_per_min=40), set()),
        (Episode("x", 10, rate_per_min=35), set()),
        (Episode("x", 30, rate_per_min=150), {"tachycardia"}),
        (Episode("x", 30, rate_per_min=130), set()),
        (Episode("x", 30, "svt"), {"tachycardia"}),
        (Episode("x", 10, "vt", 120), {"ventricular_tachycardia"}),
        (Episode("x", 30, "vt", 90), set()),
        (Episode("x", 10, "vf"), {"ventricular_fibrillation"}),
        (Episode("x", 44, "af"), set()),
        (Episode("x", 46, "af"), {"atrial_fibrillation"}),
        (Episode("x", 60, systolic_mmhg=75, diastolic_mmhg=45), set()),
        (Episode("x", 80, systolic_mmhg=75, diastolic_mmhg=45), {"hypotension"}),
        (Episode("x", 80, systolic_mmhg=220, diastolic_mmhg=125), {"hypertension"}),
        (Episode("x", 80, systolic_mmhg=75, diastolic_mmhg=45, line="disconnected"), {"abp_artifact"}),
        (Episode("x", 20, line="damped"), {"abp_damped"}),
        (Episode("x", 20, snr_db=0), {"ecg_noise"}),
        (Episode("x", 20, snr_db=12), set()),
        (Episode("x", 20, "vf", snr_db=0), {"ecg_noise"}),
        (Episode("x", 20, lead_off=frozenset({"V"})), {"lead_off"}),
        (Episode("x", 20, "asystole", lead_off=frozenset({"II", "V"})), {"lead_off"}),
        (Episode("x", 20, "asystole", lead_off=frozenset({"V"})), {"asystole", "lead_off"}),
        (Episode("x", 60, pvc_per_min=15), set()),
    ],
)
def test_expected_alarms(episode: Episode, sure: set[str]) -> None:
    assert expected(Episode(), episode)[1][0] == sure


@pytest.mark.parametrize("rhythm", ["vf", "vflutter"])
def test_a_fibrillation_is_no_asystole(rhythm: str) -> None:
    sure, perhaps = expected(Episode(), Episode("x", 40, rhythm))[1]
    assert sure == {"ventricular_fibrillation"}
    assert "asystole" not in perhaps


def test_a_condition_adds_up_over_episodes() -> None:
    half = Episode("x", 30, "af")
    assert [sure for sure, _ in expected(half, half, Episode(), half)] == [
        set(),
        {"atrial_fibrillation"},
        set(),
        set(),
    ]


def test_what_cannot_be_seen_is_not_expected() -> None:
    low = Episode("x", 90, "af", systolic_mmhg=75, diastolic_mmhg=45, line="damped", lead_off=frozenset({"V"}))
    assert expected(replace(low, line=None), channels=("II",))[0][0] == {"atrial_fibrillation"}
    assert expected(low, channels=("ABP",))[0][0] == {"abp_damped"}
    assert expected(low, channels=("V", "ABP"))[0][0] == {"lead_off", "abp_damped"}


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_random_scripts_are_beyond_argument(seed: int) -> None:
    script = random_script(seed)
    found = expected(*script.episodes)
    kinds = {
        "bradycardia": "bradycardia",
        "tachycardia": "tachycardia",
        "af": "atrial_fibrillation",
        "vt": "ventricular_tachycardia",
        "vf": "ventricular_fibrillation",
        "asystole": "asystole",
        "hypotension": "hypotension",
        "hypertension": "hypertension",
        "pause": "pause",
        "pulseless": "pulse_lost",
        "bigeminy": "ventricular_bigeminy",
        "damped": "abp_damped",
        "flush": "abp_artifact",
        "disconnected": "abp_artifact",
        "lead_off": "lead_off",
        "noise": "ecg_noise",
    }
    for episode, (sure, _) in zip(script.episodes, found, strict=True):
        assert sure == ({kinds[episode.name]} if episode.name in kinds else set()), episode
    assert len(script.episodes) == 13
    assert random_script(seed) == script
    assert random_script(seed + 1) != script


def test_random_scripts_of_one_kind() -> None:
    script = random_script(1, episodes=3, snr_db=None, kinds=("vt",), lead="V")
    assert [episode.name for episode in script.episodes[1::2]] == ["vt"] * 3
    assert all(episode.snr_db is None for episode in script.episodes)
    with pytest.raises(ValueError, match="kind 'tv' is not known; allowed: sinus"):
        random_script(1, kinds=("tv",))
    with pytest.raises(ValueError, match="at least one"):
        random_script(1, episodes=0)


def test_truth_carries_the_expectations() -> None:
    patient = SimulatedPatient(100, script=Script((Episode("a", 5), Episode("b", 6, "asystole"), Episode("c", 5))))
    while patient.read(77) is not None:
        pass
    found: tuple[TrueEpisode, ...] = patient.truth.episodes
    assert [(episode.name, episode.first, episode.end, episode.expected) for episode in found] == [
        ("a", 0, 500, ()),
        ("b", 500, 1100, ("asystole",)),
        ("c", 1100, 1600, ()),
    ]


def _met(patient: SimulatedPatient) -> list[tuple[str, float]]:
    """Every alarm whose definition the true beats and pulses meet, and when: the definitions, not the script."""
    fs = patient.fs
    out: list[tuple[str, float]] = []
    beats = patient.truth.beats
    at = [beat.sample / fs for beat in beats]
    chaos = [(e.first / fs, e.end / fs) for e in patient.truth.episodes if e.rhythm == "vf"]
    out += [("ventricular_fibrillation", start + 4.0) for start, _ in chaos]
    for before, here in pairwise(at):
        if here - before >= 4.0 and not any(before < end and here > start for start, end in chaos):
            out.append(("asystole", before + 4.0))
    for n in range(len(at)):
        if n >= 5 and 300.0 / (at[n] - at[n - 5]) < 40.0 and max(b - a for a, b in pairwise(at[n - 5 : n + 1])) < 4.0:
            out.append(("bradycardia", at[n]))
        if n >= 17 and 1020.0 / (at[n] - at[n - 17]) > 140.0:
            out.append(("tachycardia", at[n]))
        run = beats[max(n - 4, 0) : n + 1]
        if len(run) == 5 and all(beat.label == "V" for beat in run) and 240.0 / (at[n] - at[n - 4]) > 100.0:
            out.append(("ventricular_tachycardia", at[n]))
    low_since = high_since = None
    for pulse in patient.truth.pulses:
        here = pulse.sample / fs
        low_since = (here if low_since is None else low_since) if pulse.mean < 65.0 else None
        high_since = (here if high_since is None else high_since) if pulse.mean > 130.0 else None
        if low_since is not None and here - low_since >= 60.0:
            out.append(("hypotension", here))
        if high_since is not None and here - high_since >= 60.0:
            out.append(("hypertension", here))
    return out


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_expectations_follow_from_the_true_beats_and_pulses(seed: int) -> None:
    """The script's word against the definitions applied to the truth: nothing expected that is not met, none met
    that is neither expected nor tolerated."""
    patient = SimulatedPatient(100, CHANNELS, random_script(seed), seed)
    while patient.read(5000) is not None:
        pass
    met = _met(patient)
    episodes = [(e, e.first / patient.fs, e.end / patient.fs) for e in patient.truth.episodes]
    defined = {
        "asystole",
        "bradycardia",
        "tachycardia",
        "ventricular_tachycardia",
        "ventricular_fibrillation",
        "hypotension",
        "hypertension",
    }
    for episode, start_s, end_s in episodes:
        for kind in set(episode.expected) & defined:
            assert any(name == kind and start_s < when < end_s + 1.0 for name, when in met), (kind, start_s)
    for name, when in met:
        # what a rhythm leaves behind when it ends belongs to it still
        near = [e for e, start_s, end_s in episodes if start_s <= when <= end_s + 6.0]
        assert any(name in (*e.expected, *e.tolerated) for e in near), (name, when)
