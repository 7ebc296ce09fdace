"""Public data: whole, or refused with what is wrong."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb
from edge_train.cli import main
from edge_train.data import get
from edge_train.errors import DataError


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two records, RECORDS and sums, as PhysioNet has them."""
    folder = tmp_path / "copy" / "toydb"
    folder.mkdir(parents=True)
    for name, form in (("r1", "212"), ("r2", "16")):
        signal = np.random.default_rng(0).normal(0, 0.3, (1001, 2))
        wfdb.wrsamp(
            name, 360, ["mV", "mV"], ["MLII", "V1"], p_signal=signal, fmt=[form] * 2, adc_gain=[200, 200],
            baseline=[0, 0], write_dir=str(folder),
        )  # fmt: skip
    (folder / "RECORDS").write_text("r1\nr2\n")
    names = ["r1.dat", "r1.hea", "r2.dat", "r2.hea", "RECORDS"]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()} {name}" for name in names]
    (folder / "SHA256SUMS.txt").write_text("\n".join(sums) + "\n")
    return folder


def _get(database: Path, tmp_path: Path) -> get.Checked:
    return get.get("toydb", tmp_path / "here" / "toydb", database.parent, lambda _: None)


def test_a_whole_copy_is_taken_and_what_was_checked_is_said(database: Path, tmp_path: Path) -> None:
    found = _get(database, tmp_path)
    assert (found.records, found.lengths, found.sums, found.listed) == (2, 2, 5, 2)
    assert (tmp_path / "here" / "toydb" / "r1.dat").read_bytes() == (database / "r1.dat").read_bytes()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["toydb"]
    assert _get(database, tmp_path).sums == 5, "asked again, it is looked at again"


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_a_half_downloaded_record_is_refused(database: Path, tmp_path: Path, name: str) -> None:
    (database / "SHA256SUMS.txt").unlink()  # its length alone must tell
    whole = (database / f"{name}.dat").read_bytes()
    (database / f"{name}.dat").write_bytes(whole[:-200])
    with pytest.raises(DataError, match=rf"{name}\.dat has {len(whole) - 200} bytes.*half-downloaded"):
        _get(database, tmp_path)
    assert not list((tmp_path / "here").iterdir()), "nothing half-written"


def test_a_missing_record_a_missing_signal_and_a_changed_byte_are_refused(database: Path, tmp_path: Path) -> None:
    (database / "r2.hea").rename(database / "r3.hea")
    changed = bytearray((database / "r1.dat").read_bytes())
    changed[100] ^= 1
    (database / "r1.dat").write_bytes(bytes(changed))
    with pytest.raises(DataError) as caught:
        _get(database, tmp_path)
    assert "record r2 is missing (RECORDS names it)" in str(caught.value)
    assert "r1.dat is not what SHA256SUMS.txt says" in str(caught.value)
    (database / "r2.dat").unlink()
    with pytest.raises(DataError, match=r"r2\.dat is missing \(r3\.hea names it\)"):
        _get(database, tmp_path)


def test_a_header_cut_short_is_refused(database: Path, tmp_path: Path) -> None:
    (database / "SHA256SUMS.txt").unlink()
    whole = (database / "r1.hea").read_text()
    for text, message in ((whole[: whole.index("V1") - 40], "describes 1 of 2 signals"), ("r1", "r1.hea")):
        (database / "r1.hea").write_text(text)
        with pytest.raises(DataError, match=message):
            _get(database, tmp_path)
    (database / "r1.hea").write_text(whole[:1])
    with pytest.raises(DataError, match=r"r1\.hea"):
        _get(database, tmp_path)


def test_a_folder_that_was_damaged_later_is_said(database: Path, tmp_path: Path) -> None:
    _get(database, tmp_path)
    (tmp_path / "here" / "toydb" / "r1.dat").write_bytes(b"")
    with pytest.raises(DataError, match="get it again"):
        _get(database, tmp_path)


def test_a_full_disk(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(DataError, match="No space left"):
        _get(database, tmp_path)
    assert not list((tmp_path / "here").iterdir())


def test_from_physionet_interrupted_and_gone_on_with(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first time the line breaks after a record; the second time the rest comes beside what there is."""
    target = tmp_path / "here" / "toydb"

    def download(name: str, folder: str, **_: object) -> None:
        assert name == "toydb"
        had = sorted(path.name for path in Path(folder).iterdir())
        if not had:
            shutil.copy(database / "r1.hea", folder)
            raise ConnectionError("line broke")
        assert had == ["r1.hea"]
        shutil.copytree(database, folder, dirs_exist_ok=True)

    monkeypatch.setattr(wfdb, "dl_database", download)
    monkeypatch.setattr(wfdb, "dl_files", lambda *_: None)
    command = ["data", "get", "toydb", "--to", str(tmp_path / "here")]
    assert main(command) == 1
    assert "line broke" in capsys.readouterr().err
    assert not target.exists()
    assert main(command) == 0
    assert "2 signal files as long as they say" in capsys.readouterr().out
    assert target.is_dir()


def test_a_copy_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "x", "--from", str(tmp_path / "no"), "--to", str(tmp_path / "here")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_every_public_folder_here_is_whole(shared: Path) -> None:
    for name in ("mitdb", "cinc2017", "challenge2015"):
        found = get.check_database(shared / "data" / name)
        assert found.problems == []
        assert found.lengths == found.records > 0


def test_a_mistyped_name_does_not_take_the_folder_itself(database: Path, tmp_path: Path) -> None:
    for source in (database, database.parent):
        with pytest.raises(DataError, match=r"no folder mitbd there.*known names: .*mitdb"):
            get.get("mitbd", tmp_path / "here" / "mitbd", source, lambda _: None)
    with pytest.raises(DataError, match="toydb"):  # no records lie there, whatever the name
        get.get("mitdb", tmp_path / "here" / "mitdb", database.parent, lambda _: None)
    assert not (tmp_path / "here").exists()
    get.get("toydb", tmp_path / "here" / "toydb", database, lambda _: None)  # by its folder's name
    get.get("mitdb", tmp_path / "here" / "mitdb", database, lambda _: None)  # a known name, and records there
