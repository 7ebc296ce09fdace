"""ICM+'s marks: what is read is written again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from edge_train.data import artf
from edge_train.errors import DataError

FULL = """<?xml version="1.0" ?>
<ICMArtefacts>
	<Global>
		<Artefact ModifiedBy="K. N&#246;hr" ModifiedDate="02/03/2024 08:09:10.250"
            StartTime="01/01/1970 00:00:05.000" EndTime="01/01/1970 00:00:15.000" />
	</Global>
	<SignalGroup Name="icp">
		<Artefact StartTime="01/01/1970 00:00:15.000" EndTime="01/01/1970 00:00:25.000" Note="a &lt; b" />
	</SignalGroup>
	<SignalGroup Name="art" Colour="red">
		<Artefact StartTime="31/12/2023 23:59:55.000" EndTime="01/01/2024 00:00:05.000001" />
		<Artefact StartTime="01/01/1970 00:00:35.000" EndTime="01/01/1970 00:00:45.000" />
	</SignalGroup>
	<Unheard Of="it"><Deeper>text</Deeper></Unheard>
	<Info HDF5Filename="soubor.hdf5" UserID="u1" Tool="x" />
</ICMArtefacts>
"""


def test_round_trip_loses_nothing() -> None:
    first = artf.parse(FULL.encode())
    text = artf.render(first)
    assert artf.parse(text) == first
    assert artf.render(artf.parse(text)) == text
    assert text.decode().split() == FULL.split()  # white space apart, the same characters in the same order


def test_times() -> None:
    art = artf.parse(FULL.encode()).groups[2].marks
    assert art[0].start_us == 1_704_067_195_000_000
    assert art[0].end_us == art[0].start_us + 10_000_001
    assert artf.time_us("1/2/2024 3:04:05") == artf.time_us("01/02/2024 03:04:05.000")
    assert artf.time_us("01/02/2024 03:04:05.25") - artf.time_us("01/02/2024 03:04:05.0") == 250_000
    for us in (0, 1, 999_000, 1_704_067_199_999_999, 951_782_400_000_000):  # the last: 29 February 2000
        assert artf.time_us(artf.time_text(us)) == us
    with pytest.raises(ValueError):
        artf.time_us("2024-01-02 03:04:05")


def test_day_comes_before_month() -> None:
    assert artf.time_text(artf.time_us("02/11/2024 00:00:00.000")).startswith("02/11/2024")
    assert artf.time_us("02/11/2024 00:00:00") == 1_730_505_600_000_000  # 2 November


def test_marks_of_a_signal_include_the_global_ones() -> None:
    found = artf.parse(FULL.encode())
    assert [mark.start_us for mark in found.of(["ABP", "ART"])] == [5_000_000, 35_000_000, 1_704_067_195_000_000]
    assert [mark.start_us for mark in found.of(["icp"])] == [5_000_000, 15_000_000]


def test_code_page_without_a_declaration() -> None:
    text = '<?xml version="1.0" ?><ICMArtefacts><Info UserID="Nöhr"/></ICMArtefacts>'
    assert artf.parse(text.encode("latin-1")).user_id == "Nöhr"
    assert artf.parse(text.encode("utf-8")).user_id == "Nöhr"
    assert b"N&#246;hr" in artf.render(artf.parse(text.encode("utf-8")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<ICMArtefacts>", "no element found"),
        ("<Other/>", "root is 'Other'"),
        ('<ICMArtefacts><Global><Artefact StartTime="01/01/1970 00:00:05.000"/></Global></ICMArtefacts>', "no EndTime"),
        ("<ICMArtefacts><SignalGroup/></ICMArtefacts>", "no Name"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><ICMArtefacts>&a;</ICMArtefacts>', "entities"),
        (
            '<ICMArtefacts><Global><Artefact StartTime="01/01/1970 00:00:05" EndTime="01/01/1970 00:00:04"/></Global>'
            "</ICMArtefacts>",
            "ends",
        ),
        (
            '<ICMArtefacts><Global><Artefact StartTime="31/02/2024 00:00:05" EndTime="x"/></Global></ICMArtefacts>',
            "day",
        ),
        ("", "no element"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.artf"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        artf.read(path)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.artf"
    good = artf.parse(FULL.encode())
    artf.write(path, good)
    assert artf.read(path) == good
    with pytest.raises(OverflowError):
        artf.write(path, replace(good, groups=(artf.Group("art", (artf.Mark(0, 10**30),)),)))
    assert artf.read(path) == good
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.artf"]
    with pytest.raises(DataError, match="cannot be read"):
        artf.read(tmp_path / "y.artf")
