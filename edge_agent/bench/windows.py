"""What the models are asked while they are timed: the artifact's golden inputs, a data set, or a simulated patient's beats."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ArtifactError
from edge_agent.inference.artifact import Artifact
from edge_agent.inference.engine import Engine
from edge_agent.inference.feeder import Pending, feeders_of
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import LoadedModel
from edge_agent.journey import Samples, Verdict
from edge_agent.shown import plain
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script

FS = 360.0
SECONDS = 90.0
KNOWN_S = 0.34
"""After the R peak: the QRS detector's delay."""
CHANNELS = {"ecg": ("II", "V1", "V5"), "abp": ("ABP",), "pleth": ("PLETH",)}
"""A model that wants several leads finds them; one that wants one gets the first."""
SINUS = Script(episodes=(Episode(duration_s=86_400.0, pvc_per_min=2.0, snr_db=24.0),))
"""A patient as there are many: extra beats now and then, some muscle and movement."""

Inputs = tuple[Samples, ...]


def golden(artifact: Artifact) -> list[Inputs]:
    return [tuple(array[case] for array in artifact.golden_inputs) for case in range(len(artifact.golden_outputs))]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Windows with their labels, as ``edge-train data prepare`` writes them: ``input_NAME`` arrays and ``label``."""

    path: Path
    inputs: list[Inputs]
    label: NDArray[np.int64]
    """Index into the manifest's labels."""


def data_file(folder: Path, artifact: Artifact) -> Path | None:
    """``folder`` itself where it is a file; else NAME/test.npz, TASK/test.npz, NAME.npz or test.npz in it."""
    if folder.is_file():
        return folder
    name, task = artifact.name, artifact.manifest.task
    for path in (f"{name}/test.npz", f"{task}/test.npz", f"{name}.npz", f"{task}.npz", "test.npz"):
        if (folder / path).is_file():
            return folder / path
    return None


def read_data(path: Path, artifact: Artifact) -> DataSet:
    """`ArtifactError` for a file that does not hold what this model takes."""
    manifest = artifact.manifest
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name.startswith("input_") or name == "label"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        # NumPy's own advice at junk is to allow pickles, which would run what is in them.
        why = "it holds Python objects, or is something else" if "pickle" in str(error) else plain(error)
        raise ArtifactError(f"{path}: not a readable .npz of plain numbers ({why})") from None
    wanted = [f"input_{part.name}" for part in manifest.inputs] + ["label"]
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise ArtifactError(
            f"{path}: is no data set for {manifest.name}: it holds no {', '.join(missing)}",
            remedy="edge-train data prepare writes one",
        )
    label = np.asarray(arrays["label"])
    if label.ndim != 1 or not np.issubdtype(label.dtype, np.integer):
        raise ArtifactError(f"{path}: label is no list of whole numbers")
    if label.size and not 0 <= int(label.min()) <= int(label.max()) < len(manifest.labels):
        raise ArtifactError(f"{path}: has labels {label.min()} to {label.max()}; the model has {len(manifest.labels)}")
    columns = [np.asarray(arrays[name], np.float32) for name in wanted[:-1]]
    for name, column, case in zip(wanted, columns, artifact.golden_inputs, strict=False):
        if column.shape != (label.size, case.shape[1]):
            raise ArtifactError(f"{path}: {name} has shape {column.shape}, ({label.size}, {case.shape[1]}) is wanted")
    return DataSet(path, [tuple(column[i] for column in columns) for i in range(label.size)], label.astype(np.int64))


class WindowPath:
    """A patient's beats (or instants), one verdict at each call: context, cutting, resampling, the engine, the label.

    The patient is simulated before anything is timed; after its last beat it begins anew.
    """

    def __init__(
        self, artifact: Artifact, engine: Engine, *, fs: float = FS, seconds: float = SECONDS, seed: int = 1
    ) -> None:
        manifest = artifact.manifest
        names = CHANNELS[manifest.signal]
        feeder = next(feeders_of(manifest, {name: i for i, name in enumerate(names)}, fs), None)
        if feeder is None:
            raise ArtifactError(f"{manifest.name}: wants channels that the simulated patient does not have")
        self._feeder = feeder
        # The beats are counted in the first ECG lead, which a patient seen through a pressure line has, too.
        patient = SimulatedPatient(fs, names if manifest.signal == "ecg" else (*names, "II"), SINUS, seed)
        parts: list[Samples] = []
        while sum(part.shape[1] for part in parts) < seconds * fs:
            block = patient.read(round(fs))
            assert block is not None  # the script is a day long
            parts.append(block.values)
        values = np.ascontiguousarray(np.concatenate(parts, axis=1)[: len(names)])
        self.end = values.shape[1]
        self._ring = Ring(len(names), self.end)
        self._ring.push(values)
        self._judge = Judge({manifest.name: LoadedModel(artifact, engine)})
        self._rr = RrHistory(fs)
        self._delay = round(KNOWN_S * fs)
        before, after = self._feeder.reach
        self._beats = [beat.sample for beat in patient.truth.beats if -before <= beat.sample < self.end - after]
        self._pending = self._go_round()
        self.abstained = 0
        for _ in range(10 * len(self._beats) + 10):  # until there is history enough for a verdict
            if self(None).label is not None:
                break
        self.abstained = 0

    def _go_round(self) -> Iterator[Pending]:
        while True:
            self._rr.gap()
            stride = self._feeder.stride
            if stride is not None:
                before, after = self._feeder.reach
                for end in range(-before, self.end - after, stride):
                    yield self._feeder.at_instant(end)
                continue
            for sample in self._beats:
                self._rr.beat(sample)
                yield from self._feeder.at_beat(sample, sample + self._delay, self._rr)

    def __call__(self, _: object) -> Verdict:
        window = self._feeder.cut(next(self._pending), self._ring, ())
        verdict = self._judge.ask(window)
        self.abstained += verdict.label is None
        return verdict
