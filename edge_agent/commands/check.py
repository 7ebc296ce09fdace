"""``check``: all that is wrong with a configuration, as far as one mistake does not hide another.

What is wrong with the tables comes first. A value that is wrong stands aside then (its default takes its place), so that the files, the
models and the recordings that the rest names are looked at, too; what hangs on that value is not asked about. Nothing more can be said
of a file that is no TOML, or where something is missing that has no default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent import config
from edge_agent.config import Config, StreamConfig
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.inference.asked_for import missing
from edge_agent.inference.installed.catalogue import Catalogue, open_first
from edge_agent.inference.installed.live import wanted_names
from edge_agent.inference.judge import LoadedModel
from edge_agent.outputs import sinks
from edge_agent.signal.detectors import make_detector
from edge_agent.sources.open import try_source

USUAL_FS = 250.0
ROUNDS = 3
"""A value that stood aside may uncover what belongs together."""


@dataclass(frozen=True, slots=True)
class Good:
    streams: int
    models: tuple[str, ...]
    warnings: tuple[str, ...]


def check(path: Path) -> Good:
    """ConfigError with every problem there is, each with its place."""
    settings, found = _as_far_as_it_goes(path)
    if settings is None:
        raise ConfigError(path, found)
    models: dict[str, LoadedModel] = {}
    if not any(problem.startswith("inference.") for problem in found):
        models, wrong = _models(settings, found)
        found += wrong
    for where, stream in _named(settings):
        found += _stream(stream, where, [one.removeprefix(where) for one in found if one.startswith(where)])
    warnings = list(
        missing(settings.inference, {name: one.artifact.edgetpu is not None for name, one in models.items()})
    )
    for place, folder in _written(settings):
        trouble, mends_itself = _cannot_be_written(folder)
        if trouble:
            (warnings if mends_itself else found).append(f"{place}: {trouble}")
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


def _as_far_as_it_goes(path: Path) -> tuple[Config | None, list[str]]:
    """None: no more can be said than these problems."""
    try:
        return config.load(path), []
    except ConfigError as error:
        found = list(error.problems)
    data = config.parsed(path)
    for _ in range(ROUNDS):
        try:
            settings = Config.model_validate(data)
        except ValidationError as error:
            if not _set_aside(data, error):
                return None, found
            continue
        found += [one for one in config.missing_files(settings, path.parent) if one not in found]
        return settings.anchored(path.parent.resolve()), found
    return None, found


def _set_aside(data: dict[str, Any], error: ValidationError) -> bool:
    """False where a value has nothing to stand in for it."""
    doomed: list[tuple[dict[str, Any], str]] = []
    for one in error.errors():
        here: Any = data
        last: tuple[dict[str, Any], str] | None = None
        for part in one["loc"]:
            if isinstance(here, dict) and isinstance(part, str) and part in here:
                last = (here, part)
                here = here[part]
                if part == "source":
                    break
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
        if last is None or last[1] == "stream" or (one["type"] == "missing" and last[1] != "source"):
            return False
        doomed.append(last)
    for table, key in doomed:
        if key == "source":
            table[key] = {"type": "simulated"}
        else:
            table.pop(key, None)
    return True


def _named(settings: Config) -> Iterator[tuple[str, StreamConfig]]:
    for number, stream in enumerate(settings.stream):
        yield f"stream[{number}] ({stream.name})", stream


def _models(settings: Config, found: list[str]) -> tuple[dict[str, LoadedModel], list[str]]:
    """Those that run, and what is wrong with the others, each with the streams that name it."""
    streams = [(f"{where}.models", stream) for where, stream in _named(settings)]
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
        yield "review.state", config.review_folder(settings.review)
    if settings.outbox.enabled:
        yield "outbox.folder", config.outbox_file(settings.outbox, settings.device.id).parent
    for name, key, path in sinks.files(settings):
        yield f"{name}.{key}", path.parent


def _cannot_be_written(folder: Path) -> tuple[str, bool]:
    """Why, or nothing; and whether that is for the user alone who checks: the agent may be another one. Nothing is made here."""
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
    return "", False


def _line(error: EdgeAgentError) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())
