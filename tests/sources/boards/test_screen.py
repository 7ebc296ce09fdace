"""The screen behind the decoders without a check: impossible samples go, an ECG stays, cuts change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plausibility import PACED, UNSEEN, decoded, from_record, judge, simulated
from benchmarks.serial_faults import samples_of
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Chunk, Codec, Counters
from edge_agent.sources.boards.screen import AHEAD, LONGEST_LOSS, TIMES_SURE, Screened
from edge_agent.sources.emulated import options_for
from edge_agent.sources.line_faults import Damage, Faults

UNCHECKED = [board.name for board in registry.boards() if not board.checked]
OFF = frozenset({"ECG"})


class Ready:
    """A decoder that has its chunks already: one for each byte."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self.counters = Counters()
        self.numbers: dict[str, float] = {}
        self._chunks = chunks

    def decode(self, data: bytes) -> list[Chunk]:
        taken, self._chunks = self._chunks[: len(data)], self._chunks[len(data) :]
        return [replace(chunk, values=chunk.values.copy()) for chunk in taken]

    def flush(self) -> list[Chunk]:
        return []


def screened(chunks: list[Chunk], at_once: int = 1) -> tuple[list[Chunk], Counters]:
    screen = Screened(Ready(chunks), registry.codec("max30003").board)
    out = [chunk for _ in range(0, len(chunks), at_once) for chunk in screen.decode(bytes(at_once))]
    return out + screen.flush(), screen.counters


def chunk(values: np.ndarray, lost: int = 0, off: frozenset[str] = frozenset()) -> Chunk:
    return Chunk(np.asarray(values, np.float32)[None], lost, not lost, off)


def beats(count: int, fs: float = 128.0) -> np.ndarray:
    """R waves of 1 mV on a slow wave, in steps and with noise of 5 uV."""
    t = np.arange(count) / fs
    phase = (t + 0.4) % 0.8 - 0.4
    noise = np.random.default_rng(4).normal(0, 0.005, count)
    return np.asarray(np.exp(-((phase / 0.012) ** 2)) + 0.2 * np.sin(t) + noise, np.float32)


@pytest.mark.parametrize("error_mv", [0.1, -0.3, 1.0, -5.0, 50.0])
def test_one_sample_that_jumps_away_and_back_is_given_up(error_mv: float) -> None:
    values = beats(2000)
    spoilt = values.copy()
    at = 1000 + 50 + 3  # away from an R wave
    spoilt[at] += error_mv
    chunks, counters = screened([chunk(part) for part in np.split(spoilt, 200)])
    got = samples_of(chunks, 1)[0]
    assert np.flatnonzero(np.isnan(got)).tolist() == [at]
    np.testing.assert_array_equal(np.delete(got, at), np.delete(values, at))
    assert counters.values_implausible == 1


def test_beats_and_steps_and_a_pacemaker_stay() -> None:
    values = beats(6000)
    values[3000:] += 2.0  # a step stays: it does not come back
    chunks, _ = screened([chunk(values)])
    assert not np.isnan(samples_of(chunks, 1)).any()
    paced = beats(6000)
    paced[20::102] += 0.25  # a spike of one sample, every beat
    lost = np.flatnonzero(np.isnan(samples_of(screened([chunk(paced)])[0], 1)[0]))
    assert len(lost) <= TIMES_SURE
    assert (lost < 20 + TIMES_SURE * 102).all()  # the first ones are like nothing seen before


def test_each_sample_comes_once_with_its_gap_and_its_lead() -> None:
    values = beats(400)
    chunks = [chunk(values[:100]), chunk(values[100:110], 3), chunk(values[110:200], 0, OFF), chunk(values[200:], 900)]
    out, _ = screened(chunks)
    assert samples_of(out, 1).shape[1] == 400
    starts = np.cumsum([0, *(one.values.shape[1] for one in out)])[:-1]
    assert {int(at): one.lost_before for at, one in zip(starts, out, strict=True) if one.lost_before} == {
        100: 3,
        200: 900,
    }
    assert [one.lost_exact for one in out if one.lost_before] == [False, False]
    off = np.concatenate([np.full(one.values.shape[1], one.lead_off == OFF) for one in out])
    np.testing.assert_array_equal(np.flatnonzero(off), np.arange(110, 200))


