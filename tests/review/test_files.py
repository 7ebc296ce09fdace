"""Annotations and samples: our own readers against wfdb's."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.annotation_files import mit
from edge_agent.cli import main
from edge_agent.errors import SourceError
from edge_agent.review.library import REFRESH_S, Library
from edge_agent.review.pyramid import PIECE, STEP, TILE, Pyramid
from edge_agent.review.strip_of import strip_of
from edge_agent.review.waves import PlainWaves, ReadWaves, open_waves
from edge_agent.review.writing import correct
from tests.review.conftest import write_record

ONE = st.builds(
    mit.Annotation,
    sample=st.integers(0, 2**30),
    symbol=st.sampled_from("NVSFQ~+"),
    subtype=st.integers(-128, 127),
    channel=st.integers(0, 255),
    number=st.integers(-128, 127),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)


@given(st.lists(ONE, max_size=20))
def test_what_is_written_is_read_again(made: list[mit.Annotation]) -> None:
    assert mit.parse(mit.render(made)) == sorted(made, key=lambda one: one.sample)


def test_wfdb_reads_what_is_written(tmp_path: Path) -> None:
    made = [
        mit.Annotation(5, "N"),
        mit.Annotation(2000, "V", 1, 0, 0, "label V was N, ann"),
        mit.Annotation(5_000_000, "+", text="(AFIB"),
    ]
    mit.write(tmp_path / "x.rev", made)
    read = wfdb.rdann(str(tmp_path / "x"), "rev")
    assert list(zip(read.sample.tolist(), read.symbol, read.subtype.tolist(), read.aux_note, strict=True)) == [
        (one.sample, one.symbol, one.subtype, one.text) for one in made
    ]


def test_the_databases_annotations_are_read_as_wfdb_reads_them(mitdb: Path) -> None:
    for name in ("100", "207", "232"):
        ours = mit.read(mitdb / f"{name}.atr")
        theirs = wfdb.rdann(str(mitdb / name), "atr")
        notes = [note.rstrip("\0") for note in theirs.aux_note]
        assert [(one.sample, one.symbol, one.subtype, one.text) for one in ours] == list(
            zip(theirs.sample.tolist(), theirs.symbol, theirs.subtype.tolist(), notes, strict=True)
        )


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_but_never_crashes(raw: bytes) -> None:
    try:
        mit.parse(raw)
    except ValueError:
        return


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.rev").write_bytes(b"\xff\xc8" * 40)
    with pytest.raises(SourceError, match=r"x\.rev: not a WFDB annotation file"):
        mit.read(tmp_path / "x.rev")


@pytest.mark.parametrize("name", ["100", "207"])
def test_plain_samples_are_those_that_wfdb_reads(mitdb: Path, name: str) -> None:
    ours, theirs = open_waves(mitdb / name), ReadWaves(mitdb / name)
    assert isinstance(ours, PlainWaves)
    assert (ours.fs, ours.samples, ours.signals) == (theirs.fs, theirs.samples, theirs.signals)
    for first, end in ((0, 1000), (3, 778), (12_345, 23_456), (649_000, 651_000)):
        np.testing.assert_allclose(ours.read(first, end), theirs.read(first, end), atol=1e-6)


def test_missing_samples_are_missing_in_every_reader_and_no_extreme(tmp_path: Path) -> None:
    header = write_record(tmp_path / "x", seconds=20)
    raw = np.fromfile(tmp_path / "x.dat", "<i2").reshape(-1, 2)
    raw[100:164, 0] = -32768
    raw[200:210, 1] = -32768
    raw.tofile(tmp_path / "x.dat")
    ours, theirs = open_waves(header), ReadWaves(tmp_path / "x")
    np.testing.assert_allclose(ours.read(0, 5000), theirs.read(0, 5000), atol=1e-6)
    for width in (4, 64):
        low, high = ours.extremes(0, 5000, width)
        low2, high2 = theirs.extremes(0, 5000, width)
        np.testing.assert_allclose(low, low2, atol=1e-6)
        np.testing.assert_allclose(high, high2, atol=1e-6)


class _Random:
    fs = 250.0
    began: datetime | None = None
    signals: tuple[Any, ...] = (None, None)

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.x = np.random.default_rng(1).normal(size=(2, samples)).astype(np.float32)

    def read(self, first: int, end: int) -> Any:
        return self.x[:, first:end]

    def extremes(self, first: int, end: int, width: int) -> Any:
        starts = np.arange(0, end - first, width)
        part = self.x[:, first:end]
        return np.fmin.reduceat(part, starts, 1), np.fmax.reduceat(part, starts, 1)

    def close(self) -> None: ...


@pytest.mark.parametrize("samples", [1, 63, 64 * 1024, PIECE + 1, 2 * PIECE + 777])
def test_every_tile_holds_the_extremes_of_its_samples(tmp_path: Path, samples: int) -> None:
    waves = _Random(samples)
    pyramid = Pyramid(waves, tmp_path / "x.pyramid")
    assert pyramid.wait(20)
    for level in range(pyramid.levels):
        width = STEP**level
        count = -(-samples // width)
        for index in {0, (count - 1) // TILE}:
            tile = pyramid.tile(level, index)
            assert tile.whole
            for i in {0, tile.low.shape[1] - 1}:
                first = (index * TILE + i) * width
                piece = waves.x[:, first : first + width]
                np.testing.assert_array_equal(tile.low[:, i], piece.min(1))
                np.testing.assert_array_equal(tile.high[:, i], piece.max(1))
    with pytest.raises(ValueError, match="tile"):
        pyramid.tile(0, -(-samples // TILE))
    again = Pyramid(waves, tmp_path / "x.pyramid")  # kept, not computed again
    assert again.whole


def test_half_a_pyramid_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    waves = _Random(3 * PIECE)
    assert Pyramid(waves, tmp_path / "x.pyramid").wait(20)
    (tmp_path / "x.pyramid.done").unlink()  # it was cut off before its end
    again = Pyramid(waves, tmp_path / "x.pyramid")
    assert again.wait(20)
    np.testing.assert_array_equal(
        again.tile(again.levels - 1, 0).low[:, 0], waves.x[:, : STEP ** (again.levels - 1)].min(1)
    )


def test_a_header_that_names_a_file_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.dat").write_bytes(b"\1\0" * 4000)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.hea").write_text("x 1 250 4000\n../secret.dat 16 200/mV 16 0 0 0 0 II\n")
    with pytest.raises(SourceError):
        open_waves(folder / "x.hea")


def test_a_pressure_that_falls_to_nothing_is_drawn_whole() -> None:
    """Cut off at its row's edge it would look like a clipped line."""
    import re

    from edge_agent.review.picture import strip
    from edge_agent.sources.base import Signal

    x = np.linspace(180, 0, 5000, dtype=np.float32)[None]
    text = strip(title="t", below="b", fs=250.0, first=0, signals=(Signal("ABP", "abp", "mmHg"),), values=x, notes=())
    (path,) = re.findall(r'd="(M[^"]*)" stroke="#101010"', text)
    heights = [float(pair.split(" ")[1]) for pair in re.split("[ML]", path)[1:]]
    assert heights[-1] - heights[0] == pytest.approx(180 * 0.5, abs=0.1)  # 10 mm per 20 mmHg, from top to bottom
    assert len(set(heights[:20])) == len(set(heights[-20:])) == 20


