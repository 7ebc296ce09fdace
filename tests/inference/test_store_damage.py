"""The store on a bad disk: a state that was damaged, and room that is not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.artifact import load
from edge_agent.inference.installed.store import KEEP_VERSIONS, Store
from tests.inference.test_store import install, litter, made, snapshot
from tests.inference.test_store_trial import Rig, rig, runs
from tests.inference.tiny import manifest, write

__all__ = ["rig"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "models", lock_wait_s=0.5)


DAMAGED = [b"", b"{", b"null", b'{"schema":"edge-agent/model-state/2"}', b'{"active":"../../x"}']


@pytest.mark.parametrize("raw", DAMAGED)
def test_a_damaged_state_has_a_copy(raw: bytes, store: Store, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        install(store, made(tmp_path, version))
    store.activate("tiny", "1.1.0")
    state = store.state("tiny")
    for name in ("state.json", "state.json.copy"):
        (store.folder / "tiny" / name).write_bytes(raw)
        assert store.state("tiny") == state
        assert store.names() == ["tiny"]
        assert (store.kept("tiny").damage is not None) == (name == "state.json")
        store.passed("tiny", "1.1.0")  # whoever writes next makes both whole
        state = store.activate("tiny", "1.0.0", allow_downgrade=True)
        assert store.kept("tiny").damage is None
        store.activate("tiny", "1.1.0")
        state = store.state("tiny")
    (store.folder / "tiny" / "state.json").unlink()
    assert store.state("tiny") == state


def test_a_version_that_was_made_another_by_one_bit_is_damage(store: Store, tmp_path: Path) -> None:
    """JSON as good as before: only the digest tells."""
    install(store, made(tmp_path, "1.1.0"))
    path = store.folder / "tiny" / "state.json"
    path.write_bytes(path.read_bytes().replace(b'"highest": "1.1.0"', b'"highest": "1.0.0"'))
    assert store.state("tiny").highest == "1.1.0"
    assert "digest" in str(store.kept("tiny").damage)
    with pytest.raises(ArtifactError, match="is older than"):
        install(store, made(tmp_path, "1.0.0"))


@pytest.mark.parametrize("raw", DAMAGED)
def test_with_both_damaged_the_versions_say_what_was_here(raw: bytes, store: Store, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        install(store, made(tmp_path, version))
    store.activate("tiny", "1.1.0")
    for name in ("state.json", "state.json.copy"):
        (store.folder / "tiny" / name).write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"state\.json is damaged[\s\S]*models activate tiny --store ") as caught:
        store.state("tiny")
    assert str(store.folder) in caught.value.remedy
    found = store.kept("tiny")
    assert (found.lost, found.state.active, found.state.highest) == (True, None, "1.1.0")
    with pytest.raises(ArtifactError, match=r"is older than 1\.1\.0"):
        install(store, made(tmp_path, "1.0.1"))
    assert store.activate("tiny", "1.1.0").active == "1.1.0"
    assert not store.kept("tiny").lost


def nothing(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "notes.txt").write_text("somebody's", encoding="utf-8")


@pytest.mark.parametrize("instead", [nothing, pipe, folder])
def test_with_no_state_at_all_the_versions_say_what_was_here(
    instead: Callable[[Path], None], store: Store, tmp_path: Path
) -> None:
    for version in ("1.0.0", "1.1.0"):
        install(store, made(tmp_path, version))
    store.activate("tiny", "1.1.0")
    for name in ("state.json", "state.json.copy"):
        instead(store.folder / "tiny" / name)
    assert store.names() == ["tiny"]
    found = store.kept("tiny")
    assert (found.lost, found.state.active, found.state.highest) == (True, None, "1.1.0")
    with pytest.raises(ArtifactError, match=r"is older than 1\.1\.0"):
        install(store, made(tmp_path, "0.9.0"))
    install(store, made(tmp_path, "0.9.0"), allow_downgrade=True)
    assert store.versions("tiny") == ["0.9.0", "1.0.0", "1.1.0"]
    assert store.activate("tiny", "1.1.0").active == "1.1.0"
    found = store.kept("tiny")
    assert (found.damage, found.state.highest) == (None, "1.1.0")
    notes = list((store.folder / "tiny").glob("*/notes.txt"))
    assert len(notes) == (2 if instead is folder else 0), "what somebody put there is moved, and stays"


def test_a_version_with_a_damaged_manifest_was_here_all_the_same(store: Store, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        install(store, made(tmp_path, version))
    for name in ("state.json", "state.json.copy"):
        (store.folder / "tiny" / name).unlink()
    (store.place("tiny", "1.1.0") / "manifest.json").write_bytes(b"{")
    with pytest.raises(ArtifactError, match=r"is older than 1\.1\.0"):
        install(store, made(tmp_path, "1.0.1"))
    install(store, made(tmp_path, "1.2.0"))
    assert (store.place("tiny", "1.1.0") / "manifest.json").is_file()


def test_with_no_state_nothing_goes_to_make_room(store: Store, tmp_path: Path) -> None:
    there = [f"1.0.{number}" for number in range(KEEP_VERSIONS)]
    for version in there:
        install(store, made(tmp_path, version))
    for name in ("state.json", "state.json.copy"):
        (store.folder / "tiny" / name).unlink()
    assert install(store, made(tmp_path, "1.1.0")).made_room == ()
    assert store.versions("tiny") == [*there, "1.1.0"]


def test_installing_again_writes_a_state_that_was_lost(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.0.0"))
    for name in ("state.json", "state.json.copy"):
        (store.folder / "tiny" / name).unlink()
    assert not install(store, made(tmp_path, "1.0.0")).new
    assert store.kept("tiny").damage is None


def test_removing_after_damage_remembers_what_was_here(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.1.0"))
    for name in ("state.json", "state.json.copy"):
        (store.folder / "tiny" / name).write_bytes(b"{")
    assert store.remove("tiny") == ["1.1.0"]
    with pytest.raises(ArtifactError, match=r"is older than 1\.1\.0"):
        install(store, made(tmp_path, "1.0.0"))


def test_a_state_of_an_older_agent_is_taken(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.0.0"))
    path = store.folder / "tiny" / "state.json"
    about = json.loads(path.read_bytes())
    del about["digest"]
    path.write_text(json.dumps(about), encoding="utf-8")
    (store.folder / "tiny" / "state.json.copy").unlink()
    assert store.kept("tiny").damage is None
    assert store.versions("tiny") == ["1.0.0"]


def test_a_full_disk(tiny_disk: Path, tmp_path: Path) -> None:
    store = Store(tiny_disk / "models")
    install(store, made(tmp_path, "1.0.0"))
    store.activate("tiny", "1.0.0", on_trial=False)
    before = snapshot(store)
    noise = np.random.default_rng(0).bytes(600_000)
    large = write(tmp_path / "large", manifest(version="2.0.0"), files={"notes.bin": noise})
    with pytest.raises(OutputError, match="No space left"):
        install(store, large)
    assert snapshot(store) == before
    load(store.place("tiny", "1.0.0"))
    assert litter(store) == []


def fill(folder: Path) -> None:
    """To the last byte."""
    with contextlib.suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
        for size in (4096, 512, 64, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    with pytest.raises(OSError, match="No space left"):
        (folder / "one more").write_bytes(b"x" * 4096)
    (folder / "one more").unlink(missing_ok=True)


@pytest.mark.parametrize("what", ["remove one", "remove all", "remove all twice", "rollback", "fail"])
def test_a_full_disk_can_be_left_again(what: str, tiny_disk: Path, tmp_path: Path) -> None:
    """What makes room must not want any, and a bad model must go back for all that."""
    store = Store(tiny_disk / "models")
    for version in ("1.0.0", "1.1.0"):
        install(store, made(tmp_path, version))
        store.activate("tiny", version, on_trial=version == "1.1.0")
    fill(tiny_disk)
    match what:
        case "remove one":
            assert store.remove("tiny", "1.0.0") == ["1.0.0"]
        case "rollback":
            assert store.rollback("tiny").active == "1.0.0"
        case "fail":
            assert store.fail("tiny", "1.1.0", "too slow").active == "1.0.0"
        case _:
            if what == "remove all twice":  # with the reserve of the copy gone already
                store.rollback("tiny")
                fill(tiny_disk)
                assert not (store.folder / "tiny" / "state.json.copy").exists()
            assert store.remove("tiny") == ["1.0.0", "1.1.0"]
            assert store.versions("tiny") == []
            assert (store.folder / "tiny" / "state.json.copy").is_file()
    assert store.kept("tiny").damage is None
    assert store.state("tiny").highest == "1.1.0"
    assert litter(store) == []


def test_a_damaged_state_leaves_what_lies_underneath(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.install("1.1.0")
    (rig.store.folder / "tiny" / "state.json").write_bytes(b"\0\0\0")
    assert runs(rig.live())[0] == "1.1.0"
    assert "its copy is used" in caplog.text
    for name in ("state.json", "state.json.copy"):
        (rig.store.folder / "tiny" / name).write_bytes(b"\0\0\0")
    assert runs(rig.live()) == ("1.0.0", "active")
    assert "state.json: is damaged" in caplog.text
    assert "what lies under the store is used" in caplog.text
