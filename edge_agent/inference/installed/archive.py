"""Models as they travel: a folder, or an ``.edgemodel`` archive, and how either is taken without trusting it.

An ``.edgemodel`` is a zip of plain files, stored or deflated, without folders: ``manifest.json``, ``manifest.sig`` if it is
signed, ``MODEL_CARD.md``, and the files that the manifest lists, nothing else. What is read, in this order:

1. the archive's directory, by its bounds alone (how many members, how large, how much they claim to unpack to);
2. ``manifest.json`` and ``manifest.sig``; the signature is verified before the manifest is parsed;
3. each file that the manifest lists, up to its bound, its SHA-256 compared before it is written anywhere.

Nothing is unpacked by a name from the archive: names are looked up, and written under the plain names of the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.artifact import MAX_FILE_BYTES, parse_manifest
from edge_agent.inference.installed import durable, signature
from edge_agent.inference.manifest import Manifest

ENDING = ".edgemodel"
MANIFEST, CARD = "manifest.json", "MODEL_CARD.md"
MOST_MEMBERS = 68
"""As many files as a manifest may list, and those around them."""
MOST_ARCHIVE_BYTES = MAX_FILE_BYTES
MOST_UNPACKED_BYTES = 2 * MAX_FILE_BYTES
MOST_MANIFEST_BYTES = 1 << 20
MOST_CARD_BYTES = 1 << 20
MOST_RATIO = 100
"""Unpacked against packed, beyond the first MiB: weights come to 2 at most, text to 10, a bomb to 1000."""
RATIO_COUNTS_FROM = 1 << 20
MOST_NAME = 100
_FLAGS = 0x80E
"""How hard deflate tried, sizes behind the data, names in UTF-8."""
_END = struct.Struct("<4s4H2LH")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)
_REPACK = "make it with: edge-agent models pack FOLDER"


class Bundle(Protocol):
    """Something that a model can be taken from."""

    where: str

    def has(self, name: str) -> bool: ...

    def strangers(self, known: set[str]) -> list[str]:
        """What is in it and has no business there."""

    def read(self, name: str, most: int) -> bytes: ...


class FolderBundle:
    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: no such model folder or archive")
        self._folder = folder
        self.where = str(folder)

    def has(self, name: str) -> bool:
        return os.path.lexists(self._folder / name)

    def strangers(self, known: set[str]) -> list[str]:  # noqa: ARG002
        return []  # a folder may hold notes; they stay where they are

    def read(self, name: str, most: int) -> bytes:
        """No link is followed: what an administrator installs must not carry away files of his that a folder points to."""
        path = self._folder / name
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ArtifactError(f"{path}: is not a file")
                data = file.read(most + 1)
        except IsADirectoryError:
            raise ArtifactError(f"{path}: is not a file") from None
        except OSError as error:
            if path.is_symlink():
                raise ArtifactError(f"{path}: is a link; a model is made of plain files") from None
            raise ArtifactError(f"{path}: {error.strerror or error}") from None
        return _bounded(data, most, str(path))


class ArchiveBundle:
    """An archive whose directory keeps to the bounds. Use ``opened``."""

    def __init__(self, where: str, file: BinaryIO) -> None:
        self.where = where
        size = os.fstat(file.fileno()).st_size
        if size > MOST_ARCHIVE_BYTES:
            raise self._refused(f"over {MOST_ARCHIVE_BYTES >> 20} MiB")
        self._entries = self._look_at_the_end(file, size)
        try:
            self._zip = zipfile.ZipFile(file)
            members = self._zip.infolist()
        except _UNREADABLE as error:
            raise self._refused(f"not a readable archive ({error})") from None
        if len(members) != self._entries:
            raise self._refused(f"says that it holds {self._entries} members, and holds {len(members)}")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            self._look_at(member)
            if member.filename.casefold() in {name.casefold() for name in self._members}:
                raise self._refused(f"holds {member.filename!r} twice")
            self._members[member.filename] = member
        unpacked = sum(member.file_size for member in members)
        if unpacked > MOST_UNPACKED_BYTES:
            raise self._refused(f"unpacked it would be {unpacked >> 20} MiB; {MOST_UNPACKED_BYTES >> 20} are the most")
        at = 0
        for member in sorted(members, key=lambda one: one.header_offset):
            if member.header_offset < at:
                raise self._refused("its members overlap")
            at = member.header_offset + member.compress_size

    def _refused(self, why: str) -> ArtifactError:
        return ArtifactError(f"{self.where}: {why}", remedy=_REPACK)

    def _look_at_the_end(self, file: BinaryIO, size: int) -> int:
        """How many members there are. Before anything reads the directory into memory: a million empty ones fit into a small file."""
        tail = min(size, _END.size)
        file.seek(size - tail)
        end = file.read(tail)
        if len(end) < _END.size or not end.startswith(b"PK\5\6"):
            raise self._refused("not an archive, or cut short")
        _, disk, first_disk, here, entries, length, offset, comment = _END.unpack(end)
        if disk or first_disk or here != entries or comment or 0xFFFFFFFF in (length, offset):
            raise self._refused("an archive in parts, of the large kind or with a comment")
        if entries > MOST_MEMBERS:
            raise self._refused(f"holds {entries} members; {MOST_MEMBERS} are the most")
        if offset + length + _END.size != size or length > MOST_MEMBERS * 1024:
            raise self._refused("its directory is not where it says, or holds more than it says")
        return int(entries)

    def _look_at(self, member: zipfile.ZipInfo) -> None:
        name = member.orig_filename
        if not _plain(name) or name != member.filename:
            raise self._refused(f"holds {name!r:.60}, which is not a plain file name")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or member.is_dir() or member.external_attr & 0x10:
            raise self._refused(f"{name!r} is not a plain file but a link, a folder or a device")
        if member.flag_bits & 0x1:
            raise self._refused(f"{name!r} is encrypted")
        if member.flag_bits & ~_FLAGS:
            raise self._refused(f"{name!r} has flags that no plain archive has ({member.flag_bits:#x})")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refused(f"{name!r} is packed in another way than deflate")
        if member.file_size > MAX_FILE_BYTES:
            raise self._refused(f"{name!r} would be over {MAX_FILE_BYTES >> 20} MiB")
        if member.file_size > RATIO_COUNTS_FROM and member.file_size > MOST_RATIO * max(1, member.compress_size):
            raise self._refused(f"{name!r} would unpack to {member.file_size // max(1, member.compress_size)} times")

    def has(self, name: str) -> bool:
        return name in self._members

    def strangers(self, known: set[str]) -> list[str]:
        return sorted(self._members.keys() - known)

    def read(self, name: str, most: int) -> bytes:
        where = f"{self.where}: {name}"
        if name not in self._members:
            raise ArtifactError(f"{where}: is not in the archive", remedy=_REPACK)
        try:
            with self._zip.open(self._members[name]) as file:
                data = file.read(most + 1)  # what a member says of its size binds nobody
                # To the end, where the checksum is compared, whenever it is within the bound.
                return _bounded(data, most, where)
        except ArtifactError:  # a ValueError, too
            raise
        except _UNREADABLE as error:
            raise ArtifactError(f"{where}: cannot be unpacked ({error})", remedy="get the archive again") from None
        except OSError as error:
            raise ArtifactError(f"{where}: {error.strerror or error}") from None


def _plain(name: str) -> bool:
    return (
        0 < len(name) <= MOST_NAME
        and not name.startswith((".", " "))
        and name.isprintable()
        and not any(char in name for char in '/\\:*?"<>|')
    )


def _bounded(data: bytes, most: int, where: str) -> bytes:
    if len(data) > most:
        raise ArtifactError(f"{where}: over {most} bytes", remedy="this is no edge model")
    return data


@contextlib.contextmanager
def opened(path: Path, where: str | None = None) -> Iterator[Bundle]:
    """A model folder or an archive; anything else is refused. ``where``: its name for people, if that is another."""
    if path.is_dir():
        yield FolderBundle(path)
        return
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArtifactError(f"{path}: is neither a folder nor an archive")
            yield ArchiveBundle(where or str(path), file)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such model folder or archive") from None
    except PermissionError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from None


def take(bundle: Bundle, into: Path, policy: signature.Policy) -> Manifest:
    """Copy a model's files into a fresh folder, each of them verified before it is written and on the disk afterwards."""
    raw = bundle.read(MANIFEST, MOST_MANIFEST_BYTES)
    sig = bundle.read(signature.FILE, signature.SIGNATURE_BYTES) if bundle.has(signature.FILE) else None
    signature.check(raw, sig, policy, bundle.where)
    manifest = parse_manifest(raw, f"{bundle.where}: {MANIFEST}")
    strangers = bundle.strangers({MANIFEST, signature.FILE, CARD, *manifest.files})
    if strangers:
        raise ArtifactError(f"{bundle.where}: holds {strangers[0]!r}, which the manifest does not list", remedy=_REPACK)
    left = MOST_UNPACKED_BYTES
    contents: dict[str, bytes] = {}
    for name, digest in manifest.files.items():
        data = bundle.read(name, min(left, MAX_FILE_BYTES))
        left -= len(data)
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise ArtifactError(
                f"{bundle.where}: {name}: SHA-256 is {found[:12]}..., the manifest says {digest[:12]}...",
                remedy="the file was damaged or changed: get the model again",
            )
        contents[name] = data
    if CARD not in contents and bundle.has(CARD):
        contents[CARD] = bundle.read(CARD, MOST_CARD_BYTES)
    contents[MANIFEST] = raw
    if sig is not None:
        contents[signature.FILE] = sig
    for name, data in contents.items():
        durable.write_new(into / name, data)
    durable.sync_folder(into)
    return manifest


