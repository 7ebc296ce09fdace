"""From a source's configuration to the source itself."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import cast

from edge_agent.config import (
    BoardSource,
    FileSource,
    LslSource,
    MqttSource,
    SerialSource,
    SimulatedSource,
    StdinSource,
    StreamConfig,
    TcpSource,
)
from edge_agent.errors import SourceError
from edge_agent.sources.base import Kind, Signal, Source, StreamInfo, guess_kind, is_plainly_other
from edge_agent.sources.paced import PacedSource, RecordingReader
from edge_agent.sources.recording import Recording
from edge_agent.sources.resampled import ResampledSource, at_rate
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import DEMO_SCRIPT, Episode, Script, script_from_dict

RATES = (50, 4000)
"""Samples per second that the detectors are made for."""
UNREAD_TRUTH_S = 60.0
"""Of what a simulated patient knows of himself: nobody asks a stream for it, and an hour of it is 2 MB of small objects."""
SIMULATED_UNITS = {"II": "mV", "V": "mV", "ABP": "mmHg", "PLETH": "NU"}

log = logging.getLogger(__name__)


def open_source(stream: StreamConfig) -> Source:
    """Open a stream's source, or say why it cannot be (`SourceError`)."""
    opened = _open(stream)
    if stream.resample is not None and stream.resample != opened.info.fs:
        opened = ResampledSource(opened, stream.resample)
    try:
        opened.info = with_kinds(opened.info, dict(stream.signals), stream.name)
    except BaseException:
        opened.close()
        raise
    return opened


def info_unopened(stream: StreamConfig) -> StreamInfo | None:
    """What a source that is not there yet will deliver, where the settings say so: the others must be asked themselves."""
    source = stream.source
    if isinstance(source, BoardSource | SerialSource):
        from edge_agent.sources.byte_source import line_info
        from edge_agent.sources.serial_port import board_codec, board_info

        info = line_info(source) if isinstance(source, SerialSource) else board_info(board_codec(source).board)
        if stream.resample is not None and stream.resample != info.fs:
            info = at_rate(info, stream.resample)
        return with_kinds(info, dict(stream.signals), stream.name)
    return None


def _open(stream: StreamConfig) -> Source:
    """Each kind's libraries are imported for those who use it."""
    source = stream.source
    match source:
        case SimulatedSource():
            return _simulated(source)
        case FileSource():
            return _file(source)
        case BoardSource() | SerialSource():
            from edge_agent.sources.serial_port import open_board, open_lines

            return open_board(source) if isinstance(source, BoardSource) else open_lines(source)
        case StdinSource():
            from edge_agent.sources.stdin import open_stdin

            return open_stdin(source)
        case TcpSource():
            from edge_agent.sources.tcp import open_tcp

            return open_tcp(source)
        case MqttSource():
            from edge_agent.sources.mqtt_raw import open_mqtt

            return open_mqtt(source)
        case LslSource():
            from edge_agent.sources.lsl import open_lsl

            return open_lsl(source)


def _file(source: FileSource) -> PacedSource:
    recording = open_recording(source.path, fs=source.fs)
    try:
        reader = RecordingReader(recording, offset_s=source.offset, loop=source.loop, loop_gap_s=source.loop_gap_s)
    except SourceError as error:
        recording.close()
        raise SourceError(f"{source.path}: {error.what}", remedy=error.remedy) from None
    return PacedSource(reader.info, reader.read, source.factor, recording.close)


TEXT_ENDINGS = (".csv", ".txt", ".tsv")
EDF_ENDINGS = (".edf", ".bdf")
HDF5_ENDINGS = (".hdf5", ".h5")
WFDB_ENDINGS = (".hea", ".dat", ".atr")
"""A WFDB record is named without any; whoever gives one of its files means the record."""


def record_name(path: Path) -> str:
    """Without the endings that recordings have; a record may have dots of its own."""
    known = path.suffix.lower() in (*TEXT_ENDINGS, *EDF_ENDINGS, *HDF5_ENDINGS, *WFDB_ENDINGS)
    return path.stem if known else path.name


def open_recording(path: Path, *, fs: float | None = None) -> Recording:
    """By what the path is: ``name.csv``, ``name.edf``, ``name.hdf5``, else a WFDB record with or without its ``.hea``."""
    suffix = path.suffix.lower()
    if suffix in TEXT_ENDINGS:
        from edge_agent.sources.csv_file import CsvRecording

        return CsvRecording(path, fs)
    if suffix in EDF_ENDINGS:
        from edge_agent.sources.edf_file import EdfRecording

        return EdfRecording(path)
    if suffix in HDF5_ENDINGS:
        from edge_agent.sources.hdf5_file import IcmRecording

        return IcmRecording(path)
    from edge_agent.sources.wfdb_file import WfdbRecording

    return WfdbRecording(path.with_suffix("") if suffix in WFDB_ENDINGS else path)


