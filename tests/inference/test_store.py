"""The store: versions that come, run and go, and what a fault or a kill at any moment leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.artifact import load
from edge_agent.inference.installed import durable, signature
from edge_agent.inference.installed.archive import opened
from edge_agent.inference.installed.prove import prove_apart
from edge_agent.inference.installed.state import State
from edge_agent.inference.installed.store import KEEP_VERSIONS, Installed, Store, Underneath
from tests.conftest import ROOT
from tests.inference.tiny import GOLDEN, manifest, packed, write


def made(folder: Path, version: str, **changes: Any) -> Path:
    return write(folder / version, manifest(version=version, **changes))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "models", lock_wait_s=0.5)


def install(store: Store, folder: Path, underneath: Underneath | None = None, **options: Any) -> Installed:
    options.setdefault("prove", load)
    with opened(folder) as bundle:
        return store.install(bundle, signature.ANY, underneath=lambda _: underneath, **options)


def litter(store: Store) -> list[str]:
    return [path.name for path in store.folder.glob(".*") if path.name != ".lock"]


# -- coming ----------------------------------------------------------------------------------------------------------


def test_installing_makes_nothing_active(store: Store, tmp_path: Path) -> None:
    assert store.names() == []
    assert not store.folder.exists()
    done = install(store, made(tmp_path, "1.0.0"))
    assert (done.name, done.version, done.new) == ("tiny", "1.0.0", True)
    assert load(store.place("tiny", "1.0.0")).digest == done.digest
    state = store.state("tiny")
    assert (state.active, state.highest, state.seen) == (None, "1.0.0", {"1.0.0": done.digest})
    assert store.versions("tiny") == ["1.0.0"]
    assert litter(store) == []
    assert not install(store, tmp_path / "1.0.0" / "tiny").new


def test_the_same_version_with_other_content_is_refused(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.0.0"))
    other = made(tmp_path / "other", "1.0.0", labels=["v", "w", "x", "y", "z"])
    with pytest.raises(ArtifactError, match=r"tiny 1\.0\.0 was seen with other content"):
        install(store, other)
    store.remove("tiny")
    with pytest.raises(ArtifactError, match="was seen with other content"):  # removed is not forgotten
        install(store, other, allow_downgrade=True)
    assert install(store, tmp_path / "1.0.0" / "tiny").new


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "manifest.json"])
def test_installing_again_mends_what_was_damaged(name: str, store: Store, tmp_path: Path) -> None:
    folder = made(tmp_path, "1.0.0")
    install(store, folder)
    store.activate("tiny", "1.0.0", on_trial=False)
    place = store.place("tiny", "1.0.0")
    good = (place / name).read_bytes()
    (place / name).write_bytes(good[:-1])
    assert install(store, folder).new
    assert (place / name).read_bytes() == good
    assert store.state("tiny").active == "1.0.0"


def test_no_way_back_below_what_was_seen(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.9.0"))
    install(store, made(tmp_path, "1.10.0"))
    with pytest.raises(ArtifactError, match=r"tiny 1\.9\.1 is older than 1\.10\.0"):
        install(store, made(tmp_path, "1.9.1"))
    assert install(store, tmp_path / "1.9.1" / "tiny", allow_downgrade=True).new
    assert store.state("tiny").highest == "1.10.0"
    store.remove("tiny")
    with pytest.raises(ArtifactError, match=r"is older than 1\.10\.0"):
        install(store, tmp_path / "1.9.0" / "tiny")
    with pytest.raises(ArtifactError, match=r"a version is written 2\.0\.0"):
        install(store, made(tmp_path, "02.0.0"))


def test_what_lies_underneath_counts_as_seen(store: Store, tmp_path: Path) -> None:
    folder = made(tmp_path, "1.0.0")
    with pytest.raises(ArtifactError, match=r"is older than 1\.1\.0"):
        install(store, folder, Underneath("1.1.0", "0" * 64))
    with pytest.raises(ArtifactError, match="other content"):
        install(store, folder, Underneath("1.0.0", "0" * 64))
    digest = load(folder).digest
    assert install(store, folder, Underneath("1.0.0", digest)).new
    with pytest.raises(ArtifactError, match=r"is older than 1\.1\.0"):
        store.activate("tiny", "1.0.0", underneath=Underneath("1.1.0", "0" * 64))


def test_what_does_not_reproduce_its_golden_vectors_never_gets_in(store: Store, tmp_path: Path) -> None:
    golden = {name: array.copy() for name, array in GOLDEN.items()}
    golden["output"][0, 0] += 1
    folder = write(tmp_path, golden=packed(golden))
    with pytest.raises(ArtifactError) as caught:
        install(store, folder, prove=prove_apart)
    assert caught.value.what.startswith(f"{folder}: golden outputs differ")
    assert ".incoming" not in caught.value.what
    assert store.names() == []
    assert litter(store) == []


def test_a_proof_that_kills_its_process_is_one_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, "1.0.0")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    for script, word in (("kill -SEGV $$", "Segmentation fault"), ("sleep 60", "within 0.3 s"), ("exit 7", "status 7")):
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(ArtifactError, match=word) as caught:
            install(store, folder, prove=lambda path: prove_apart(path, within_s=0.3 if "60" in script else 30))  # noqa: B023
        assert "\n" not in caught.value.what
        assert caught.value.what.startswith(str(folder))
    assert store.names() == []


def test_old_versions_make_room(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.0.0"))
    store.activate("tiny", "1.0.0", on_trial=False)
    gone: list[str] = []
    for number in range(1, KEEP_VERSIONS + 3):
        gone += install(store, made(tmp_path, f"1.{number}.0")).made_room
    assert gone == ["1.1.0", "1.2.0", "1.3.0"]
    assert "1.0.0" in store.versions("tiny")
    assert len(store.versions("tiny")) == KEEP_VERSIONS


# -- what runs -------------------------------------------------------------------------------------------------------


def test_activate_and_roll_back(store: Store, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        install(store, made(tmp_path, version))
    with pytest.raises(ArtifactError, match=r"is older than 1\.2\.0"):
        store.activate("tiny", "1.1.0")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        store.activate("tiny", version, allow_downgrade=True)
        store.passed("tiny", version)
    state = store.state("tiny")
    assert (state.active, state.before, state.trial) == ("1.2.0", (None, "1.0.0", "1.1.0"), None)
    assert store.rollback("tiny").active == "1.1.0"
    store.remove("tiny", "1.0.0")
    assert store.rollback("tiny").active is None
    with pytest.raises(ArtifactError, match="nothing to go back from"):
        store.rollback("tiny")
    with pytest.raises(ArtifactError, match=r"version 1\.0\.0 is not installed[\s\S]*there are: 1\.1\.0, 1\.2\.0"):
        store.activate("tiny", "1.0.0")


def test_a_failed_trial_goes_back_past_what_never_passed(store: Store, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        install(store, made(tmp_path, version))
    store.activate("tiny", "1.0.0", allow_downgrade=True)
    store.passed("tiny", "1.0.0")
    store.activate("tiny", "1.1.0", allow_downgrade=True)
    state = store.activate("tiny", "1.2.0")  # 1.1.0 was still on trial
    assert state.before == (None, "1.0.0")
    assert store.begin("tiny", "1.2.0").trial == state.trial.model_copy(update={"starts": 1})  # type: ignore[union-attr]
    assert store.begin("tiny", "1.2.0").trial.starts == 2  # type: ignore[union-attr]
    assert store.pause("tiny", "1.2.0").trial.starts == 1  # type: ignore[union-attr]
    state = store.fail("tiny", "1.2.0", "golden outputs differ")
    assert (state.active, state.failed, state.trial) == ("1.0.0", {"1.2.0": "golden outputs differ"}, None)
    assert store.fail("tiny", "1.2.0", "again") == state  # over is over
    assert store.begin("tiny", "1.0.0") == state
    assert store.activate("tiny", "1.2.0").failed == {}  # asked for once more: another trial


def test_an_active_version_is_not_removed(store: Store, tmp_path: Path) -> None:
    install(store, made(tmp_path, "1.0.0"))
    store.activate("tiny", "1.0.0")
    with pytest.raises(ArtifactError, match=r"1\.0\.0: is active[\s\S]*models rollback tiny"):
        store.remove("tiny", "1.0.0")
    assert store.remove("tiny") == ["1.0.0"]
    assert store.state("tiny").active is None
    assert store.versions("tiny") == []
    for name in ("nothing", "../tiny", ".", "", "tiny/1.0.0"):
        for change in (store.rollback, store.remove):
            with pytest.raises(ArtifactError, match="no model named"):
                change(name)


# -- faults ----------------------------------------------------------------------------------------------------------


def snapshot(store: Store) -> tuple[list[str], State]:
    return store.versions("tiny"), store.state("tiny").model_copy(update={"trial": None})


@pytest.mark.parametrize("what", ["install", "activate", "rollback", "remove"])
def test_a_disk_that_fails_at_any_step_leaves_the_old_or_the_new(
    what: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that reaches the disk fails in turn; afterwards the same command does what it was to do."""
    for version in ("1.0.0", "1.1.0"):
        install(store, made(tmp_path, version))
    store.activate("tiny", "1.1.0", on_trial=False)
    fresh = made(tmp_path, "1.2.0")
    commands: dict[str, Callable[[], object]] = {
        "install": lambda: install(store, fresh),
        "activate": lambda: store.activate("tiny", "1.0.0", allow_downgrade=True),
        "rollback": lambda: store.rollback("tiny"),
        "remove": lambda: store.remove("tiny", "1.0.0"),
    }
    old, failures = snapshot(store), 0
    said: list[str] = []
    steps = ("sync_file", "sync_folder", "rename", "make_folder", "write_new")
    plain = {name: getattr(durable, name) for name in steps}
    for number in range(1, 100):
        left = number

        def failing(name: str) -> Any:
            def step(*arguments: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise OSError(errno.EROFS if number % 2 else errno.EIO, "the disk says no")  # noqa: B023
                return plain[name](*arguments)

            return step

        for name in steps:
            monkeypatch.setattr(durable, name, failing(name))
        try:
            commands[what]()
        except OutputError as error:
            failures += 1
            said.append(error.what)
        else:
            break
        finally:
            for name in steps:
                monkeypatch.setattr(durable, name, plain[name])
        found = snapshot(store)
        for version in found[0]:
            load(store.place("tiny", version))
        if found != old:  # it was done but for its last sync, and stays done
            break
    assert failures >= 2
    assert all(str(store.folder) in one and "the disk says no" in one for one in said)
    if snapshot(store) == old:
        commands[what]()
    assert snapshot(store) != old
    install(store, fresh)
    assert litter(store) == []


def killing(how: str, times: int, tmp_path: Path) -> dict[str, Any]:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        made(tmp_path / "made", version)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.inference.killed",
            how,
            str(tmp_path / "made"),
            str(tmp_path / "store"),
            str(times),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_kill_9_at_every_step(tmp_path: Path) -> None:
    told = killing("steps", 500, tmp_path)
    assert told["kills"] > 40
    assert told["states"] > 10
    assert told["left"] == []


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    told = killing("random", 200, tmp_path)
    assert told["kills"] > 60
    assert told["states"] > 5
    assert told["left"] == []


# -- others ----------------------------------------------------------------------------------------------------------


def test_two_writers_take_turns(store: Store, tmp_path: Path) -> None:
    folder = made(tmp_path, "1.0.0")
    inside, let_go = threading.Event(), threading.Event()

    def slow(_: Path) -> None:
        inside.set()
        let_go.wait(20)

    first = threading.Thread(target=lambda: install(store, folder, prove=slow))
    first.start()
    inside.wait(20)
    with pytest.raises(OutputError, match=r"somebody else has been writing in it for 0\.5 s"):
        install(Store(store.folder, lock_wait_s=0.5), folder)
    let_go.set()
    first.join()
    assert not install(store, folder).new


def test_a_store_that_may_not_be_written(store: Store, tmp_path: Path) -> None:
    store.folder.parent.mkdir()
    store.folder.write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="the store cannot be written"):
        install(store, made(tmp_path, "1.0.0"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_installs_belongs_to_the_service(store: Store, tmp_path: Path) -> None:
    store.folder.parent.mkdir()
    os.chown(store.folder.parent, 12345, 12346)
    install(store, made(tmp_path, "1.0.0"))
    store.activate("tiny", "1.0.0")
    paths = [store.folder, *store.folder.rglob("*")]
    assert len(paths) > 6
    for path in paths:
        about = path.lstat()
        assert (about.st_uid, about.st_gid) == (12345, 12346), path
        assert about.st_mode & 0o022 == 0, path