def pack(folder: Path, archive: Path) -> int:
    """Write a model folder as an archive; the same folder gives the same bytes. Returns how many there are."""
    if archive.exists():
        raise OutputError(f"{archive}: is there already", remedy="name another file, or remove it")
    bundle = FolderBundle(folder)
    raw = bundle.read(MANIFEST, MOST_MANIFEST_BYTES)
    manifest = parse_manifest(raw, f"{folder}: {MANIFEST}")
    names = [name for name in (signature.FILE, CARD) if bundle.has(name) and name not in manifest.files]
    aside = archive.with_name(f".{archive.name}.part")
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as made:
            for name in (MANIFEST, *names, *sorted(manifest.files)):
                data = raw if name == MANIFEST else bundle.read(name, MAX_FILE_BYTES)
                if manifest.files.get(name, hashlib.sha256(data).hexdigest()) != hashlib.sha256(data).hexdigest():
                    raise ArtifactError(
                        f"{folder / name}: is not what the manifest says", remedy="pack the model again"
                    )
                about = zipfile.ZipInfo(name)  # dated 1980, as every archive of ours
                about.external_attr = (stat.S_IFREG | 0o644) << 16
                about.compress_type = zipfile.ZIP_DEFLATED
                made.writestr(about, data)
        aside.replace(archive)
    except OSError as error:
        raise OutputError(f"{archive}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    with opened(archive):  # by the bounds that whoever installs it will hold it to
        return archive.stat().st_size
