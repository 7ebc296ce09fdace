"""Each parser of outside bytes: how it is called, what it may raise, and sound inputs to begin from.

A parser has done its duty if it returns or raises one of its own errors. Anything else (IndexError, RecursionError, MemoryError, a dead
process, a minute of silence) is a find.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import threading
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import wfdb

from edge_agent import config
from edge_agent.annotation_files import artf, mit
from edge_agent.config import FileSource, StreamConfig
from edge_agent.errors import EdgeAgentError
from edge_agent.inference import artifact
from edge_agent.inference.installed import archive, signature
from edge_agent.inference.loaded import shipped_models
from edge_agent.inference.tflite import file as tflite
from edge_agent.outputs import requests
from edge_agent.sources import lines, raw_blocks
from edge_agent.sources.boards import registry
from edge_agent.sources.open import open_source
from edge_agent.sources.simulated import script
from edge_agent.watch import news
from tests.conftest import ROOT
from tests.fuzz import in_memory

TOPIC = "edge-agent/dev/bed1/beat"
REQUESTS = (
    b'{"stream":"bed1","kind":"asystole","seconds":60}',
    b'{"limits":{"pause_s":2,"off":[]},"transaction":"1"}',
)


@dataclass(frozen=True)
class Parser:
    name: str
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    slow: bool = False
    """Takes a file, or needs most of a millisecond."""
    live: Callable[[], Line] | None = None
    """Of what reads a stream: the long run gives many inputs to one decoder, as a line does."""


@dataclass(frozen=True)
class Line:
    """A connection's decoder."""

    decode: Callable[[bytes], object]
    end: Callable[[], object]


def _in_pieces(decode: Callable[[bytes], object], data: bytes) -> None:
    """As it comes off a line: the cut is the input's own."""
    cut = data[0] if data else 0
    decode(data[:cut])
    decode(data[cut:])


LINES = lines.Format(("II", "-", "ABP"), scale=(0.001, 1.0, 1.0), comment=("#",))


def _lines(data: bytes) -> None:
    _in_pieces(lines.Decoder(LINES).decode, data)


def _board(name: str) -> Parser:
    codec = registry.codec(name)
    wave = np.tile(np.sin(np.arange(40)) * 0.01, (len(codec.board.channels), 1)).astype(np.float32)

    def parse(data: bytes) -> None:
        decoder = codec.decoder()
        _in_pieces(decoder.decode, data)
        decoder.flush()

    def live() -> Line:
        decoder = codec.decoder()
        return Line(decoder.decode, decoder.flush)

    few = [
        codec.encoder().encode(wave[:, :n]) for n in (1, 2, 4, 1, 2, 4, 1, 2, 4, 12)
    ]  # what it costs goes with the length
    seeds = tuple(frames for frames in few if frames) or (codec.encoder().encode(wave),)
    return Parser(f"board-{name}", parse, (), seeds, live=live)


INFO = raw_blocks.Info(250.0, ("II", "ABP"), ("mV", "mmHg"))


def _raw_block(data: bytes) -> None:
    """An infinite sample would pass for a number in all that comes after."""
    if np.isinf(raw_blocks.decode(data, INFO).values).any():
        raise ArithmeticError("a sample without bound")


def _block_seeds() -> tuple[bytes, ...]:
    block = raw_blocks.RawBlock(1, 250, 7, np.ones((2, 25), np.float32))
    scaled = raw_blocks.encode_binary(block, INFO, scale=(0.001, 0.1))
    return raw_blocks.encode_json(block, INFO), raw_blocks.encode_binary(block, INFO), scaled


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """One for the process; in memory, where there is such a place: ten million files are hard on a disk."""
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


@cache
def _path(name: str) -> Path:
    return Path(_folder().name, name)


MEMORY: list[in_memory.Files] = []
"""Where the files of whatever only opens and reads them lie instead of a disk, in the long run."""


def _file(data: bytes, name: str, *, read_by_descriptor: bool = False) -> Path:
    """The same file each time: no folder is made and removed for each input."""
    path = _path(name)
    in_memory.put(None if read_by_descriptor or not MEMORY else MEMORY[-1], path, data)
    return path


def _config(data: bytes) -> None:
    config.load(_file(data, "agent.toml"))


def _script(data: bytes) -> None:
    try:
        found = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return
    script.script_from_dict(found)


@cache
def _stream(path: Path) -> StreamConfig:
    return StreamConfig(name="x", source=FileSource(type="file", path=path, speed="max", fs=250))


