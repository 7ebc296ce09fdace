"""What a configuration asks of the Edge TPU and cannot have on this machine.

None of it keeps the agent from working: every model runs on the CPU, too. But who wrote ``engine = "tpu"`` believes something else, and
is told so by ``check``, by ``doctor`` and in the log of ``run``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edge_agent.inference.manifest import COMPILED_FILE
from edge_agent.inference.settings import InferenceConfig
from edge_agent.inference.tpu import devices

_CPU = "the CPU computes instead"


def unmet(settings: InferenceConfig, compiled: Mapping[str, bool]) -> Iterator[str]:
    """A line each. ``compiled``: the models that run, and whether each has a file for the TPU."""
    tpu = settings.tpu
    if tpu.delegate is not None and not tpu.delegate.is_file():
        yield f"inference.tpu.delegate: {tpu.delegate}: no such file; {_CPU}"
    if tpu.python is not None and not (tpu.python.is_file() and os.access(tpu.python, os.X_OK)):
        yield f"inference.tpu.python: {tpu.python}: no program that could be run; {_CPU}"
    for name, engine in sorted(settings.engines.items()):
        if name not in compiled:
            yield f"inference.engines.{name}: no model of that name runs here"
        elif engine == "tpu" and not compiled[name]:
            yield f'inference.engines.{name} = "tpu": the model has no file for it ({COMPILED_FILE}); {_CPU}'
    if settings.engine == "tpu" and compiled and not any(compiled.values()):
        yield f'inference.engine = "tpu": no model here has a file for it ({COMPILED_FILE}); {_CPU}'


def missing(settings: InferenceConfig, compiled: Mapping[str, bool]) -> Iterator[str]:
    """The same, and whether there is a TPU and a library for the models that are to run on it. Nothing is opened."""
    yield from unmet(settings, compiled)
    wanted = [name for name, has in compiled.items() if has and settings.engines.get(name, settings.engine) == "tpu"]
    if not wanted:
        return
    those = f'engine = "tpu" of {", ".join(sorted(wanted))}'
    if settings.tpu.delegate is None and devices.find_library(None) is None:
        yield f"{those}: libedgetpu is not in the usual places; {_CPU}"
    found = devices.devices(settings.tpu.sysfs)
    if found is not None and not any(devices.wanted(found, device) for device in settings.tpu.devices):
        device = " or ".join(one for one in settings.tpu.devices if one)
        yield f"{those}: no Edge TPU{f' {device}' if device else ''} on USB or PCIe; {_CPU}"


def compiled_in(folders: Iterable[tuple[str, Path]]) -> dict[str, bool]:
    """By model: whether its folder holds a file for the TPU."""
    return {name: (folder / COMPILED_FILE).is_file() for name, folder in folders}
