"""``check``: all that is wrong with a configuration, as far as one mistake does not hide another.

What is wrong with the tables comes first. A value that is wrong stands aside then (its default takes its place), so that the files, the
models and the recordings that the rest names are looked at, too; what hangs on that value is not asked about. Each stream is read for
itself, so that one that cannot be read hides nothing of the others. Nothing more can be said of a file that is no TOML.
"""

from __future__ import annotations

import copy
import errno
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent import config
from edge_agent.config import SOURCES, Config, StreamConfig
from edge_agent.config_problems import Readers, problems
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.inference.asked_for import missing
from edge_agent.inference.installed.catalogue import Catalogue, open_first
from edge_agent.inference.installed.live import wanted_names
from edge_agent.inference.loaded import LoadedModel
from edge_agent.outputs import sinks
from edge_agent.signal.detectors import make_detector
from edge_agent.sources.open import try_source

USUAL_FS = 250.0
ROUNDS = 4
"""A value that stood aside may uncover what belongs together."""
Named = tuple[str, StreamConfig]
"""A stream, and its place as a person would point at it."""


@dataclass(frozen=True, slots=True)
class Good:
    streams: int
    models: tuple[str, ...]
    warnings: tuple[str, ...]


def check(path: Path) -> Good:
    """ConfigError with every problem there is, each with its place."""
    settings, streams, found = _as_far_as_it_goes(path)
    models: dict[str, LoadedModel] = {}
    if not any(problem.startswith("inference.") for problem in found):
        models, wrong = _models(settings, streams, found)
        found += wrong
    for where, stream in streams:
        found += _stream(stream, where, [one.removeprefix(where) for one in found if one.startswith(where)])
    warnings = list(
        missing(settings.inference, {name: one.artifact.edgetpu is not None for name, one in models.items()})
    )
    for place, folder in _written(settings):
        trouble, mends_itself = _cannot_be_written(folder)
        if trouble:
            (warnings if mends_itself else found).append(f"{place}: {trouble}")
    found += sinks.wrong(settings)
    if settings.review.enabled:
        found += _page()
    if found:
        raise ConfigError(path, found)
    if all(stream.models is not None for stream in settings.stream):
        from edge_agent.alarms.combiner import combiner_of

        if combiner_of(one.artifact for one in models.values()) is None:
            warnings.append(
                "no stream names a model for second opinions (vt-second-opinion): the request verify answers ventricular"
                " tachycardia by its scorecard"
            )
    return Good(len(settings.stream), tuple(models), tuple(warnings))


def _as_far_as_it_goes(path: Path) -> tuple[Config, list[Named], list[str]]:
    """The settings, those streams that can be read at all, and what is wrong so far."""
    try:
        settings = config.load(path)
        return settings, [(_where(number, one.name), one) for number, one in enumerate(settings.stream)], []
    except ConfigError as error:
        found = list(error.problems)
    data = config.parsed(path)
    tables = data["stream"] if isinstance(data.get("stream"), list) else []
    rest, more = _mended({**data, "stream": [_stand_in(0)]}, path.parent)
    streams: dict[int, StreamConfig] = {}
    for number in range(len(tables)):
        alone: list[Any] = [_stand_in(one) for one in range(len(tables))]
        alone[number] = tables[number]
        read, uncovered = _mended({"stream": alone}, path.parent)
        if read is not None:
            streams[number] = read.stream[number]
            more += uncovered
    more += [f"stream: {one}" for one in config.clashes(list(streams.values()))]
    found += [one for one in more if not any(one.removeprefix("stream: ") in said for said in found)]
    settings = rest if rest is not None else Config.model_validate({"stream": [_stand_in(0)]})
    settings = settings.model_copy(update={"stream": list(streams.values())}).anchored(path.parent.resolve())
    places = [_where(number, tables[number].get("name")) for number in streams]
    return settings, list(zip(places, settings.stream, strict=True)), found


def _where(number: int, name: str | None) -> str:
    return f"stream[{number}]" + (f" ({name})" if name else "")


def _stand_in(number: int, name: str = "(stand-in {})") -> dict[str, Any]:
    return {"name": name.format(number), "source": {"type": "simulated"}}


def _mended(data: dict[str, Any], folder: Path) -> tuple[Config | None, list[str]]:
    """With what is wrong set aside, and what that uncovers: values that belong together and do not, files that are not there.
    None: nothing stands in for what is wrong."""
    data = copy.deepcopy(data)
    aside: set[str] = set()
    found: list[str] = []
    for _ in range(ROUNDS):
        try:
            settings = Config.model_validate(data)
        except ValidationError as error:
            found += _of_what_stands(problems(error, data, Readers(Config, StreamConfig, SOURCES)), aside)
            if not _set_aside(data, error, aside):
                return None, []
        else:
            return settings, found + _of_what_stands(config.missing_files(settings, folder), aside)
    return None, []


