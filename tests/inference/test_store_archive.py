"""Archives: what goes in comes out, and what is hostile is refused in one line before it can cost anything."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.artifact import load
from edge_agent.inference.installed import archive, signature
from edge_agent.inference.installed.archive import opened, pack, take
from edge_agent.inference.installed.prove import prove_apart
from edge_agent.inference.installed.signature import Policy
from tests.inference.tiny import manifest, write

Members = list[tuple[str | zipfile.ZipInfo, bytes]]


def members_of(folder: Path) -> Members:
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def zipped(path: Path, members: Members, how: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", how) as made:
        for name, data in members:
            made.writestr(name, data)
        made.comment = comment
    return path


def take_from(path: Path, into: Path, policy: Policy = signature.ANY) -> None:
    into.mkdir()
    with opened(path) as bundle:
        take(bundle, into, policy)


def refused(path: Path, into: Path, *words: str, policy: Policy = signature.ANY) -> None:
    """In one line that names the file and the reason, with nothing written."""
    into.mkdir()
    with pytest.raises(ArtifactError) as caught, opened(path) as bundle:
        take(bundle, into, policy)
    first, *rest = str(caught.value).split("\n")
    assert str(path) in first
    first = first.replace(str(path), "")  # the folder has the test's name, which has the word that is looked for
    assert len(rest) <= 1
    for word in words:
        assert word in first, first
    assert list(into.iterdir()) == []


def test_what_is_packed_comes_out_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path, files={"labels.txt": b"a b c"})
    (folder / "MODEL_CARD.md").write_text("# Tiny", encoding="utf-8")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    size = pack(folder, tmp_path / "one.edgemodel")
    assert size == (tmp_path / "one.edgemodel").stat().st_size
    take_from(tmp_path / "one.edgemodel", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"manifest.json", "model.tflite", "golden.npz", "labels.txt", "MODEL_CARD.md"}
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert load(tmp_path / "out").digest == load(folder).digest
    pack(folder, tmp_path / "two.edgemodel")
    assert (tmp_path / "two.edgemodel").read_bytes() == (tmp_path / "one.edgemodel").read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        pack(folder, tmp_path / "one.edgemodel")


def test_a_folder_is_taken_by_the_same_rules(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    take_from(folder, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "model.tflite", "golden.npz"}


def test_damage_is_not_packed(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "model.tflite").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="is not what the manifest says"):
        pack(folder, tmp_path / "out.edgemodel")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


# -- hostile archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/cron.d/evil",
        "a/../../evil",
        "sub/model.tflite",
        "..\\evil",
        "C:evil",
        "..",
        ".hidden",
        " ",
        "new\nline",
        "x" * 101,
        "dir/",
        "bell\x07",
        "\u202egnp.exe",
    ],
    ids=lambda name: repr(name)[:20],
)
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "evil.edgemodel", [*members_of(write(tmp_path)), (name, b"evil")])
    refused(path, tmp_path / "out", "not a plain file name")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_and_devices(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("MODEL_CARD.md")
    info.external_attr = (kind | 0o777) << 16
    path = zipped(tmp_path / "evil.edgemodel", [*members_of(write(tmp_path)), (info, b"/etc/shadow")])
    refused(path, tmp_path / "out", "MODEL_CARD.md", "not a plain file")


def test_duplicates(tmp_path: Path) -> None:
    members = members_of(write(tmp_path))
    for name in ("manifest.json", "MANIFEST.JSON"):
        with pytest.warns(UserWarning, match="Duplicate") if name == "manifest.json" else _nothing():
            path = zipped(tmp_path / "evil.edgemodel", [*members, (name, b"{}")])
        refused(path, tmp_path / f"out-{name}", "twice")


def _nothing() -> Any:
    return contextlib.nullcontext()


def test_what_the_manifest_does_not_list(tmp_path: Path) -> None:
    path = zipped(tmp_path / "evil.edgemodel", [*members_of(write(tmp_path)), ("run.sh", b"rm")])
    refused(path, tmp_path / "out", "run.sh", "does not list")


@pytest.mark.parametrize("name", ["manifest.json", "model.tflite", "golden.npz"])
def test_what_is_missing(name: str, tmp_path: Path) -> None:
    members = [member for member in members_of(write(tmp_path)) if member[0] != name]
    refused(zipped(tmp_path / "evil.edgemodel", members), tmp_path / "out", name, "not in the archive")


def test_content_that_is_not_the_manifests(tmp_path: Path) -> None:
    members = [(name, data + b"x" if name == "model.tflite" else data) for name, data in members_of(write(tmp_path))]
    refused(zipped(tmp_path / "evil.edgemodel", members), tmp_path / "out", "model.tflite", "SHA-256")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """60 MiB of zeros in 60 kB: refused by what the directory says of them."""
    zeros = bytes(60 << 20)
    folder = write(tmp_path, files={"zeros.bin": zeros})
    path = zipped(tmp_path / "bomb.edgemodel", members_of(folder))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    refused(path, tmp_path / "out", "zeros.bin", "times")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    """The directory says 100 bytes, the stream gives 60 MiB: no more than the bound is ever unpacked, and it is no file."""
    path = zipped(tmp_path / "bomb.edgemodel", [*members_of(write(tmp_path)), ("MODEL_CARD.md", bytes(60 << 20))])
    data = bytearray(path.read_bytes())
    data = data.replace(struct.pack("<L", 60 << 20), struct.pack("<L", 100))
    path.write_bytes(data)
    tracemalloc.start()
    refused(path, tmp_path / "out", "MODEL_CARD.md")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_too_much_in_all(tmp_path: Path) -> None:
    """Three files, each within its bound."""
    with zipfile.ZipFile(tmp_path / "big.edgemodel", "w", zipfile.ZIP_DEFLATED) as made:
        for i in range(3):
            made.writestr(f"part{i}", os.urandom(1 << 20) + bytes(60 << 20), compresslevel=1)
    refused(tmp_path / "big.edgemodel", tmp_path / "out", "unpacked it would be 183 MiB")


def test_overlapping_members(tmp_path: Path) -> None:
    """Many members that are the same bytes of the file (Fifield's bomb)."""
    path = zipped(tmp_path / "bomb.edgemodel", [("a", os.urandom(5000)), ("b", os.urandom(5000))])
    data = path.read_bytes()
    end = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", end + 4)
    moved = bytearray(data)
    moved[second + 42 : second + 46] = struct.pack("<L", 10)  # the header offset of b: inside a
    path.write_bytes(moved)
    refused(path, tmp_path / "out", "overlap")


def test_many_members(tmp_path: Path) -> None:
    path = zipped(tmp_path / "many.edgemodel", [(f"f{i}", b"") for i in range(5000)])
    refused(path, tmp_path / "out", "holds 5000 members")
    # The same with a directory that says it holds few.
    data = bytearray(path.read_bytes())
    data[-14:-10] = struct.pack("<2H", 5, 5)
    path.write_bytes(data)
    refused(path, tmp_path / "out2", "directory")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda data: data[:-1], "cut short"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda _: b"", "cut short"),
        (lambda data: b"MZ" + data, "directory"),
        (lambda data: data + b"trailing", "cut short"),
        (lambda data: b"\x1f\x8b\x08" + data[3:], ""),
        (lambda _: b"<html>" * 100, "not an archive"),
        (lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x07", 1), "not a readable archive"),
        (lambda data: data.replace(b"model.tflite", b"model.tflit\0", 1), ""),
    ],
    ids=["cut", "half", "empty", "prefix", "suffix", "magic", "html", "directory", "names differ"],
)
def test_archives_that_are_none(spoil: Callable[[bytes], bytes], word: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "bad.edgemodel", members_of(write(tmp_path)))
    path.write_bytes(spoil(path.read_bytes()))
    refused(path, tmp_path / "out", word)


