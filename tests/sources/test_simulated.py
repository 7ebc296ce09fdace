"""The simulated patient as a source: the same samples always, however they are asked for, at every rate, and fast."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import StreamConfig
from edge_agent.journey import Block, Samples
from edge_agent.sources.open import open_source
from edge_agent.sources.simulated import bits
from edge_agent.sources.simulated.ecg import ECG_LEADS
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import DEMO_SCRIPT, Episode, Script
from edge_agent.sources.simulated.truth import KEPT_S, Truth

TOUR = Script(
    (
        Episode("sinus", 6, pvc_per_min=20, pac_per_min=10),
        Episode("fibrillation", 5, "af", 110, snr_db=10, noise=("white", "muscle", "wander", "motion", "mains")),
        Episode("lead off", 3, lead_off=frozenset({"II"}), line="damped"),
        Episode("tachycardia", 4, "vt", line="flush", pulse_snr_db=15),
        Episode("chaos", 3.3, "vf"),
        Episode("probe off", 2.7, "paced", lead_off=frozenset({"II", "PLETH"}), line="clipped"),
        Episode("flutter", 4, "flutter", line="drift"),
        Episode("waves", 3, "vflutter", line="disconnected"),
    )
)
"""A little of everything that a sample can depend on."""

DIGESTS = {
    250.0: "bb14962ea28dbd7240b5e5526ba4aa4fa486c87bd2084ffcb51f692cf71e4162",
    360.0: "a8f56564cd0539d512a78daee5ad410b644756680f511ece41c50e22e3a4f6ea",
    999.0: "13800a5228e6c090b649cca339e2ad22a756d0768b71702458eb625926e440bc",
}


def blocks(patient: SimulatedPatient, lengths: Sequence[int]) -> list[Block]:
    """Everything, asked for in these lengths over and over."""
    out: list[Block] = []
    turn = 0
    while (block := patient.read(lengths[turn % len(lengths)])) is not None:
        out.append(block)
        turn += 1
    return out


def joined(found: Sequence[Block]) -> Samples:
    return np.concatenate([block.values for block in found], axis=1)


@pytest.mark.parametrize("fs", DIGESTS)
def test_a_seed_gives_the_same_bytes_on_every_machine(fs: float) -> None:
    values = joined(blocks(SimulatedPatient(fs, script=TOUR, seed=7), [1000]))
    values = np.where(np.isnan(values), np.float32(-999.0), values)
    assert hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest() == DIGESTS[fs]


def test_seeds_differ() -> None:
    one, two = (joined(blocks(SimulatedPatient(250, script=TOUR, seed=seed), [1000])) for seed in (1, 2))
    assert one.shape == two.shape
    assert not np.array_equal(one, two, equal_nan=True)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    fs=st.sampled_from([100.0, 250.0, 333.3, 360.0]),
)
def test_samples_and_truth_do_not_depend_on_the_cut(lengths: list[int], fs: float) -> None:
    patient, whole = (SimulatedPatient(fs, script=TOUR, seed=3) for _ in range(2))
    cut = blocks(patient, lengths)
    reference = blocks(whole, [10**6])
    np.testing.assert_array_equal(joined(cut), joined(reference))
    at = 0
    for block in cut:
        assert block.first == at
        assert block.lost_before == 0
        at = block.end
    assert patient.truth.beats == whole.truth.beats
    assert patient.truth.pulses == whole.truth.pulses
    assert patient.truth.episodes == whole.truth.episodes


def test_one_sample_at_a_time() -> None:
    script = Script(TOUR.episodes[:3])
    cut = joined(blocks(SimulatedPatient(100, script=script), [1]))
    np.testing.assert_array_equal(cut, joined(blocks(SimulatedPatient(100, script=script), [777])))


@pytest.mark.parametrize("chunk_s", [1.0, 4.7, 30.0])
def test_samples_do_not_depend_on_the_chunks_inside(chunk_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No seam where one rendered chunk ends and the next begins: only the last bits of a sum may differ."""
    usual = SimulatedPatient(250, script=TOUR)
    monkeypatch.setattr("edge_agent.sources.simulated.patient._CHUNK_S", chunk_s)
    other = SimulatedPatient(250, script=TOUR)
    one, two = joined(blocks(usual, [500])), joined(blocks(other, [500]))
    steps = np.array([[0.001], [0.001], [0.01], [0.0001]])
    assert np.nanmax(np.abs(one - two) / steps) < 1.5
    assert np.mean(one != two) < 0.2
    assert usual.truth.beats == other.truth.beats
    assert [pulse.sample for pulse in usual.truth.pulses] == [pulse.sample for pulse in other.truth.pulses]


