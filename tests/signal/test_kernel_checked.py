"""The kernel's own tests once more with a kernel that ends the process where it would step beyond an array or overflow an integer.

A read beside an array gives some number or other, mostly one that changes nothing: no comparison of results notices it.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHECKS = (
    "-fsanitize=bounds,integer-divide-by-zero,signed-integer-overflow,shift",
    "-fsanitize-undefined-trap-on-error",
)
TESTS = tuple(
    f"test_{name}.py" for name in ("qrs_twins", "qrs_decisions", "qrs_to_the_sample", "window_kernel", "measure_kernel")
)
RUN = """
import importlib.machinery, importlib.util, sys
import pytest

class Instead:
    def find_spec(self, name, path, target=None):
        if name == "edge_agent.signal._kernel":
            loader = importlib.machinery.ExtensionFileLoader(name, sys.argv[1])
            return importlib.util.spec_from_file_location(name, sys.argv[1], loader=loader)

sys.meta_path.insert(0, Instead())
from edge_agent.signal import _kernel
assert _kernel.__file__ == sys.argv[1], _kernel.__file__
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def checked(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ROOT / "edge_agent" / "signal"
    made = tmp_path_factory.mktemp("checked") / "_kernel.abi3.so"
    sources = [str(folder / f"_{name}.c") for name in ("kernel", "window", "measure")]
    include = f"-I{sysconfig.get_path('include')}"
    flags = ["-O1", "-fno-math-errno", "-ffp-contract=off", "-fPIC", "-shared", "-DPy_LIMITED_API=0x030B0000", *CHECKS]
    built = subprocess.run(
        [program("cc"), *flags, include, *sources, "-lm", "-o", str(made)], capture_output=True, text=True
    )
    if built.returncode:
        pytest.skip(f"this compiler cannot build the kernel with checks: {built.stderr.strip().splitlines()[-1]}")
    return made


def test_no_step_beyond_an_array_and_no_overflow(checked: Path, tmp_path: Path) -> None:
    tests = [str(Path(__file__).with_name(name)) for name in TESTS]
    command = [sys.executable, "-c", RUN, str(checked), "--basetemp", str(tmp_path / "inner"), *tests]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, (
        f"exit status {run.returncode} (negative: a check ended it)\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    )
