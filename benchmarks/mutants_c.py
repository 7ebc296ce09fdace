"""Mutants of the compiled QRS detector: operators, comparisons and numbers of `_kernel.c`, one at a time.

Cosmic Ray knows no C, so the places are found by pattern, comments and text aside, in what works on samples and beats; what only
speaks to Python, and what only training uses, is left out. The tests hold the kernel to the plain Python beside it.
"""

from __future__ import annotations

import random
import re
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.mutants_run import ROOT, Mutant, Outcome, allowance, attempt, instead_built, prepare, there, unchanged

FOLDER = ROOT / "edge_agent" / "signal"
GROUP = "kernel"
SOURCE = "edge_agent/signal/_kernel.c"
TESTS = tuple(f"tests/signal/test_qrs_{name}.py" for name in ("twins", "decisions", "to_the_sample"))
SWAPS = {
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
    "==": ("!=",), "!=": ("==",), "&&": ("||",), "||": ("&&",), "+=": ("-=",), "-=": ("+=",), "*=": ("/=",), "++": ("--",),
    "break": ("continue",), "!": ("",),
}  # fmt: skip
TOKEN = re.compile(
    r"(?P<skip>/\*.*?\*/|\"(?:\\.|[^\"])*\"|'(?:\\.|[^'])*'|->|<<|>>|^\s*#[^\n]*)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<number>\d+\.\d+(?:e-?\d+)?|\d+(?:e-?\d+)?)"
    r"|(?P<op>\+\+|--|\+=|-=|\*=|<=|>=|==|!=|&&|\|\||[-+*/<>!])",
    re.S | re.M,
)
VALUE_ENDS = re.compile(r"[\w)\]]\s*$")
CAST = r"\(\s*(int|double|size_t|int64_t|char|void|Py_ssize_t)\s*\)"
TYPE = r"\b(int|double|char|int64_t|Core|void|float|return|case|else)"
CAST_OR_TYPE = re.compile(rf"({CAST}|{TYPE})\s*$")
LEFT_OUT = re.compile(r"    if \(k->trace && k->force\).*?(?=\} else if)|    if \(k->trace\) \{.*?\n    \}\n", re.S)
CHECKED = (
    "-fsanitize=bounds,integer-divide-by-zero,signed-integer-overflow,shift",
    "-fsanitize-undefined-trap-on-error",
)
"""As `tests/signal/test_kernel_checked.py` builds it: a step beyond an array ends the process."""
FLAGS = ("-O1", "-fno-math-errno", "-ffp-contract=off", "-fPIC", "-w", "-DPy_LIMITED_API=0x030B0000", *CHECKED)


def places(source: str) -> Iterator[tuple[int, int, str, str]]:
    """(from, to, operator's name, what is put there) of every mutant."""
    ends = source.index("/* ---- Python ----")
    setup = source.index("static int setup("), source.index("static PyObject *kernel_new(")
    begins = source.index("static void forget_signal(")
    left_out = [found.span() for found in LEFT_OUT.finditer(source)]
    for token in TOKEN.finditer(source):
        at, until = token.span()
        if not (begins <= at < ends or setup[0] <= at < setup[1]) or any(a <= at < b for a, b in left_out):
            continue
        kind, text = token.lastgroup, token.group()
        if kind == "number":
            value = float(text)
            whole = text.isdigit()
            for step in (1, -1):
                yield at, until, "number", (str(int(text) + step) if whole else repr(value + step))
        elif kind == "op" or text == "break":
            before = source[:at]
            binary = bool(VALUE_ENDS.search(before)) and not CAST_OR_TYPE.search(before)
            if text in ("+", "-", "*", "/") and not binary:
                continue
            for other in SWAPS.get(text, ()):
                yield at, until, text, other


def compiled(source: str, folder: Path, others: Sequence[Path]) -> Path | None:
    """The kernel of that source; None if the compiler refuses it."""
    file, made = folder / "_kernel.c", folder / "_kernel.abi3.so"
    file.write_text(source)
    made.unlink(missing_ok=True)
    include = sysconfig.get_path("include")
    command = [
        "cc",
        *FLAGS,
        f"-I{include}",
        f"-I{FOLDER}",
        "-shared",
        str(file),
        *map(str, others),
        "-lm",
        "-o",
        str(made),
    ]
    return made if subprocess.run(command, capture_output=True).returncode == 0 else None


def run(sample: int, seed: int, old: Sequence[Mutant] | None, log: Path, said: Callable[[Outcome, int], None]) -> None:
    source = (ROOT / SOURCE).read_text(encoding="utf-8")
    found = list(places(source))
    chosen = list(range(len(found)))
    if old is not None:
        chosen = [one.occurrence for one in old]
    elif sample and sample < len(found):
        chosen = random.Random(f"{seed} {GROUP}").sample(chosen, sample)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        others = []
        for part in ("_window", "_measure"):
            other = folder / f"{part}.o"
            include = sysconfig.get_path("include")
            subprocess.run(
                ["cc", *FLAGS, f"-I{include}", "-c", str(FOLDER / f"{part}.c"), "-o", str(other)], check=True
            )
            others.append(other)
        tests = there(TESTS)
        prepare(tests, log)
        usual = unchanged(tests, log)
        print(f"# {SOURCE}: {len(chosen)} mutants, {usual:.1f} s of processor time unchanged", flush=True)
        for number in chosen:
            at, until, operator, new = found[number]
            line = source.count("\n", 0, at) + 1
            old_line = source.split("\n")[line - 1]
            begin = source.rfind("\n", 0, at) + 1
            new_line = old_line[: at - begin] + new + old_line[until - begin :]
            made = compiled(source[:at] + new + source[until:], folder, others)
            if made is None:
                continue  # no program: neither killed nor survived
            verdict, used = attempt(tests, instead_built("edge_agent.signal._kernel", made), allowance(usual), log)
            change = f"{old_line.strip()}  ->  {new_line.strip()}"
            said(Outcome(Mutant(SOURCE, operator, number), line, change, verdict, round(used, 2)), len(found))