def test_a_channel_does_not_depend_on_the_others() -> None:
    every = joined(blocks(SimulatedPatient(250, ("II", "V", "ABP", "PLETH"), TOUR), [500]))
    for row, name in enumerate(("II", "V", "ABP", "PLETH")):
        alone = joined(blocks(SimulatedPatient(250, (name,), TOUR), [500]))
        np.testing.assert_array_equal(alone[0], every[row])


def test_blocks_are_cut_where_a_lead_comes_off() -> None:
    found = blocks(SimulatedPatient(250, script=TOUR), [10**6])
    assert [block.lead_off for block in found] == [
        frozenset(),
        frozenset({"II"}),
        frozenset(),
        frozenset({"II", "PLETH"}),
        frozenset(),
    ]
    assert [block.first for block in found] == [0, 11 * 250, 14 * 250, round(21.3 * 250), 24 * 250]
    for block in found:
        for row, name in enumerate(("II", "V", "ABP", "PLETH")):
            assert bool(np.isnan(block.values[row]).all()) == (name in block.lead_off)
            assert bool(np.isnan(block.values[row]).any()) == (name in block.lead_off)


def test_a_lead_that_this_patient_lacks_cuts_nothing() -> None:
    script = Script((Episode(), Episode(lead_off=frozenset({"V6"})), Episode()))
    assert len(blocks(SimulatedPatient(250, script=script), [10**6])) == 1


@pytest.mark.parametrize("fs", [100, 128, 250, 333.3, 360, 500, 1000])
def test_every_rate_has_the_same_patient(fs: float) -> None:
    script = Script((Episode("sinus", 12, pvc_per_min=10), Episode("af", 12, "af")))
    patient, reference = SimulatedPatient(fs, script=script, seed=5), SimulatedPatient(1000, script=script, seed=5)
    values, fine = joined(blocks(patient, [997])), joined(blocks(reference, [997]))
    assert values.shape == (4, int(np.ceil(24 * fs)))
    assert len(patient.truth.beats) == len(reference.truth.beats) > 20
    for one, two in zip(patient.truth.beats, reference.truth.beats, strict=True):
        assert abs(one.sample / fs - two.sample / 1000) <= 0.5 / fs + 0.0006
        assert one.label == two.label
    # The same pressure at the same instants, whatever the rate of integration.
    t = np.arange(values.shape[1]) / fs
    expected = np.interp(t, np.arange(fine.shape[1]) / 1000, fine[2])
    assert np.sqrt(np.mean((values[2] - expected) ** 2)) < 0.5


def test_all_leads_obey_einthoven() -> None:
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", *(f"V{n}" for n in range(1, 7)))
    values = joined(blocks(SimulatedPatient(360, leads, Script((Episode("x", 20, pvc_per_min=15),))), [5000]))
    one, two, three, right, left, foot = values[:6]
    # Each lead has its amplifier's own noise (4 uV rms): six of it is a loose bound on what three of them add.
    assert np.abs(one + three - two).max() < 0.05
    assert np.abs(right + left + foot).max() < 0.05
    assert np.abs(two).max() > 0.5


def test_an_endless_patient_repeats_its_script_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.simulated.truth.KEPT_S", 60.0)
    script = Script((Episode("a", 10), Episode("b", 10.1, "af", lead_off=frozenset({"V"}))))
    patient = SimulatedPatient(100, script=script, forever=True)
    while patient.position < 600 * 100:
        assert patient.read(1000) is not None
    names = [episode.name for episode in patient.truth.episodes]
    assert names[:4] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    assert len(names) <= 8
    assert min(beat.sample for beat in patient.truth.beats) >= patient.position - 6000
    assert min(pulse.sample for pulse in patient.truth.pulses) >= patient.position - 6000
    assert len(patient.truth.beats) > 60
    assert KEPT_S >= 600


def test_truth_says_nothing_of_what_was_not_read() -> None:
    patient = SimulatedPatient(250, script=TOUR)
    assert not patient.truth.beats
    assert not patient.truth.episodes
    patient.read(500)
    assert all(beat.sample < 500 for beat in patient.truth.beats)
    assert len(patient.truth.beats) >= 1
    assert [episode.name for episode in patient.truth.episodes] == ["sinus"]
    assert isinstance(patient.truth, Truth)


def test_the_end_is_the_end() -> None:
    patient = SimulatedPatient(100, ("II",), Script((Episode("x", 1.005),)))
    block = patient.read(1000)
    assert block is not None
    assert block.end == 101
    assert patient.read(1) is None
    assert patient.read(1) is None