def test_what_is_held_is_said() -> None:
    codec = registry.codec("max30003")
    data = codec.encoder().encode(beats(100)[None])
    assert codec.board.held == AHEAD
    assert codec.board.delay_s == AHEAD / 128
    assert samples_of(codec.decoder().decode(data), 1).shape[1] == 100 - AHEAD
    assert registry.codec("healthypi4").board.delay_s == pytest.approx((80 + AHEAD) / 125)


@pytest.mark.parametrize("name", UNCHECKED)
@given(seed=st.integers(0, 2**20), choices=st.data())
@settings(max_examples=12, deadline=None)
def test_any_cut_gives_the_same(name: str, seed: int, choices: st.DataObject) -> None:
    codec = registry.codec(name, **options_for(name))
    data = Damage(Faults(drop=0.002, flip=0.004, seed=seed)).spoil(codec.encoder().encode(simulated(codec, name, 0.1)))
    places = sorted(choices.draw(st.lists(st.integers(0, len(data)), max_size=40)))
    assert _cut(codec, data, places) == _cut(codec, data, [])


def test_byte_by_byte_gives_the_same() -> None:
    codec = registry.codec("healthypi3")
    data = Damage(Faults(drop=0.002, flip=0.004, seed=5)).spoil(
        codec.encoder().encode(simulated(codec, "healthypi3", 0.5))
    )
    whole = _cut(codec, data, [])
    assert _cut(codec, data, list(range(1, len(data)))) == whole
    assert whole[1].values_implausible > 5


def _cut(codec: Codec, data: bytes, places: list[int]) -> tuple[list[object], Counters]:
    decoder = codec.decoder()
    chunks: list[Chunk] = []
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        chunks += decoder.decode(data[start:end])
    flat: list[object] = []
    for one in chunks + decoder.flush():
        if one.lost_before or not one.lost_exact:
            flat.append((one.lost_before, one.lost_exact))
        flat += [(sample.tobytes(), one.lead_off) for sample in one.values.T]
    return flat, decoder.counters


@pytest.mark.parametrize("name", ["healthypi3", "healthypi5", "max30003", "cyton"])
def test_a_byte_in_a_thousand_spoilt(name: str) -> None:
    """Of what can be seen (0.1 mV) at most one value in 10,000 is wrong; without the screen it is one in 1,000."""
    codec = registry.codec(name, **options_for(name))
    sent = simulated(codec, name, 10 if name != "cyton" else 3)
    faults = Faults(drop=0.0005, flip=0.0005, seed=21)
    without, with_it = judge(codec, sent, faults, screen=False), judge(codec, sent, faults, screen=True)
    assert without.over_100 > 4e-4 * without.values
    assert with_it.over_100 <= 1e-4 * with_it.values
    assert with_it.given_up_rightly >= 0.97 * with_it.given_up


@pytest.mark.parametrize("name", ["healthypi3", "cyton"])
def test_a_real_ecg_is_left_alone(name: str, mitdb: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    codec = registry.codec(name)
    values = lost = 0
    for record in (*UNSEEN[:4], PACED[1]):
        sent = from_record(codec, wfdb.rdrecord(str(mitdb / record), sampto=360 * 300).p_signal)
        got = decoded(codec.decoder(), codec.encoder().encode(sent))[:1]
        values, lost = values + got.shape[1], lost + int(np.isnan(got).sum())
    assert lost <= 2e-5 * values


def test_after_a_long_loss_nothing_is_concluded() -> None:
    values = beats(600)
    chunks = [chunk(values[:300]), chunk(values[300:] + 40, LONGEST_LOSS + 1)]
    assert not np.isnan(samples_of(screened(chunks)[0], 1)).any()
