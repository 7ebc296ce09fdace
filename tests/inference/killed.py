"""A store whose writer is killed, over and over: run as ``python -m tests.inference.killed HOW MODELS STORE TIMES``.

A process of its own, with one thread, so that it can fork. The child writes and is killed; the parent looks at what is left.
``steps``: at the first, second, third ... of the calls that reach the disk. ``random``: whenever it happens.
Prints a line of JSON: how often it was killed, and how many different states were found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.inference.artifact import load
from edge_agent.inference.installed import durable, signature
from edge_agent.inference.installed.archive import opened
from edge_agent.inference.installed.state import COPY, STATE
from edge_agent.inference.installed.store import INCOMING, OUTGOING, Store

STEPS = ("sync_file", "sync_folder", "rename", "make_folder", "_to_the_owner")


def install(store: Store, folder: Path) -> None:
    with opened(folder) as bundle:
        store.install(bundle, signature.ANY, prove=load, underneath=lambda _: None, allow_downgrade=True)


def write_all(store: Store, models: list[Path]) -> None:
    """Everything that writes; from any state in which it may have been left."""
    versions = [path.parent.name for path in models]
    for model in models:
        install(store, model)
    for version in versions:
        store.activate("tiny", version, allow_downgrade=True)
        store.begin("tiny", version)
        store.pause("tiny", version)
    store.passed("tiny", versions[-1])
    store.activate("tiny", versions[0], allow_downgrade=True)
    store.fail("tiny", versions[0], "for the sake of it")
    store.rollback("tiny")
    store.remove("tiny", versions[0])


def killed(work: Callable[[], None], after_s: float | None) -> bool:
    """Whether the child was killed before it was done."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # the parent must see it, whatever it is
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the writer met something that it could not go on from"
        return False
    return True


def look(store: Store) -> str:
    """Everything that the store says is there, is there and whole."""
    if "tiny" not in store.names():
        return "nothing"
    state = store.state("tiny")
    versions = store.versions("tiny", state)
    for version in versions:
        artifact = load(store.place("tiny", version))
        assert artifact.manifest.version == version
        assert artifact.digest == state.seen[version]
    assert state.active is None or state.active in versions, f"active is {state.active}, there are {versions}"
    assert state.trial is None or state.active is not None
    return f"{state.active} {state.before} {versions} {state.trial and state.trial.starts} {sorted(state.failed)}"


def at_step(number: int, work: Callable[[], None]) -> None:
    """Killed when it would take its so-manieth step towards the disk: before it, and on odd numbers in the middle of a file."""
    left = number

    def dying(plain: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments)

        return step

    for name in STEPS:
        setattr(durable, name, dying(getattr(durable, name)))
    work()


def main(how: str, models: str, folder: str, times: int) -> None:
    versions = sorted(Path(models).glob("*/tiny"))
    store = Store(Path(folder))
    kills, states = 0, set()
    rng = random.Random(7)
    began = time.monotonic()
    if how == "random":
        assert not killed(lambda: write_all(store, versions), None)
    whole_s = time.monotonic() - began  # on this machine, as busy as it is
    for number in range(1, times + 1):
        if how == "steps":
            died = killed(lambda number=number: at_step(number, lambda: write_all(store, versions)), None)  # type: ignore[misc]
        else:
            died = killed(lambda: write_all(store, versions), rng.uniform(0, 0.8 * whole_s))
        kills += died
        states.add(look(store))
        if how == "steps" and not died:
            break
    assert not killed(lambda: write_all(store, versions), None)
    left = [path.name for path in store.folder.glob(".*") if path.name.startswith((INCOMING, OUTGOING))]
    stray = [
        path.name
        for path in (store.folder / "tiny").iterdir()
        if path.name not in (*store.versions("tiny"), STATE, COPY)
    ]
    print(json.dumps({"kills": kills, "states": len(states), "left": left + stray}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
