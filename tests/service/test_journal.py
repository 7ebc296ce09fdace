"""Logs: the journal's protocol, priorities, repeats counted, and no sample in any of them."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.process.journal import JournalHandler, NoSamples, Repeats, is_journal, priority
from tests.conftest import ROOT


def parse(message: bytes) -> dict[str, str]:
    """As journald reads it."""
    fields, at = {}, 0
    while at < len(message):
        line = message[at : message.index(b"\n", at)]
        if b"=" in line:
            key, _, value = line.partition(b"=")
            at += len(line) + 1
        else:
            key = line
            at += len(line) + 1
            (size,) = struct.unpack_from("<Q", message, at)
            value = message[at + 8 : at + 8 + size]
            at += 8 + size
            assert message[at : at + 1] == b"\n"
            at += 1
        fields[key.decode()] = value.decode()
    return fields


class Journal:
    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "socket"))
        self._socket.settimeout(5)
        self.handler = JournalHandler(folder / "socket", io.StringIO())
        self.log = logging.Logger("edge_agent.runner")
        self.log.addHandler(self.handler)

    def got(self) -> dict[str, str]:
        return parse(self._socket.recv(1 << 17))

    def close(self) -> None:
        self._socket.close()
        self.handler.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.close()


def test_fields_and_priorities(journal: Journal) -> None:
    journal.log.warning("stream %s: %s; trying again", "bed1", "unplugged")
    got = journal.got()
    assert got["MESSAGE"] == "stream bed1: unplugged; trying again"
    assert got["PRIORITY"] == "4"
    assert got["EDGE_AGENT_STREAM"] == "bed1"
    assert got["EDGE_AGENT_MODULE"] == "runner"
    assert got["SYSLOG_IDENTIFIER"] == "edge-agent"
    assert got["CODE_FUNC"] == "test_fields_and_priorities"
    journal.log.warning("stream %s: %s; trying again", "bed2", "silent")
    other = journal.got()
    assert (other["MESSAGE_ID"], other["EDGE_AGENT_STREAM"]) == (got["MESSAGE_ID"], "bed2")  # the same kind of message
    journal.log.info("model %s: loaded", "m")
    third = journal.got()
    assert third["MESSAGE_ID"] != got["MESSAGE_ID"]
    assert (third["EDGE_AGENT_MODEL"], third["PRIORITY"]) == ("m", "6")
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    assert [priority(level) for level in levels] == [7, 6, 4, 3, 2]


def test_a_message_of_several_lines_forges_no_field(journal: Journal) -> None:
    journal.log.error("stream %s: %s", "bed\nPRIORITY=7", "one\nPRIORITY=7\ntwo")
    got = journal.got()
    assert got["PRIORITY"] == "3"
    assert got["MESSAGE"] == "stream bed\nPRIORITY=7: one\nPRIORITY=7\ntwo"
    assert got["EDGE_AGENT_STREAM"] == "bed\nPRIORITY=7"


def test_a_traceback_and_a_novel_arrive(journal: Journal) -> None:
    try:
        raise ZeroDivisionError("of its own")
    except ZeroDivisionError:
        journal.log.exception("unexpected fault")
    assert "Traceback" in journal.got()["MESSAGE"]
    journal.log.info("x" * 1_000_000)
    assert len(journal.got()["MESSAGE"]) == 32_768


def test_without_a_journal_the_standard_error_has_the_priority(tmp_path: Path) -> None:
    said = io.StringIO()
    handler = JournalHandler(tmp_path / "nobody", said)
    log = logging.Logger("edge_agent.x")
    log.addHandler(handler)
    log.error("one\ntwo")
    handler.close()
    assert said.getvalue() == "<3>one\n<3>two\n"


def test_only_the_very_socket_that_systemd_made_is_the_journal(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    with one, other, (tmp_path / "file").open("w") as file:
        status = os.fstat(one.fileno())
        said = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(one.fileno(), said)
        assert not is_journal(other.fileno(), said)  # redirected since
        assert not is_journal(file.fileno(), f"{os.fstat(file.fileno()).st_dev}:{os.fstat(file.fileno()).st_ino}")
        for nonsense in (None, "", ":", "a:b", "1", f"{said}:1"):
            assert not is_journal(one.fileno(), nonsense)


def test_set_up_as_the_program_does(tmp_path: Path) -> None:
    """Under systemd, in a process of its own: what logging's basicConfig makes of a handler is part of it."""
    program = (
        "import logging, sys; from pathlib import Path; from edge_agent.process import journal;"
        "journal.set_up(verbose=False, path=Path(sys.argv[1]));"
        "logging.getLogger('edge_agent.daemon').info('running: %d streams', 1)"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(10)
        status = os.fstat(theirs.fileno())
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "socket")],
            env={"PYTHONPATH": str(ROOT), "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
            stderr=theirs.fileno(),
            check=True,
            timeout=60,
        )
        got = parse(listening.recv(1 << 16))
    assert got["MESSAGE"] == "running: 1 streams"
    assert got["EDGE_AGENT_MODULE"] == "daemon"


# -- repeats ---------------------------------------------------------------------------------------------------------


def passing(now: Callable[[], float]) -> tuple[logging.Logger, list[str]]:
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log = logging.Logger("edge_agent.y")
    keep = Keep()
    keep.addFilter(Repeats(now))
    log.addHandler(keep)
    return log, said


def test_repeats_are_counted_instead_of_written() -> None:
    clock = [0.0]
    log, said = passing(lambda: clock[0])
    for number in range(1000):
        log.warning("stream %s: garbage, %d bytes", "bed1", number)
        log.warning("stream %s: garbage, %d bytes", "bed2", number)
    assert said == [f"stream {bed}: garbage, {n} bytes" for n in range(5) for bed in ("bed1", "bed2")]
    log.error("something else")
    assert said[-1] == "something else"
    clock[0] = 61.0
    log.warning("stream %s: garbage, %d bytes", "bed1", 7)
    assert said[-1] == "stream bed1: garbage, 7 bytes (and 995 times before, not written)"


def test_kinds_of_messages_are_bounded() -> None:
    repeats = Repeats(lambda: 0.0)
    for number in range(5000):
        repeats.filter(logging.LogRecord("n", logging.INFO, "", 0, f"kind {number}", (), None))
    assert len(repeats._kinds) <= 512


# -- no samples ------------------------------------------------------------------------------------------------------


def test_no_sample_gets_into_a_log() -> None:
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    keep = Keep()
    keep.addFilter(NoSamples())
    log = logging.Logger("edge_agent.z")
    log.addHandler(keep)
    samples = np.full(500, 0.12345, np.float32)
    log.error("%s %s %s %s", samples, samples.tobytes(), samples.tolist(), [1, 2])
    log.error("%(all)s", {"all": samples})
    assert said == [
        "<500 numbers, not logged> <2000 bytes, not logged> <500 numbers, not logged> [1, 2]",
        "<500 numbers, not logged>",
    ]


def test_no_message_is_filled_in_before_the_filter_sees_it() -> None:
    """An f-string in a log call would carry samples past the filter, and make every message a kind of its own."""
    import ast

    for path in sorted((ROOT / "edge_agent").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.args
                and node.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
            ):
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