def test_every_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Whatever comes out of a damaged archive is what was put in."""
    good = write(tmp_path)
    path = zipped(tmp_path / "bad.edgemodel", members_of(good))
    data = path.read_bytes()
    refusals = 0
    for at in range(0, len(data), 7):
        spoilt = bytearray(data)
        spoilt[at] ^= 0x21
        path.write_bytes(spoilt)
        into = tmp_path / f"out{at}"
        try:
            take_from(path, into)
        except ArtifactError:
            refusals += 1
            assert list(into.iterdir()) == []
            continue
        for each in into.iterdir():
            assert each.read_bytes() == (good / each.name).read_bytes()
    assert refusals > len(data) // 7 * 0.8


def test_encrypted_and_packed_otherwise(tmp_path: Path) -> None:
    members = members_of(write(tmp_path))
    path = zipped(tmp_path / "bad.edgemodel", members, zipfile.ZIP_LZMA)
    refused(path, tmp_path / "out", "another way than deflate")
    path = zipped(tmp_path / "locked.edgemodel", members)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    refused(path, tmp_path / "out2", "encrypted")


def test_a_comment_is_nobodys_business(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bad.edgemodel", members_of(write(tmp_path)), comment=b"hello")
    refused(path, tmp_path / "out")


def test_too_large_a_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "large.edgemodel"
    with path.open("wb") as file:
        file.truncate(archive.MOST_ARCHIVE_BYTES + 1)
    refused(path, tmp_path / "out", "over 64 MiB")


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.edgemodel"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(ArtifactError, match="neither a folder nor an archive"), opened(path):
            pass
    with pytest.raises(ArtifactError, match="no such model folder or archive"), opened(tmp_path / "nothing"):
        pass


def test_a_manifest_of_many_files(tmp_path: Path) -> None:
    folder = write(tmp_path, files={f"f{i}": b"" for i in range(65)})
    refused(folder, tmp_path / "out", "manifest.json", "at most 64")


def test_a_manifest_that_is_too_long(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "manifest.json").write_bytes(b" " * (archive.MOST_MANIFEST_BYTES + 1))
    refused(folder, tmp_path / "out", "manifest.json", "over")


def test_no_link_is_followed_out_of_a_folder(tmp_path: Path) -> None:
    """Whoever installs as root must not carry away what only root may read."""
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    folder = write(tmp_path)
    (folder / "MODEL_CARD.md").symlink_to(tmp_path / "secret")
    refused(folder, tmp_path / "out", "MODEL_CARD.md", "is a link")
    (folder / "MODEL_CARD.md").unlink()
    data = (folder / "model.tflite").read_bytes()
    (folder / "model.tflite").unlink()
    (tmp_path / "real").write_bytes(data)
    (folder / "model.tflite").symlink_to(tmp_path / "real")
    refused(folder, tmp_path / "out2", "model.tflite", "is a link")
    (folder / "model.tflite").unlink()
    os.mkfifo(folder / "model.tflite")
    refused(folder, tmp_path / "out3", "model.tflite", "is not a file")


# -- the order -------------------------------------------------------------------------------------------------------


def test_the_signature_is_verified_before_anything_else_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    public = signature.keygen(tmp_path / "key")
    policy = Policy((signature.public_key(str(public)),), required=True)
    folder = write(tmp_path)
    (folder / "manifest.sig").write_bytes(bytes(64))
    (folder / "model.tflite").write_bytes(b"damaged")
    path = zipped(tmp_path / "evil.edgemodel", members_of(folder))
    read: list[str] = []
    plain = archive.ArchiveBundle.read

    def noting(self: archive.ArchiveBundle, name: str, most: int) -> bytes:
        read.append(name)
        return plain(self, name, most)

    monkeypatch.setattr(archive.ArchiveBundle, "read", noting)
    monkeypatch.setattr(archive, "parse_manifest", lambda *_: pytest.fail("parsed before it was verified"))
    refused(path, tmp_path / "out", "signature", policy=policy)
    assert set(read) == {"manifest.json", "manifest.sig"}


def test_an_archive_says_which_file_is_wrong_quickly(tmp_path: Path) -> None:
    folder = write(tmp_path, manifest(version="1.0"))
    began = time.monotonic()
    refused(zipped(tmp_path / "bad.edgemodel", members_of(folder)), tmp_path / "out", "manifest.json", "version")
    assert time.monotonic() - began < 5


def spoilt(content: bytes, at: int, how: str, value: int, *, end: bool = False) -> bytes:
    """A number of the last member's entry in the directory, or of the directory's end, made another."""
    place = content.rindex(b"PK\5\6" if end else b"PK\1\2") + at
    return content[:place] + struct.pack(how, value) + content[place + struct.calcsize(how) :]


@pytest.mark.parametrize(
    ("at", "how", "value", "end", "word"),
    [
        (8, "<I", 0, True, "says that it holds 0 members, and holds 3"),
        (8, "<I", 0x20002, True, "says that it holds 2 members, and holds 3"),
        (8, "<H", 0x2000, False, "flags that no plain archive has"),
        (8, "<H", 0x20, False, "flags that no plain archive has"),
        (16, "<I", 1, False, "Bad CRC-32"),
        (20, "<I", 1, False, "cannot be unpacked"),
        (42, "<I", 0xFFFF_FFF0, False, "Truncated"),
        (6, "<H", 255, False, "not a readable archive"),
    ],
)
def test_a_directory_that_lies(at: int, how: str, value: int, end: bool, word: str, tmp_path: Path) -> None:
    good = zipped(tmp_path / "good.edgemodel", members_of(write(tmp_path))).read_bytes()
    bad = tmp_path / "bad.edgemodel"
    bad.write_bytes(spoilt(good, at, how, value, end=end))
    refused(bad, tmp_path / "out", word)


def test_a_member_beyond_its_bound_is_said_once(tmp_path: Path) -> None:
    for name, size in (("manifest.sig", 65), ("MODEL_CARD.md", (1 << 20) + 1)):
        path = tmp_path / f"{name}.edgemodel"
        zipped(path, [*members_of(write(tmp_path / name)), (name, os.urandom(size))])
        refused(path, tmp_path / f"out {name}", f": {name}: over {size - 1} bytes")


def test_a_manifest_reads_the_same_for_everybody(tmp_path: Path) -> None:
    """One that holds a key twice, or that is in another encoding, is one text for one reader and another for the next."""
    folder = write(tmp_path)
    raw = (folder / "manifest.json").read_bytes()
    others = [member for member in members_of(folder) if member[0] != "manifest.json"]
    for number, (content, word) in enumerate(
        (
            (raw.rstrip()[:-1] + b', "version": "9.9.9"}', "a key stands twice"),
            (raw.decode().encode("utf-16"), "not JSON"),
            (b"\xef\xbb\xbf" + raw, "not JSON"),
        )
    ):
        path = zipped(tmp_path / f"{number}.edgemodel", [("manifest.json", content), *others])
        refused(path, tmp_path / f"out{number}", word)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "Manifest.SIG"])
def test_what_speaks_for_the_files_is_none_of_them(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path)
    about = json.loads((folder / "manifest.json").read_bytes())
    about["files"][name] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(about), encoding="utf-8")
    refused(zipped(tmp_path / "one.edgemodel", members_of(folder)), tmp_path / "out", name, "speaks for them")


def test_a_file_for_the_tpu_is_looked_at_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model_edgetpu\.tflite: cannot load it"):
        prove_apart(write(tmp_path, files={"model_edgetpu.tflite": b"junk"}))


def test_another_version_on_the_path_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "path" / "edge_agent"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('another one')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(other.parent))
    assert prove_apart(write(tmp_path / "model")).cases