def test_a_strip_of_a_recording_that_nobody_labelled_says_so(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strip = ["review", str(recordings / "patient"), "--strip", "10", "20", "--out", str(tmp_path / "s.svg")]
    strip += ["--state", str(tmp_path / "state")]
    assert main(strip) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "s.svg")
    assert "not labelled yet" in said.err
    assert "by a person" not in (tmp_path / "s.svg").read_text()
    mit.write(recordings / "patient.edge", [mit.Annotation(3000, "V"), mit.Annotation(3200, "N")])
    assert main(strip) == 0
    assert capsys.readouterr().err == ""
    assert ">V<" in (tmp_path / "s.svg").read_text()


def test_by_a_person_stands_only_below_what_a_person_labelled(recordings: Path, tmp_path: Path) -> None:
    mit.write(recordings / "patient.edge", [mit.Annotation(3000, "V"), mit.Annotation(9000, "N")])
    library = Library(recordings / "patient.hea", tmp_path / "state", models=False)
    try:
        opened = library.open(next(iter(library.names())))
        assert "by a person" not in strip_of(opened, 2500, 5000)
        time.sleep(REFRESH_S)
        said = {"who": "ann", "token": "12345678", "act": "label", "id": "m3000", "sample": 3000, "label": "N"}
        correct(library.corrections, opened, said)
        assert "* by a person" in strip_of(opened, 2500, 5000)
        assert "by a person" not in strip_of(opened, 7500, 10_000)
    finally:
        library.close()
