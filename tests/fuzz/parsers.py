"""Each parser of outside bytes: how it is called, what it may raise, and sound inputs to begin from.

A parser has done its duty if it returns or raises one of its own errors. Anything else (IndexError, RecursionError, MemoryError, a dead
process, a minute of silence) is a find.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edge_agent import config
from edge_agent.annotation_files import artf, mit
from edge_agent.config import FileSource, StreamConfig
from edge_agent.errors import EdgeAgentError
from edge_agent.inference import artifact
from edge_agent.inference.installed import archive, signature
from edge_agent.inference.judge import shipped_models
from edge_agent.inference.tflite import file as tflite
from edge_agent.outputs import requests
from edge_agent.sources import lines, raw_blocks
from edge_agent.sources.boards import registry
from edge_agent.sources.open import open_source
from edge_agent.sources.simulated import script
from edge_agent.watch import news
from tests.conftest import ROOT

TOPIC = "edge-agent/dev/bed1/beat"


@dataclass(frozen=True)
class Parser:
    name: str
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    slow: bool = False
    """Writes a file for each input, or more."""


def _in_pieces(decode: Callable[[bytes], object], data: bytes) -> None:
    """As it comes off a line: the cut is the input's own."""
    cut = data[0] if data else 0
    decode(data[:cut])
    decode(data[cut:])


def _lines(data: bytes) -> None:
    decoder = lines.Decoder(lines.Format(("II", "-", "ABP"), scale=(0.001, 1.0, 1.0), comment=("#",)))
    _in_pieces(decoder.decode, data)


def _board(name: str) -> Parser:
    codec = registry.codec(name)
    quiet = np.zeros((len(codec.board.channels), 40), np.float32)

    def parse(data: bytes) -> None:
        decoder = codec.decoder()
        _in_pieces(decoder.decode, data)
        decoder.flush()

    return Parser(f"board-{name}", parse, (), (codec.encoder().encode(quiet), codec.encoder().encode(quiet[:, :3])))


INFO = raw_blocks.Info(250.0, ("II", "ABP"), ("mV", "mmHg"))


def _block_seeds() -> tuple[bytes, ...]:
    block = raw_blocks.RawBlock(1, 250, 7, np.ones((2, 25), np.float32))
    scaled = raw_blocks.encode_binary(block, INFO, scale=(0.001, 0.1))
    return raw_blocks.encode_json(block, INFO), raw_blocks.encode_binary(block, INFO), scaled


@contextmanager
def _file(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_fast()) as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


@cache
def _fast() -> str | None:
    """Memory, where there is such a place: ten million files are hard on a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _config(data: bytes) -> None:
    with _file(data, "agent.toml") as path:
        config.load(path)


def _script(data: bytes) -> None:
    try:
        found = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return
    script.script_from_dict(found)


def _record(name: str, header: bytes | None = None, signal: bytes | None = None) -> Callable[[bytes], None]:
    """A recording that is opened and read through, as replay does; what is not given is the input."""

    def parse(data: bytes) -> None:
        with _file(data if header is None else header, name) as path:
            if name.endswith(".hea"):
                path.with_suffix(".dat").write_bytes(data if signal is None else signal)
            target = path.with_suffix("") if name.endswith(".hea") else path
            stream = StreamConfig(name="x", source=FileSource(type="file", path=target, speed="max", fs=250))
            source = open_source(stream)
            try:
                for number, _ in enumerate(source.blocks(threading.Event())):
                    if number > 50:
                        break
            finally:
                source.close()

    return parse


def _archive(data: bytes) -> None:
    with _file(data, "m.edgemodel") as path, archive.opened(path) as bundle:
        into = path.with_name("into")
        into.mkdir()
        archive.take(bundle, into, signature.ANY)


@cache
def _shipped() -> Path:
    return next(folder for folder in sorted(shipped_models().iterdir()) if (folder / "manifest.json").is_file())


def _archive_seeds() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.edgemodel")
        archive.pack(_shipped(), path)
        sound = path.read_bytes()
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("../../etc/passwd", "x")
        bundle.writestr("manifest.json", "{}")
        bundle.writestr("model.tflite", b"\0" * 100_000)
    return sound, evil.getvalue()


def _key(data: bytes) -> None:
    if signature._key_in(data) is None:
        raise ValueError("no key")


def _watch(data: bytes) -> None:
    news.read(TOPIC, data, base="edge-agent", retained=False, received=datetime(2026, 1, 1, tzinfo=UTC))


BEAT = json.dumps(
    {"schema": "edge-agent/beat/1", "seq": 1, "session": "s", "device": "dev", "stream": "bed1", "sample": 5, "known": 9,
     "time": "2026-01-01T00:00:00Z", "latency": {"algorithm_ms": 1, "queue_ms": None, "compute_ms": 2}, "rr_ms": 800.0}
).encode()  # fmt: skip
HEADER = b"r 2 250 500\nr.dat 16 200/mV 16 0 0 0 0 II\nr.dat 16 10/mmHg 16 0 0 0 0 ABP\n#Produced by nobody\n"
SIGNAL = np.zeros(1000, "<i2").tobytes()
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
        Parser("lines", _lines, (), (b"0.1,x,80\n0.2,x,81\n!,x,82\n# remark\n", b"1e308,,-inf\r\n")),
        *(_board(name) for name in registry.NAMES),
        Parser("raw-info", raw_blocks.decode_info, (raw_blocks.BadBlock,), (raw_blocks.encode_info(INFO),)),
        Parser("raw-block", lambda data: raw_blocks.decode(data, INFO), (raw_blocks.BadBlock,), _block_seeds()),
        Parser("request", requests._parse, (EdgeAgentError,), (b'{"stream":"bed1","kind":"asystole","seconds":60}',)),
        Parser("config", _config, (EdgeAgentError,), ((ROOT / "config" / "edge-agent.toml").read_bytes(),), slow=True),
        Parser("script", _script, (ValueError,), (b'[[episodes]]\nrhythm = "sinus"\nduration_s = 30\n',)),
        Parser("manifest", lambda data: artifact.parse_manifest(data, "m"), (EdgeAgentError,), (manifest,)),
        Parser("tflite", tflite.read, (EdgeAgentError,), ((shipped / "model.tflite").read_bytes(),)),
        Parser("archive", _archive, (EdgeAgentError,), _archive_seeds(), slow=True),
        Parser("key", _key, (ValueError,), (b"ab" * 32, b"-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n")),
        Parser("watch", _watch, (news.UnreadableError,), (BEAT,)),
        Parser("csv", _record("r.csv"), (EdgeAgentError,), (CSV,), slow=True),
        Parser("wfdb-header", _record("r.hea", signal=SIGNAL), (EdgeAgentError,), (HEADER,), slow=True),
        Parser("wfdb-signal", _record("r.hea", header=HEADER), (EdgeAgentError,), (SIGNAL,), slow=True),
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