def _of_what_stands(found: Iterable[str], aside: set[str]) -> list[str]:
    """Without what names a value that stood aside: it may be about its stand-in."""
    hanging = re.compile(rf"\b(?:{'|'.join(map(re.escape, aside))})\b") if aside else None
    return [re.sub(r" \(\(nameless \d+\)\)", "", one) for one in found if hanging is None or not hanging.search(one)]


def _set_aside(data: dict[str, Any], error: ValidationError, aside: set[str]) -> bool:
    """False where a value has nothing to stand in for it."""
    doomed: list[tuple[dict[str, Any], str, int]] = []
    for one in error.errors():
        here: Any = data
        last: tuple[dict[str, Any], str] | None = None
        number = 0
        for part in one["loc"]:
            if isinstance(here, dict) and isinstance(part, str) and part in here:
                last = (here, part)
                here = here[part]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                number, here = part, here[part]
        if last is None:
            return False
        if last[1] == "stream":  # of a stream itself: it has no name, no source, or is no table
            missing = str(one["loc"][-1])
            if not isinstance(here, dict) or missing not in ("name", "source"):
                return False
            last = (here, missing)
        doomed.append((*last, number))
    for table, key, number in doomed:
        aside.add(key)
        if key in ("name", "source"):
            table[key] = _stand_in(number, "(nameless {})")[key]
        else:
            table.pop(key, None)
    return True


def _models(settings: Config, named: Sequence[Named], found: list[str]) -> tuple[dict[str, LoadedModel], list[str]]:
    """Those that run, and what is wrong with the others, each with the streams that name it."""
    streams = [(f"{where}.models", stream) for where, stream in named]
    sound = [(where, stream) for where, stream in streams if not any(one.startswith(where) for one in found)]
    opened: dict[str, LoadedModel] = {}
    wrong: list[str] = []
    try:
        catalogue = Catalogue.of(settings.inference)
        names = wanted_names([stream.models for _, stream in sound], catalogue)
    except EdgeAgentError as error:
        return opened, [f"inference: {_line(error)}"]
    for name in names:
        try:
            opened |= open_first(catalogue, [name])
        except EdgeAgentError as error:
            naming = [where for where, stream in sound if name in (stream.models or ())]
            wrong += [f"{where}: {_line(error)}" for where in naming or ["inference"]]
    return opened, wrong


def _stream(stream: StreamConfig, where: str, found: list[str]) -> Iterator[str]:
    """Of its detector and its source; nothing of what is known to be wrong."""
    fs = stream.resample or getattr(stream.source, "fs", None) or USUAL_FS
    if not any(one.startswith((".source", ".resample", ".signals")) for one in found):
        try:
            try_source(stream)
        except EdgeAgentError as error:
            yield f"{where}.source: {_line(error).removeprefix(f'{stream.name}: ')}"
            fs = USUAL_FS  # a rate that is wrong is no fault of the detector's
    if not any(one.startswith((".detector", ".resample", ".source.fs")) for one in found):
        try:  # known, its package there, fit for the rate
            make_detector(fs, "detector", stream.detector)
        except EdgeAgentError as error:
            yield f"{where}.{_line(error)}"


def _written(settings: Config) -> Iterator[tuple[str, Path]]:
    if settings.recorder is not None:
        yield "recorder.folder", settings.recorder.folder
    if settings.review.enabled:
        yield "review.state", config.review_folder(settings.review.state)
    if settings.outbox.enabled:
        yield "outbox.folder", config.outbox_file(settings.outbox, settings.device.id).parent
    for name, key, path in sinks.files(settings):
        yield f"{name}.{key}", path.parent


def _page() -> Iterator[str]:
    try:
        import edge_agent.review.web  # noqa: F401  # what it needs is there, or it says what is not
    except EdgeAgentError as error:
        yield f"review: {_line(error)}"


def _cannot_be_written(folder: Path) -> tuple[str, bool]:
    """Why, or nothing; and whether that is for the user alone who checks: the agent may be another one. Nothing is left here."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    does = "cannot be written into" if there == folder else "cannot be made"
    if not there.is_dir():
        return f"{folder}: {does}: {there} is no folder", False
    if not os.access(there, os.W_OK | os.X_OK):
        return (
            f"{folder}: {does} by who checks this: {there} may not be written into; may the user whom the agent runs as?",
            True,
        )
    try:
        with tempfile.TemporaryFile(dir=there):  # /proc and its like let root in, and take no file
            pass
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # a full disk is no fault of the configuration
            return f"{folder}: {does}: {there} takes no file ({error.strerror})", False
    return "", False


def _line(error: EdgeAgentError) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())
