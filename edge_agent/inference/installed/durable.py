"""Files and folders that a power cut leaves either old or new: written aside, synced, renamed, and the folder synced too.

Whatever is made by root belongs to whoever owns the folder around it: the service runs under an account of its own and must be
able to write where an administrator has installed something.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def _to_the_owner(path: Path) -> None:
    if os.geteuid() == 0:
        around = path.parent.stat()
        os.chown(path, around.st_uid, around.st_gid, follow_symlinks=False)


def sync_file(descriptor: int) -> None:
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    old.rename(new)


def make_folder(folder: Path) -> None:
    """With those above it; each is synced into the one that holds it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        _to_the_owner(folder)
    sync_folder(folder.parent)


def write_new(path: Path, data: bytes) -> None:
    """A file that is not there yet, on the disk when this returns; its folder is for the caller to sync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())
    _to_the_owner(path)


def replace_file(path: Path, data: bytes) -> None:
    """The old content or the new one, never a part of either. One writer at a time."""
    aside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    try:
        write_new(aside, data)
        rename(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)
