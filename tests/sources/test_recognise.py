"""What a line is recognised as: every board by its own frames, and text by its columns."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serial_faults import noise
from edge_agent import cli
from edge_agent.config import BoardSource, Config
from edge_agent.errors import SourceError
from edge_agent.sources import listen
from edge_agent.sources.boards import protocentral_boards as boards
from edge_agent.sources.boards import registry
from edge_agent.sources.emulated import Emulated, Wearer, options_for
from edge_agent.sources.line_faults import Damage, Faults
from edge_agent.sources.recognise import recognise
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.sources.stanza import board_stanza
from tests.sources.test_emulated import SINUS, emulated, running

SECONDS = 5.0


def played(name: str, script: Script = SINUS, **given: object) -> bytes:
    board = Emulated(name, options_for(name, **given))
    wearer = Wearer(board.board.fs, script, 3, forever=True)
    parts = wearer.samples(board.board, round(SECONDS * board.board.fs))
    return b"".join(board.frames(values, off, 72) for values, off in parts)


@pytest.mark.parametrize("name", registry.NAMES)
@pytest.mark.parametrize("damage", [0.0, 0.002])
def test_every_board_is_known_by_its_bytes(name: str, damage: float) -> None:
    data = Damage(Faults(drop=damage / 2, flip=damage / 2, seed=1)).spoil(played(name)[7:])
    found = recognise(data, SECONDS)
    assert [one.name for one in found] == [name]
    assert found[0].measured_fs == pytest.approx(found[0].fs, rel=0.12)
    assert found[0].share > 0.85
    if not damage:
        assert found[0].frames_bad <= 1  # it was joined within a frame


@pytest.mark.parametrize("inputs", [(1,), (1, 2), (1, 2, 3), (2, 3, 4, 5)])
def test_a_bitalino_of_any_width(inputs: tuple[int, ...]) -> None:
    (found,) = recognise(played("bitalino", inputs=inputs, fs=100), SECONDS)
    assert len(found.options["inputs"]) == len(inputs)
    assert found.fs == found.options["fs"] == 100


def test_noise_is_no_board_and_silence_is_none() -> None:
    assert recognise(noise(50_000, 3), SECONDS) == []
    assert recognise(b"", 0.0) == []
    assert recognise(b"$$$ ready\r\n", 0.1) == []


def test_leads_off_and_flat_lines_are_warned_of() -> None:
    off = Script((Episode(name="off", duration_s=60.0, lead_off=frozenset({"II", "V"})),))
    (found,) = recognise(played("healthypi3", off), SECONDS)
    assert any("lead is off" in warning for warning in found.warnings)
    flat = boards.MAX30003.pack({"ecg": 65536, "rr": 0, "hr": 0}, 640)
    found = recognise(flat, SECONDS)[0]
    assert found.name == "max30003"
    assert any("flat" in warning for warning in found.warnings)
    assert not any("flat" in warning for warning in recognise(played("max30003"), SECONDS)[0].warnings)


def test_a_wrong_rate_is_warned_of() -> None:
    (found,) = recognise(played("healthypi4"), SECONDS * 2)
    assert any("set fs" in warning for warning in found.warnings)


@pytest.mark.parametrize(("separator", "name"), [(",", ","), (";", ";"), ("\t", "tab"), (" ", "blank")])
def test_lines_of_text(separator: str, name: str) -> None:
    wave = 512 + 100 * np.sin(np.arange(1250) / 20)
    cells = [
        f"{at * 4}{separator}{value:.0f}{separator}{90 + 30 * np.sin(at / 40):.1f}" for at, value in enumerate(wave)
    ]
    (found,) = recognise(("AD8232 ready\r\n" + "\r\n".join(cells)).encode(), SECONDS)
    assert (found.columns, found.separator, found.fs) == (("-", "ECG", "ABP"), name, 250)


def test_one_column_and_its_word_for_a_lead_off() -> None:
    lines = ["!" if at % 10 == 3 else str(500 + at * 37 % 90) for at in range(500)]
    (found,) = recognise("\r\n".join(lines).encode(), SECONDS)
    assert found.columns == ("ECG",)
    assert any("lead_off = [" in warning for warning in found.warnings)


def heard(rng: np.random.Generator) -> list[str]:
    """250 lines a second, two columns."""
    wave = 0.05 * rng.normal(size=1250) + np.exp(-(((np.arange(1250) % 200 - 100) / 4) ** 2))
    return [f"{value:.3f},{90 + 30 * np.sin(at / 40):.1f}" for at, value in enumerate(wave)]


def test_cut_lines_count_for_the_rate_and_are_warned_of() -> None:
    rng = np.random.default_rng(1)
    lines = heard(rng)
    cut = [line[: rng.integers(1, 5)] if rng.random() < 0.2 else line for line in lines]
    (found,) = recognise("\r\n".join(cut).encode(), SECONDS)
    assert found.measured_fs == pytest.approx(250, rel=0.01)
    assert found.fs == 250
    assert found.frames_good < 1050
    assert any("lines are cut or damaged" in warning for warning in found.warnings)
    (whole,) = recognise("\r\n".join(lines).encode(), SECONDS)
    assert whole.warnings == ()


def test_a_line_with_a_tenth_of_random_bytes_is_still_lines() -> None:
    rng = np.random.default_rng(2)
    data = np.frombuffer("\r\n".join(heard(rng)).encode(), np.uint8).copy()
    bad = rng.random(data.size) < 0.1
    data[bad] = rng.integers(0, 256, int(bad.sum()))
    (found,) = recognise(data.tobytes(), SECONDS)
    assert (found.name, found.fs, len(found.columns)) == ("lines of text", 250, 2)
    assert any("lines are cut or damaged" in warning for warning in found.warnings)
    assert not any("lead_off" in warning for warning in found.warnings)


def test_a_backlog_says_nothing_of_the_rate() -> None:
    steady = [(10 + at / 10, 250) for at in range(51)]
    assert listen.settled_s(steady) == pytest.approx(5.0)
    assert listen.settled_s([(10.0, 5000), *steady]) == pytest.approx((5000 + 51 * 250) / 2500, rel=0.01)
    spread = [(10 + at / 100, 200) for at in range(30)]  # as fast as the line carries it
    assert listen.settled_s([*spread, *steady[3:]]) == pytest.approx((6000 + 48 * 250) / 2500, rel=0.01)
    assert listen.settled_s([(10.0, 100)]) == 0.0
    assert listen.settled_s([]) == 0.0


# -- through a tty ---------------------------------------------------------------------------------------------------


def test_sniff_prints_a_configuration_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    with running(emulated("healthypi4"), None) as port:
        assert cli.main(["sniff", port.path, "--seconds", "1.5"]) == 0
        said = capsys.readouterr().out
        assert "healthypi4: " in said
        config = Config.model_validate(tomllib.loads(said[said.index("[[stream]]") :]))
        source = config.stream[0].source
        assert isinstance(source, BoardSource)
        assert (source.board, source.port) == ("healthypi4", port.path)


@pytest.mark.parametrize("name", ["cyton", "cyton-daisy", "bitalino"])
def test_boards_that_wait_are_started_and_stopped_again(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with running(emulated(name), None) as port:
        assert cli.main(["sniff", port.path, "--seconds", "0.6"]) == 1
        said = capsys.readouterr().err
        assert "nothing was heard" in said
        assert "--start" in said
        assert port.board.heard == b""
        assert cli.main(["sniff", port.path, "--seconds", "1.5", "--start", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [one["name"] for one in told["likely"]] == [name]
        deadline = time.monotonic() + 3
        while port.board.streaming:  # the command is on its way
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_what_cannot_be_opened_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="no such port"):
        listen.sniff(str(tmp_path / "ttyUSB9"), 0.1)
    with running(emulated("healthypi4"), None) as port:
        line = listen.open_line(port.path, 115200)
        try:
            with pytest.raises(SourceError, match="is in use by"):
                listen.sniff(port.path, 0.1)
        finally:
            line.close()
    (tmp_path / "plain").write_text("not a port")
    assert cli.main(["sniff", str(tmp_path / "plain")]) == 1
    assert "is it a serial port?" in capsys.readouterr().err


def test_bytes_that_are_no_boards_are_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    board = emulated("healthypi4")
    monkeypatch.setattr(board.board, "frames", lambda values, *_: noise(20 * values.shape[1], 1))
    with running(board, None) as port:
        heard = listen.sniff(port.path, 1.0)
        assert "wrong baud" in str(listen.nothing(port.path, heard, start=False))


@pytest.mark.parametrize("name", registry.NAMES)
def test_the_configuration_of_every_board_is_taken(name: str) -> None:
    options = options_for(name)
    text = board_stanza(name, '/dev/serial/by-id/usb-a "strange" name', options, 230400)
    source = Config.model_validate(tomllib.loads(text)).stream[0].source
    assert isinstance(source, BoardSource)
    assert source.baud == 230400
    assert source.port.endswith('a "strange" name')
    board, own = registry.codec(name, **source.options()).board, registry.codec(name, **options).board
    assert [channel.kind for channel in board.channels] == [channel.kind for channel in own.channels]
    assert board.channels[0].scale == pytest.approx(own.channels[0].scale, rel=1e-6)
    assert any(channel.kind == "ecg" and channel.unit == "mV" for channel in board.channels)
