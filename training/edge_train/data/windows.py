"""A task's examples as arrays: inputs by the manifest's names, labels, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats, Ints
from edge_train.errors import DataError
from edge_train.files import digest_of, prepared_facts, whole_file, whole_folder, write_json

SETS = ("train", "validation", "test")
LISTED = 5000
"""More groups than this are counted in data.json, not named."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Rows are examples. An input's row is flat, as the daemon feeds it; a net gives it its shape."""

    inputs: Mapping[str, Floats]
    """By the manifest's input names: (examples, numbers)."""
    label: Ints
    """Index into the task's labels."""
    group: NDArray[np.str_]
    """The patient (or the recording where patients are not known): what a split must never divide."""
    where: NDArray[np.str_]
    """``record:sample``, so that a row can be looked at where it came from."""

    def __len__(self) -> int:
        return int(self.label.size)

    def pick(self, which: NDArray[Any]) -> Windows:
        return Windows(
            {name: x[which] for name, x in self.inputs.items()}, self.label[which], self.group[which], self.where[which]
        )


def join(parts: Sequence[Windows]) -> Windows:
    """All rows of all parts, in their order; the parts have the same inputs."""
    return Windows(
        {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs},
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.where for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Split:
    """A task's examples, no patient in two of them."""

    train: Windows
    validation: Windows
    """Early stopping, thresholds and tuning look here."""
    test: Windows
    """Looked at by ``edge-train evaluate`` alone."""
    facts: dict[str, Any]
    """What data.json says: data, counts, groups by set, digest."""


def check(windows: Windows, labels: Sequence[str], where: str) -> None:
    """Refuse what must not be trained on: no example of a class, numbers that are none, rows that do not fit."""
    for name, x in windows.inputs.items():
        if x.ndim != 2 or len(x) != len(windows):
            raise DataError(f"{where}: input {name} has shape {x.shape} for {len(windows)} labels")
        if not np.isfinite(x).all():
            bad = np.flatnonzero(~np.isfinite(x).all(1))
            raise DataError(f"{where}: input {name} holds numbers that are none, first at {windows.where[bad[0]]}")
    missing = [label for i, label in enumerate(labels) if not (windows.label == i).any()]
    if missing:
        raise DataError(f"{where}: no example of class {', '.join(missing)}")


def check_groups(split: Mapping[str, Windows]) -> None:
    """Refuse a split that has a patient on both sides."""
    seen: dict[str, str] = {}
    for name, windows in split.items():
        for group in np.unique(windows.group).tolist():
            if group in seen:
                raise DataError(f"patient on both sides of the split: {group} is in {seen[group]} and in {name}")
            seen[group] = name


def save(folder: Path, split: Split, labels: Sequence[str]) -> None:
    """Checked first, then written aside; what was in ``folder`` stays until the new data are whole."""
    sets = {name: getattr(split, name) for name in SETS}
    check_groups(sets)
    for name, windows in sets.items():
        check(windows, labels if name == "train" else [], f"{folder.name} {name}")
    counts = {
        name: {label: int((windows.label == i).sum()) for i, label in enumerate(labels)}
        | {"groups": int(np.unique(windows.group).size)}
        for name, windows in sets.items()
    }
    facts = split.facts | {"labels": list(labels), "counts": counts}
    if all(count["groups"] <= LISTED for count in counts.values()):
        facts["groups"] = {name: np.unique(windows.group).tolist() for name, windows in sets.items()}
    with whole_folder(folder) as made:
        for name, windows in sets.items():
            arrays: dict[str, Any] = {f"input_{key}": x.astype(np.float32) for key, x in windows.inputs.items()}
            np.savez(made / f"{name}.npz", **arrays, label=windows.label, group=windows.group, where=windows.where)
        # Of what a net will see, not of what it was made from: the code that cuts and labels changes too.
        facts["digest"] = digest_of(made / f"{name}.npz" for name in sets)
        write_json(made / "data.json", facts)


def save_csv(folder: Path, split: Split, labels: Sequence[str]) -> None:
    """The same as text, for those who want to look: label, group, where, then every input's numbers."""
    for name in SETS:
        windows: Windows = getattr(split, name)
        columns = {"label": np.array(labels)[windows.label], "group": windows.group, "where": windows.where}
        write_csv(folder / f"{name}.csv", columns | dict(sorted(windows.inputs.items())))


def write_csv(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Arrays side by side; one of several numbers a row takes as many columns, name_0, name_1, ..."""
    heads = []
    for name, values in columns.items():
        heads += [name] if values.ndim == 1 else [f"{name}_{i}" for i in range(values.shape[1])]
    with whole_file(path) as aside, aside.open("w") as out:
        out.write(",".join(heads) + "\n")
        for row in zip(*columns.values(), strict=True):
            cells = [_text(cell) for part in row for cell in np.atleast_1d(part).tolist()]
            out.write(",".join(cells) + "\n")


def _text(cell: Any) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def load(folder: Path) -> Split:
    facts = prepared_facts(folder, [f"{name}.npz" for name in SETS])
    try:
        sets = {name: _read(folder / f"{name}.npz") for name in SETS}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"{folder}: prepared data are damaged ({error}); run: edge-train data prepare {folder.name}"
        ) from None
    check_groups(sets)
    return Split(**sets, facts=facts)


def _read(path: Path) -> Windows:
    with np.load(path, allow_pickle=False) as archive:
        inputs = {name.removeprefix("input_"): archive[name] for name in archive.files if name.startswith("input_")}
        return Windows(inputs, archive["label"], archive["group"], archive["where"])