def try_source(stream: StreamConfig) -> None:
    """Whether it could be opened, as far as that can be said without touching a port that a running agent may hold."""
    if isinstance(stream.source, BoardSource):
        from edge_agent.sources.serial_port import board_codec

        board_codec(stream.source)
    elif isinstance(stream.source, FileSource | SimulatedSource):
        open_source(stream).close()
        if isinstance(stream.source, FileSource):
            _as_long_as_it_says(stream.source)
    elif isinstance(stream.source, LslSource):
        from edge_agent.sources.lsl import library

        library()


def _as_long_as_it_says(source: FileSource) -> None:
    """A file that was cut off reads well until its end; text was read whole when it was opened."""
    if source.path.suffix.lower() in TEXT_ENDINGS:
        return
    recording = open_recording(source.path, fs=source.fs)
    try:
        last = recording.runs[-1][1] - 1
        if not recording.read(last, 1).shape[1]:
            raise SourceError(f"{source.path}: ends before sample {last}", remedy="fetch it again, whole")
    finally:
        recording.close()


def with_kinds(info: StreamInfo, kinds: dict[str, str], where: str) -> StreamInfo:
    """The kinds that the configuration gives win over those that names and units suggest."""
    if not RATES[0] <= info.fs <= RATES[1]:
        raise SourceError(
            f"{where}: has {info.fs:g} samples per second",
            remedy=f"{RATES[0]} to {RATES[1]} are taken: resample = 250 in the stream's table",
        )
    there = [signal.name for signal in info.signals]
    for name in kinds:
        if name not in there:
            raise SourceError(
                f"{where}: there is no channel {name!r} to be told the kind of", remedy=f"there are: {', '.join(there)}"
            )
    signals = tuple(
        Signal(signal.name, _kind(kinds.get(signal.name), signal.kind), signal.unit) for signal in info.signals
    )
    if not any(signal.kind != "other" for signal in signals):
        raise SourceError(
            f"{where}: none of its channels ({', '.join(there)}) is known to be an ECG or a pressure",
            remedy='say what they are: signals = { NAME = "ecg" }',
        )
    unused = [
        one.name for one in signals if one.kind == "other" and one.name not in kinds and not is_plainly_other(one.name)
    ]
    if unused:
        log.warning(
            "%s: not used, since what it is is not known: %s; signals = { NAME = \"ecg\" } says it (or \"ignore\")",
            where, ", ".join(unused),
        )  # fmt: skip
    return replace(info, signals=signals)


def _kind(told: str | None, guessed: Kind) -> Kind:
    if told is None:
        return guessed
    return "other" if told == "ignore" else cast(Kind, told)


def load_script(source: SimulatedSource, channels: Collection[str] = tuple(SIMULATED_UNITS)) -> Script:
    """``channels``: all that a patient of this kind may have; one script may serve several, each with some of them."""
    if source.script == "demo":
        return DEMO_SCRIPT
    if source.script == "sinus":
        return Script((Episode(name="sinus", duration_s=3600.0),))
    try:
        script = script_from_dict(tomllib.loads(source.script.read_text(encoding="utf-8-sig")))
        for number, episode in enumerate(script.episodes, 1):
            if unknown := sorted(episode.lead_off.difference(channels)):
                raise ValueError(
                    f"script: episode {number}: lead_off {', '.join(map(repr, unknown))} is no channel of a simulated patient;"
                    f" allowed: {', '.join(channels)}"
                )
    except OSError as error:
        raise SourceError(f"{source.script}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SourceError(f"{source.script}: is not text in UTF-8", remedy="save it as text, in UTF-8") from None
    except RecursionError:
        raise SourceError(f"{source.script}: is not valid TOML: nested too deeply") from None
    except ValueError as error:  # also TOMLDecodeError
        raise SourceError(f"{source.script}: {error}") from None
    return script


def _simulated(source: SimulatedSource) -> PacedSource:
    patient = SimulatedPatient(
        source.fs,
        tuple(source.channels),
        load_script(source),
        source.seed,
        forever=source.forever or source.script == "sinus",
    )
    patient.truth.kept_s = UNREAD_TRUTH_S
    signals = tuple(Signal(name, guess_kind(name), SIMULATED_UNITS[name]) for name in source.channels)
    return PacedSource(StreamInfo(fs=source.fs, signals=signals), patient.read, source.speed)
