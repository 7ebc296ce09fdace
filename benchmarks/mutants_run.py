"""Trying a mutant: its source, or its compiled module, in the module's place while a forked child imports it and runs the tests.

A parent that has imported what the tests need from outside forks for each; no file is changed. Killed is what a test notices, what cannot
be imported, what crashes, and what uses five times the processor time of the unchanged code (a loop that does not end).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parent.parent
OWN = frozenset({"edge_agent", "tests", "benchmarks"})
QUIET = (
    "-q",
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
"""What is imported already, hypothesis among it, pytest cannot rewrite, and need not."""


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str
    operator: str
    occurrence: int
    """The how manieth place of this operator in the file; in C, of all operators."""


@dataclass(frozen=True, slots=True)
class Outcome:
    mutant: Mutant
    line: int
    change: str
    verdict: str
    """survived, or what killed it: test, import, crash, time."""
    seconds: float
    """Of the processor."""


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module by another loader."""

    def __init__(self, name: str, file: str, loader: importlib.abc.Loader) -> None:
        self.name, self.file, self.loader = name, file, loader

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.file, loader=self.loader)


class _Source(importlib.abc.InspectLoader):
    def __init__(self, file: str, source: str) -> None:
        self.file, self.source = file, source

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return self.source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return compile(self.source, self.file, "exec", dont_inherit=True)


def instead(path: str, source: str) -> Finder:
    """Of a module in other words."""
    file = str(ROOT / path)
    return Finder(path.removesuffix(".py").replace("/", "."), file, _Source(file, source))


def instead_built(name: str, file: Path) -> Finder:
    """Of a compiled module in another file."""
    return Finder(name, str(file), importlib.machinery.ExtensionFileLoader(name, str(file)))


def allowance(usual_s: float) -> float:
    """Processor time after which a mutant is taken to be in a loop without an end."""
    return 5 * usual_s + 2


def attempt(tests: Sequence[str], finder: Finder | None, cpu_s: float, log: Path) -> tuple[str, float]:
    """The tests in a child of this process: (verdict, processor time)."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if not pid:
        _child(tests, finder, cpu_s, log)
    deadline = time.monotonic() + 30 * cpu_s  # a machine may be busy; one that waits for ever is killed
    status: int | None = None
    while status is None:
        done, found = os.waitpid(pid, os.WNOHANG)
        if done:
            status = found
        elif time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "time", cpu_s
        else:
            time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what the tests started and a failing one left
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    if os.WIFSIGNALED(status):
        return ("time" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "crash"), used
    verdicts = {0: "survived", 1: "test", 2: "import", 3: "import", 4: "import"}
    return verdicts.get(os.WEXITSTATUS(status), "crash"), used


def _child(tests: Sequence[str], finder: Finder | None, cpu_s: float, log: Path) -> None:
    os.setpgid(0, 0)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    soft = math.ceil(cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + 2))
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if finder:
        sys.meta_path.insert(0, finder)
    import pytest

    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        options = [*QUIET, "-x", "--tb=line", "--basetemp", f"{folder}/tests"]
        try:
            code = int(pytest.main([*options, *tests]))
        except BaseException:  # noqa: BLE001 - whatever it was, the mutant made it
            code = 1
    os._exit(code)


def prepare(tests: Sequence[str], log: Path) -> None:
    """Import here what the tests need from outside, so that no child has to."""
    listing = log.with_suffix(".modules")
    pid = os.fork()
    if not pid:
        import pytest

        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        code = int(pytest.main([*QUIET, *tests]))
        listing.write_text("\n".join(name for name in list(sys.modules) if name.split(".")[0] not in OWN))
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"the tests fail without a mutant: {' '.join(tests)}\n{log.read_text()[-3000:]}")
    for name in listing.read_text().split("\n"):
        if name not in sys.modules and not name.startswith(("_pytest", "pytest", "__", "test")):
            with contextlib.suppress(Exception):  # then every child imports it itself
                importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] in {"edge_agent", "tests"}]:
        del sys.modules[name]


def unchanged(tests: Sequence[str], log: Path) -> float:
    """The processor time of the tests without a mutant."""
    verdict, used = attempt(tests, None, 600, log)
    if verdict != "survived":
        raise SystemExit(f"the tests fail in a fork: {' '.join(tests)}\n{log.read_text()[-3000:]}")
    return used


def settle() -> None:
    """Generated examples are the same for every mutant, and a failing one is not made small."""
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")


def interval(killed: int, of: int) -> tuple[float, float]:
    """Wilson's, 95 %."""
    if not of:
        return 0.0, 1.0
    z, p = 1.959964, killed / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def there(tests: Sequence[str]) -> tuple[str, ...]:
    return tuple(test for test in tests if (ROOT / test.split("::")[0]).exists())
