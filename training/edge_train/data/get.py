"""Public databases, fetched or copied, and checked before they are believed.

They arrive in a folder aside (``.NAME.part``), which takes its name once everything that can be checked was: a database whose
folder is there is whole. What was fetched of one that was interrupted stays aside, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_train.errors import DataError

Say = Callable[[str], None]
SUMS = "SHA256SUMS.txt"
KNOWN = ("mitdb", "challenge2015", "cinc2017", "afdb", "ltafdb")
"""That the tasks, and those who compare with others, read; any other name is taken where a folder has it."""
SHOWN = 5
BYTES_A_SAMPLE = {
    "8": 1.0,
    "16": 2.0,
    "24": 3.0,
    "32": 4.0,
    "61": 2.0,
    "80": 1.0,
    "160": 2.0,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}
"""By WFDB's format. The compressed ones (508, 516, 524) tell no length."""


@dataclass
class Checked:
    """What a folder was found to hold."""

    folder: Path
    files: int = 0
    total_bytes: int = 0
    records: int = 0
    lengths: int = 0
    """Signal files whose size agrees with their header."""
    sums: int = 0
    """Files whose SHA-256 agrees with the database's list."""
    listed: int = 0
    """Records that RECORDS names."""
    problems: list[str] = field(default_factory=list)

    def brief(self) -> str:
        parts = [
            f"{self.files} files, {self.total_bytes / 1e6:.1f} MB",
            f"{self.records} records with headers, {self.lengths} signal files as long as they say",
            f"{self.sums} files by {SUMS}" if self.sums else f"no {SUMS}: nothing compared with it",
            f"{self.listed} of RECORDS" if self.listed else "no RECORDS",
        ]
        return f"{self.folder}: " + "; ".join(parts)


def check_database(folder: Path) -> Checked:
    """Every header's signal files as long as it says, every record that RECORDS names, every file by SHA256SUMS.txt."""
    found = Checked(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found.files, found.total_bytes = len(files), sum(path.stat().st_size for path in files)
    if not files:
        found.problems.append("holds no files")
        return found
    headers = [path for path in files if path.suffix == ".hea"]
    found.records = len(headers)
    for header in headers:
        _check_lengths(header, found)
    _check_records(folder, found)
    _check_sums(folder, found)
    for path in files:
        if path.stat().st_size == 0:
            found.problems.append(f"{path.relative_to(folder)} is empty")
    return found


def _check_lengths(header: Path, found: Checked) -> None:
    import wfdb

    try:
        record = wfdb.rdheader(str(header.with_suffix("")))
    except Exception as error:  # noqa: BLE001 - the parser fails in any way on a header cut short
        found.problems.append(f"{header.name} is no header ({type(error).__name__}: {error})")
        return
    if hasattr(record, "seg_name") or not record.n_sig:
        return  # a record of several segments, which have headers of their own, or one without signals
    if len(record.file_name or ()) != record.n_sig:
        found.problems.append(
            f"{header.name} describes {len(record.file_name or ())} of {record.n_sig} signals: half-downloaded?"
        )
        return
    if record.sig_len is None:
        return  # it does not say how long it is
    wanted: dict[str, float] = {}
    for name, form, frame, offset in zip(
        record.file_name, record.fmt, record.samps_per_frame, record.byte_offset, strict=True
    ):
        if form in BYTES_A_SAMPLE:
            bytes_here = (frame or 1) * record.sig_len * BYTES_A_SAMPLE[form]
            wanted[name] = wanted.get(name, float(offset or 0)) + bytes_here
        elif not (header.parent / name).is_file():
            found.problems.append(f"{name} is missing ({header.name} names it)")
    for name, size in wanted.items():
        path = header.parent / name
        if not path.is_file():
            found.problems.append(f"{name} is missing ({header.name} names it)")
        elif path.stat().st_size < int(size):
            found.problems.append(
                f"{name} has {path.stat().st_size} bytes, its header tells of {int(size)}: half-downloaded?"
            )
        else:
            found.lengths += 1


def _check_records(folder: Path, found: Checked) -> None:
    path = folder / "RECORDS"
    if not path.is_file():
        return
    for name in path.read_text().split():
        if name.endswith("/"):
            continue
        if (folder / f"{name}.hea").is_file():
            found.listed += 1
        else:
            found.problems.append(f"record {name} is missing (RECORDS names it)")


def _check_sums(folder: Path, found: Checked) -> None:
    path = folder / SUMS
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        digest, _, name = line.strip().partition(" ")
        target = folder / name.strip().lstrip("*")
        if len(digest) != 64 or not target.is_file():
            continue  # what a database has besides its records is not always fetched
        if hashlib.sha256(target.read_bytes()).hexdigest() == digest.lower():
            found.sums += 1
        else:
            found.problems.append(f"{name.strip()} is not what {SUMS} says")


def get(name: str, target: Path, source: Path | None, say: Say) -> Checked:
    """Fetch (or copy from ``source`` or ``source/NAME``), check, and only then give the folder its name."""
    if target.is_dir():
        found = check_database(target)
        _refuse(found, f"remove {target} and get it again")
        return found
    copy = None if source is None else _copy_of(name, source)
    aside = target.with_name(f".{target.name}.part")
    try:
        aside.mkdir(parents=True, exist_ok=True)
        if copy is not None:
            shutil.copytree(copy, aside, dirs_exist_ok=True)
        else:
            _fetch(name, aside, say)
    except OSError as error:
        if source is not None:
            shutil.rmtree(aside, ignore_errors=True)
        raise DataError(
            f"{target}: {error.strerror or error}; there is no {target.name} yet, and the same command goes on"
        ) from None
    found = check_database(aside)
    if found.problems and source is not None:
        shutil.rmtree(aside, ignore_errors=True)
    _refuse(found, "the same command fetches what is missing" if source is None else "is the copy complete?")
    aside.replace(target)
    found.folder = target
    return found


def _refuse(found: Checked, remedy: str) -> None:
    if found.problems:
        more = f", and {len(found.problems) - SHOWN} more" if len(found.problems) > SHOWN else ""
        raise DataError(f"{found.folder}: {'; '.join(found.problems[:SHOWN])}{more}: {remedy}")


def _copy_of(name: str, source: Path) -> Path:
    """``source/NAME``, or ``source`` where it is that very database: else a slip of the pen would copy whatever is there."""
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    if (source / name).is_dir():
        return source / name
    records = (source / "RECORDS").is_file() or any(source.glob("*.hea"))
    if source.resolve().name == name or (name in KNOWN and records):
        return source
    there = sorted(path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = ", ".join(dict.fromkeys([*there, *KNOWN]))
    raise DataError(f"{source}: no folder {name} there, and it is not {name} itself; known names: {names}")


def _fetch(name: str, aside: Path, say: Say) -> None:
    """By the wfdb package, which goes on with files that are there in part."""
    import wfdb

    say(f"{name} from PhysioNet into {aside} ...")
    try:
        wfdb.dl_database(name, str(aside), keep_subdirs=True, overwrite=False)
        for extra in ("RECORDS", SUMS):
            with contextlib.suppress(Exception):  # not every database has them; what is there is checked
                wfdb.dl_files(name, str(aside), [extra])
    except Exception as error:  # noqa: BLE001 - whatever the network library raises is the same to who waits
        with contextlib.suppress(OSError):
            aside.rmdir()  # if nothing came at all
        raise DataError(
            f"{name}: PhysioNet gave no such database, or cannot be reached ({type(error).__name__}: {error});"
            " with a copy on disk: --from DIR"
        ) from None
