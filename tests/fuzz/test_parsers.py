"""A short run of each parser; the long one is ``make fuzz``."""

from __future__ import annotations

import gc
import random
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.sources import raw_blocks
from tests.fuzz import in_memory, long_run
from tests.fuzz.mutate import mutated
from tests.fuzz.parsers import INFO, MEMORY, Parser, parsers, refused

NAMES = sorted(parsers())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sound_is_taken_and_what_is_not_refused(name: str) -> None:
    """So that the fuzzing gets past the first check: of the seeds at least one is taken."""
    parser = parsers()[name]
    assert not all(refused(parser, seed) for seed in parser.seeds)
    if parser.errors:
        chance = random.Random(1)
        tried = [refused(parser, mutated(parser.seeds, chance)) for _ in range(100)]
        assert any(tried)


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_are_refused_or_taken(name: str) -> None:
    parser = parsers()[name]
    chance = random.Random(name)
    for _ in range(60 if parser.slow else 400):
        data = mutated(parser.seeds, chance)
        try:
            refused(parser, data)
        except Exception as error:
            error.add_note(f"{name}: {data[:400]!r}")
            raise


@pytest.mark.parametrize("name", [name for name in NAMES if not parsers()[name].slow])
def test_bytes_of_chance_are_refused_or_taken(name: str) -> None:
    """Hypothesis finds the smallest that is neither."""
    parser = parsers()[name]

    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8"))))
    @example(b"")
    @example(b"[" * 100_000)
    @example(b"\0" * 70_000)
    def check(data: bytes) -> None:
        refused(parser, data)

    check()


def scaled(factor: bytes) -> bytes:
    """A block of 16-bit numbers whose first scale is these four bytes."""
    block = raw_blocks.RawBlock(1, 250, 7, np.ones((2, 25), np.float32))
    sound = raw_blocks.encode_binary(block, INFO, scale=(0.25, 0.5))
    changed = sound.replace(struct.pack("<f", 0.25), factor, 1)
    assert changed != sound
    return changed


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # A time far off made an index that no run holds, and the reader looked for the next run for ever.
        ("csv", b"time,II\n0.000,0.1\n0.004,0.2\n99999999999999999999,0.3\n"),
        # numpy said of a number that it does not fit into 32 bits.
        ("csv", b"time,II\n0.000,0.1\n0.004,1e300\n0.008,0.3\n"),
        # The system says of a name that it is too long: not in words of ours.
        ("config", b'[[stream]]\nname = "x"\n[stream.source]\ntype = "simulated"\nscript = "' + b"s" * 5000 + b'"\n'),
        # A length of 20 digits made an index that no run holds: endless recursion.
        (
            "wfdb-header",
            b"r 2 250 99999999999999999999\nr.dat 16 200/mV 16 0 0 0 0 II\nr.dat 16 10/mmHg 16 0 0 0 0 ABP\n",
        ),
        # A scale of 3e38 made infinite samples of whole numbers, one that is a signalling NaN made numpy complain.
        ("raw-block", scaled(b"\x99\x76\x61\x7f")),
        ("raw-block", scaled(b"\x01\x00\x80\x7f")),
        # TOML's whole numbers have no bound, a float's have one.
        ("script", b'[[episodes]]\nrhythm = "sinus"\nduration_s = ' + b"9" * 400 + b"\n"),
    ],
    ids=["far-off", "overflow", "long-name", "long-length", "huge-scale", "signalling-scale", "long-number"],
)
def test_what_was_found_stays_mended(name: str, data: bytes) -> None:
    refused(parsers()[name], data)


def test_a_parser_with_a_fault_is_found() -> None:
    """The fault that this guards against: an index that comes from outside."""

    def faulty(data: bytes) -> int:
        return data[data[0]] if data[:1] > b"\x02" else 0

    parser = Parser("faulty", faulty, (ValueError,), (b"\x02abc", b"\x01"))
    chance = random.Random(3)

    def run() -> None:
        for _ in range(400):
            refused(parser, mutated(parser.seeds, chance))

    with pytest.raises(IndexError):
        run()


@pytest.mark.parametrize("name", ["csv", "config", "wfdb-header", "wfdb-signal"])
def test_in_memory_as_on_a_disk(name: str) -> None:
    """The long run's files lie in memory: each input must reach the parser, and fare as it does in a file."""
    parser = parsers()[name]
    chance = random.Random(8)
    tried = [*parser.seeds, *(mutated(parser.seeds, chance) for _ in range(150))]

    def said(data: bytes) -> str:
        try:
            parser.parse(data)
        except parser.errors as error:
            return str(error)
        return "taken"

    on_disk = [said(data) for data in tried]
    with in_memory.instead_of_a_disk() as files:
        MEMORY.append(files)
        try:
            in_files = [said(data) for data in tried]
        finally:
            MEMORY.pop()
    assert files.kept
    assert in_files == on_disk
    assert "taken" in on_disk
    assert len(set(on_disk)) > 10 or name == "wfdb-signal"


def test_a_parser_that_never_ends_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time, and by the processor's time: a process that was stopped for as long is no find."""
    monkeypatch.setattr(long_run, "LONGEST_S", 0.2)
    before = signal.signal(signal.SIGPROF, long_run._too_slow)
    calls = iter(range(1000))

    def parse(_data: bytes) -> None:
        number = next(calls)
        while number in (3, 5):
            pass
        if number == 7:
            time.sleep(0.5)

    try:
        found = long_run._rounds(Parser("endless", parse, (), (b"a",)), 32, 30.0, "1", tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        gc.unfreeze()
    assert found["inputs"] == 32
    assert list(found["finds"].values()) == [2]
    assert len(list(tmp_path.glob("endless-*.bin"))) == 1