def test_output_is_rounded_to_its_step() -> None:
    values = joined(blocks(SimulatedPatient(250, script=Script(TOUR.episodes[:2])), [997])).astype(float)
    for row, steps in enumerate((1000, 1000, 100, 10_000)):
        scaled = values[row] * steps
        assert np.abs(scaled - np.rint(scaled)).max() < 0.01


def test_speed() -> None:
    """Measured at some 1,300 times real time; the bound asked is 200, and a busy machine gets some room."""
    patient = SimulatedPatient(360, script=DEMO_SCRIPT)
    patient.read(3600)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(int(90 * 360 / 36)):
            assert patient.read(36) is not None
        best = max(best, 90 / (time.perf_counter() - start))
    assert best > 200, f"{best:.0f} times real time"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fs": 99}, "allowed: 100 to 1000"),
        ({"fs": 1001}, "allowed: 100 to 1000"),
        ({"fs": float("nan")}, "allowed: 100 to 1000"),
        ({"channels": ()}, "list of one or more of I, II"),
        ({"channels": "II"}, "list of one or more of I, II"),
        ({"channels": ("II", "EEG")}, "'EEG' is not known; allowed: I, II"),
        ({"channels": ("II", "II")}, "twice"),
        ({"seed": -1}, "whole number"),
        ({"mains_hz": 55.0}, "50 or 60"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatedPatient(**({"fs": 250.0} | change))  # type: ignore[arg-type]


def test_nothing_is_asked_for() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        SimulatedPatient(250).read(0)


def test_any_two_channels_by_any_name() -> None:
    names = (*ECG_LEADS, "ABP", "PLETH")
    values = joined(blocks(SimulatedPatient(100, names, Script((Episode("x", 5),))), [100]))
    assert values.shape == (len(names), 500)
    assert (values.std(axis=1) > 0.005).all()
    # An alias is its lead but for the amplifier's noise.
    assert np.abs(values[names.index("V")] - values[names.index("V1")]).max() < 0.05


def test_random_numbers_are_splitmix64() -> None:
    """The first outputs of the generator's reference code with the state 1234567."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    for index, value in enumerate(expected):
        assert bits.uniform(1234567, index) == ((value >> 11) + 0.5) * 2.0**-53
    np.testing.assert_array_equal(bits.uniforms(1234567, 1, 4), [bits.uniform(1234567, n) for n in range(1, 5)])


@given(first=st.integers(0, 10**12), count=st.integers(0, 50), skip=st.integers(0, 20))
def test_random_numbers_by_index(first: int, count: int, skip: int) -> None:
    key = bits.stream_key(3, "test")
    np.testing.assert_array_equal(bits.normals(key, first, skip + count)[skip:], bits.normals(key, first + skip, count))
    np.testing.assert_array_equal(
        bits.uniforms(key, first, skip + count)[skip:], bits.uniforms(key, first + skip, count)
    )


def test_random_numbers_are_normal() -> None:
    x = bits.normals(bits.stream_key(0, "test"), 0, 200_000)
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1.0) < 0.01
    assert abs(np.mean(x**4) - 3.0) < 0.1
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.01


@pytest.mark.parametrize(
    "episode",
    [
        Episode("x", 20, snr_db=6, noise=("muscle", "wander")),
        Episode("x", 20, line="damped", pulse_snr_db=10),
        Episode("x", 20, "af", snr_db=20),
        Episode("x", 20, "flutter"),
    ],
)
def test_episodes_join_without_a_seam(episode: Episode) -> None:
    """Two episodes that differ in name only are one: noise, fault and fibrillation go on through the boundary."""
    whole = joined(blocks(SimulatedPatient(250, script=Script((episode,))), [999]))
    halves = Script((replace(episode, duration_s=10), replace(episode, name="y", duration_s=10)))
    np.testing.assert_array_equal(joined(blocks(SimulatedPatient(250, script=halves), [999])), whole)


def test_a_stream_keeps_little_of_a_truth_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped configuration is a simulated patient, for ever."""
    made: list[SimulatedPatient] = []

    def make(*given: Any, **named: Any) -> SimulatedPatient:
        made.append(SimulatedPatient(*given, **named))
        return made[-1]

    monkeypatch.setattr("edge_agent.sources.open.SimulatedPatient", make)
    stream = {"name": "x", "source": {"type": "simulated", "forever": True}}
    open_source(StreamConfig.model_validate(stream)).close()
    (patient,) = made
    for _ in range(40):
        patient.read(round(10 * patient.fs))
    assert 40 <= len(patient.truth.beats) <= 200  # of about 500