def _read_through(path: Path) -> None:
    """A recording that is opened and read, as replay does."""
    source = open_source(_stream(path))
    try:
        for number, _ in enumerate(source.blocks(threading.Event())):
            if number > 50:
                break
    finally:
        source.close()


def _csv(data: bytes) -> None:
    _read_through(_file(data, "r.csv"))


def _wfdb_header(data: bytes) -> None:
    _cheap_wfdb()
    if not _path("r.dat").exists():
        _file(SIGNAL, "r.dat")
    _read_through(_file(data, "r.hea").with_suffix(""))


def _wfdb_signal(data: bytes) -> None:
    """Its format is the input's first byte: the headers lie there, one for each."""
    _cheap_wfdb()
    fmt = FORMATS[(data[0] if data else 0) % len(FORMATS)]
    header = _path(f"s{fmt}.hea")
    if not header.exists():
        described = f"s{fmt}.dat {fmt} 200/mV 16 0 0 0 0 II\ns{fmt}.dat {fmt} 10/mmHg 16 0 0 0 0 ABP\n"
        _file(f"s{fmt} 2 250 20\n{described}".encode("ascii"), header.name)
        _HEADERS.pop(str(header.with_suffix("")), None)
    _file(data[1:], f"s{fmt}.dat")
    record = header.with_suffix("")
    if str(record) not in _HEADERS:
        _HEADERS[str(record)] = wfdb.rdheader(str(record))
    _read_through(record)


def _opened(*how: Any, **more: Any) -> Any:
    """Looked up when it is called: the long run's files are not on a disk."""
    return open(*how, **more)  # noqa: PTH123


class _Table:
    """What wfdb asks of a table of its own: ``index``, and ``loc[row, column]``."""

    def __init__(self, table: Any) -> None:
        self.index = tuple(table.index)
        self.loc = {(row, column): table.loc[row, column] for row in table.index for column in table.columns}


_HEADERS: dict[str, Any] = {}
"""Where only the signal file is strange: its header is parsed once, not three times an input."""


@cache
def _cheap_wfdb() -> None:
    """wfdb keeps what fields a header has in tables of pandas and opens files through fsspec, and spends nine tenths of its time there:
    the same with a dict and with ``open``."""
    from wfdb.io import _header, _signal, record

    parse = record.rdheader

    def rdheader(name: str, *more: Any, **others: Any) -> Any:
        """Each use has one of its own: wfdb writes into it."""
        known = _HEADERS.get(name)
        if known is None:
            return parse(name, *more, **others)
        own = object.__new__(type(known))
        own.__dict__ = {key: value[:] if isinstance(value, list) else value for key, value in vars(known).items()}
        return own

    wfdb.rdheader = record.rdheader = rdheader

    for name in ("RECORD_SPECS", "SIGNAL_SPECS"):
        setattr(_header, name, _Table(getattr(_header, name)))
    for module in (_signal, record):
        module.fsspec = SimpleNamespace(open=_opened)


@cache
def _into() -> Path:
    into = _path("into")
    into.mkdir()
    return into


def _archive(data: bytes) -> None:
    into = _into()
    with archive.opened(_file(data, "m.edgemodel", read_by_descriptor=True)) as bundle:
        try:
            archive.take(bundle, into, signature.ANY)
        finally:
            for made in into.iterdir():
                made.unlink()


@cache
def _shipped() -> Path:
    """The smallest: what an input costs goes with its size."""
    folders = [folder for folder in shipped_models().iterdir() if (folder / "manifest.json").is_file()]
    return min(folders, key=lambda folder: ((folder / "model.tflite").stat().st_size, folder.name))


