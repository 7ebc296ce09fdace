"""Events as a WFDB annotation file: codes, marks, their order, and a name that need not be a record's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent import events
from edge_agent.errors import OutputError
from edge_agent.outputs.annotations import AnnotationWriter, to_signed_byte

wfdb = pytest.importorskip("wfdb")

USUAL: dict[str, Any] = {
    "seq": 0, "session": "replay", "device": "d", "stream": "s", "time": None, "arrived": None,
    "latency": {"algorithm_ms": 0, "queue_ms": None, "compute_ms": None},
}  # fmt: skip


def beat(sample: int, channel: str = "II") -> events.Beat:
    return events.Beat.model_validate(
        USUAL | {"sample": sample, "known": sample, "channel": channel, "confidence": 1, "rr_ms": None}
    )


def verdict(sample: int, label: str | None, channel: str = "II", task: str = "ecg-beat") -> events.Verdict:
    more = {
        "sample": sample, "known": sample, "channel": channel, "task": task, "label": label, "reason": None, "scores": {}, "model": "m",
        "version": "1", "digest": "0" * 64, "backend": "cpu", "invoke_us": None,
    }  # fmt: skip
    return events.Verdict.model_validate(USUAL | more)


def rhythm(sample: int, name: str, since: int) -> events.Rhythm:
    more = {"sample": sample, "known": sample, "channel": "II", "rhythm": name, "since": since, "evidence": {}}
    return events.Rhythm.model_validate(USUAL | more)


def quality(sample: int, channel: str, *reasons: str) -> events.Quality:
    more = {
        "sample": sample,
        "known": sample,
        "channel": channel,
        "good": not reasons,
        "score": 1,
        "reasons": list(reasons),
    }
    return events.Quality.model_validate(USUAL | more)


def written(
    folder: Path, *said: events.Event, channels: dict[str, int] | None = None, record: str = "100"
) -> list[tuple[Any, ...]]:
    writer = AnnotationWriter(channels or {"II": 0, "V": 1})
    for one in said:
        writer.event(one)
    path = writer.write(record, 250.0, folder)
    assert path is not None
    found = wfdb.rdann(str(path.with_suffix("")), "edge")
    return list(
        zip(
            found.sample.tolist(),
            found.symbol,
            found.subtype.tolist(),
            found.chan.tolist(),
            (note.rstrip("\0") for note in found.aux_note),
            strict=True,
        )
    )


def test_a_beat_has_its_class_or_none(tmp_path: Path) -> None:
    said = [
        *(beat(100), beat(300), verdict(100, "V"), verdict(500, "S", "V"), beat(500, "V"), verdict(300, None)),
        *(beat(700), verdict(700, "X"), verdict(900, "AFIB", task="ecg-rhythm")),
    ]
    assert written(tmp_path, *said) == [
        (100, "V", 0, 0, ""),
        (300, "Q", 0, 0, ""),
        (500, "S", 0, 1, ""),
        (700, "Q", 0, 0, ""),
    ]


def test_rhythms_from_where_they_began_before_the_beat_there(tmp_path: Path) -> None:
    said = [beat(100), beat(300), rhythm(900, "AFIB", 300), rhythm(1500, "N", 1200)]
    assert written(tmp_path, *said) == [
        (100, "Q", 0, 0, ""),
        (300, "+", 0, 0, "(AFIB"),
        (300, "Q", 0, 0, ""),
        (1200, "+", 0, 0, "(N"),
    ]


def test_quality_is_one_bit_for_each_noisy_and_each_unreadable_channel(tmp_path: Path) -> None:
    channels = {"I": 0, "II": 1, "III": 2, "V": 3, "V5": 4}
    said = [quality(10, "II", "noise"), quality(20, "V", "flat"), quality(30, "I", "lead_off", "noise"), quality(40, "II"),
            quality(50, "V5", "noise"), quality(60, "ABP", "damped"), quality(70, "V"), quality(80, "I")]  # fmt: skip
    found = written(tmp_path, *said, channels=channels)
    assert [(sample, subtype % 256, channel) for sample, symbol, subtype, channel, _ in found if symbol == "~"] == [
        (10, 0x02, 1), (20, 0x82, 3), (30, 0x92, 0), (40, 0x90, 1), (70, 0x10, 3), (80, 0, 0),
    ]  # fmt: skip
    assert [to_signed_byte(value) for value in (0, 127, 128, 255)] == [0, 127, -128, -1]


def test_a_name_that_is_no_record_s(tmp_path: Path) -> None:
    writer = AnnotationWriter({"II": 0})
    writer.event(beat(5))
    assert writer.write("a b.c-1_2é", 250.0, tmp_path / "new") == tmp_path / "new" / "a_b_c-1_2é.edge"


def test_nothing_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert AnnotationWriter({"II": 0}).write("100", 250.0, tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    assert "nothing was found in it" in caplog.text


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = AnnotationWriter({"II": 0})
    writer.event(beat(5))
    with pytest.raises(OutputError, match="file/x"):
        writer.write("100", 250.0, tmp_path / "file" / "x")
