"""Samples on the standard input."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import SerialSource, StdinSource
from edge_agent.errors import SourceBroken, SourceError
from edge_agent.sources.serial_port import open_lines
from edge_agent.sources.stdin import open_stdin
from tests.sources.test_live_sources import FS, STDIN, lines, taking
from tests.spine import wait_for


@contextmanager
def standard_input(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield


def test_lines_on_the_standard_input_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with standard_input(reading, monkeypatch), taking(open_stdin(StdinSource.model_validate(STDIN))) as taken:
        os.write(writing, b"# a remark\n" + b"\n" + lines(0, 1000))
        os.close(writing)
        assert taken.done.wait(10)
        assert taken.error is None
        np.testing.assert_array_equal(taken.values[0], np.arange(1000))


def test_an_empty_standard_input_is_said_once_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"not a number\n" * 3)
    os.close(writing)
    with standard_input(reading, monkeypatch), taking(open_stdin(StdinSource.model_validate(STDIN))) as taken:
        error = taken.failed()
        assert isinstance(error, SourceBroken)
        assert "2 lines were not 2 numbers" in str(error)


def test_a_file_on_the_standard_input_is_sent_to_its_own_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(lines(0, 10))
    with (
        standard_input(os.open(path, os.O_RDONLY), monkeypatch),
        pytest.raises(SourceError, match='type = "file"'),
    ):
        open_stdin(StdinSource.model_validate(STDIN))


def test_a_socket_is_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial cannot say how much waits in a socket: byte by byte, 250 lines a second would be 2500 calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = open_lines(
            SerialSource(
                type="serial",
                port=f"socket://127.0.0.1:{server.getsockname()[1]}",
                fs=FS,
                columns=["II", "ABP"],
                silent_s=1.0,
            )
        )
        other, _ = server.accept()
        calls = []
        reading = source.port.read

        def counted() -> bytes:
            calls.append(1)
            return reading()

        monkeypatch.setattr(source.port, "read", counted)
        with taking(source) as taken:
            other.sendall(b"\n" + lines(0, 5000))
            wait_for(lambda: taken.count == 5000, "all lines")
            assert len(calls) < 100
            other.close()
            assert str(taken.failed()).startswith("end of file: socket://")
        np.testing.assert_array_equal(taken.values[0], np.arange(5000))