def _archive_seeds() -> tuple[bytes, ...]:
    """Sound ones with files of a few bytes (what is in them is not looked at here), packed and stored; a wicked one."""
    files = {"model.tflite": b"weights", "golden.npz": b"outputs" * 9}
    listed = json.loads((_shipped() / "manifest.json").read_bytes())
    listed["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    seeds = []
    for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        sound = io.BytesIO()
        with zipfile.ZipFile(sound, "w", how) as bundle:
            for name, data in {"manifest.json": json.dumps(listed).encode(), **files}.items():
                bundle.writestr(name, data)
        seeds.append(sound.getvalue())
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("../../etc/passwd", "x")
        bundle.writestr("manifest.json", "{}")
        bundle.writestr("model.tflite", b"\0" * 100_000)
    return *seeds, evil.getvalue()


def _key(data: bytes) -> None:
    if signature._key_in(data) is None:
        raise ValueError("no key")


def _watch(data: bytes) -> None:
    news.read(TOPIC, data, base="edge-agent", retained=False, received=datetime(2026, 1, 1, tzinfo=UTC))


BEAT = json.dumps(
    {"schema": "edge-agent/beat/1", "seq": 1, "session": "s", "device": "dev", "stream": "bed1", "sample": 5, "known": 9,
     "time": "2026-01-01T00:00:00Z", "latency": {"algorithm_ms": 1, "queue_ms": None, "compute_ms": 2}, "rr_ms": 800.0}
).encode()  # fmt: skip
HEADER = b"r 2 250 50\nr.dat 16 200/mV 16 0 0 0 0 II\nr.dat 16 10/mmHg 16 0 0 0 0 ABP\n#Produced by nobody\n"
SIGNAL = np.zeros(100, "<i2").tobytes()
FORMATS = ("16", "8", "24", "32", "61", "80", "160", "212", "310", "311")
CONFIG = b"""[[stream]]
name = "bed1"
signals = { II = "ecg" }
[stream.source]
type = "serial"
port = "/dev/null"
fs = 250
columns = ["II"]
[mqtt]
host = "localhost"
port = 1883
"""
SIGNALS = tuple(bytes((number,)) + bytes(range(160)) for number in range(len(FORMATS)))
"""Twenty frames in each format, and more."""
ARTF = (
    b'<?xml version="1.0"?><ICMArtefacts><SignalGroup Name="abp"><Artefact StartTime="31/12/2023 23:59:59.123" '
    b'EndTime="31/12/2023 23:59:59.999"/></SignalGroup></ICMArtefacts>'
)
CSV = b"time,II [mV],ABP [mmHg]\n0.000,0.1,80\n0.004,0.2,81\n0.008,-,82\n"


@cache
def parsers() -> dict[str, Parser]:
    shipped = _shipped()
    manifest = (shipped / "manifest.json").read_bytes()
    found = [
        Parser("lines", _lines, (), (b"0.1,x,80\n0.2,x,81\n!,x,82\n# remark\n", b"1e308,,-inf\r\n"),
               live=lambda: Line(lines.Decoder(LINES).decode, lambda: None)),
        *(_board(name) for name in registry.NAMES),
        Parser("raw-info", raw_blocks.decode_info, (raw_blocks.BadBlock,), (raw_blocks.encode_info(INFO),)),
        Parser("raw-block", _raw_block, (raw_blocks.BadBlock,), _block_seeds()),
        Parser("request", requests._parse, (EdgeAgentError,), REQUESTS),
        Parser("config", _config, (EdgeAgentError,), ((ROOT / "config" / "edge-agent.toml").read_bytes(), CONFIG, CONFIG), slow=True),
        Parser("script", _script, (ValueError,), (b'[[episodes]]\nrhythm = "sinus"\nduration_s = 30\n',)),
        Parser("manifest", lambda data: artifact.parse_manifest(data, "m"), (EdgeAgentError,), (manifest,)),
        Parser("tflite", tflite.read, (EdgeAgentError,), ((shipped / "model.tflite").read_bytes(),)),
        Parser("archive", _archive, (EdgeAgentError,), _archive_seeds(), slow=True),
        Parser("key", _key, (ValueError,), (b"ab" * 32, b"-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n")),
        Parser("watch", _watch, (news.UnreadableError,), (BEAT,)),
        Parser("csv", _csv, (EdgeAgentError,), (CSV,), slow=True),
        Parser("wfdb-header", _wfdb_header, (EdgeAgentError,), (HEADER,), slow=True),
        Parser("wfdb-signal", _wfdb_signal, (EdgeAgentError,), SIGNALS, slow=True),
        Parser("wfdb-annotations", mit.parse, (ValueError,), (mit.render([]), b"\x12\x04\x03\xfe\x05\x00abcde\0" * 4 + b"\0\0")),
        Parser("artf", artf.parse, (ValueError, ElementTree.ParseError), (ARTF,)),
    ]  # fmt: skip
    return {one.name: one for one in found}


def refused(parser: Parser, data: bytes) -> bool:
    """Whether it was refused as it should be; any other error comes through."""
    try:
        parser.parse(data)
    except parser.errors:
        return True
    return False
