"""Mutation testing: does a test fail when a line of the detectors, alarm rules, outbox or decoders is changed?

    python -m benchmarks.mutants --out reports/mutants.json            # a sample of every group, about half an hour
    python -m benchmarks.mutants --group rules --sample 0 --out ...    # every mutant of one group
    python -m benchmarks.mutants --recheck reports/mutants.json        # only what survived, after tests were written

Cosmic Ray (``pip install cosmic-ray``) makes the mutants of Python, `mutants_c` those of the compiled QRS detector. Cosmic Ray's own runner
starts a process for each and imports everything anew; `mutants_run` forks instead, so that one costs the time of its tests alone.
They are drawn at random with a seed; the interval of the share is Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks import mutants_c
from benchmarks.mutants_run import (
    ROOT,
    Mutant,
    Outcome,
    allowance,
    attempt,
    instead,
    interval,
    prepare,
    settle,
    there,
    unchanged,
)

OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Pow_Mul", "RShift_LShift", "LShift_RShift")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitAnd")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceUnaryOperator_{pair}" for pair in ("USub_UAdd", "Delete_Not")),
    *("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "ZeroIterationForLoop", "NumberReplacer"),
)  # fmt: skip
"""Of Cosmic Ray's: one neighbour and one opposite for each operator, and not all eleven others, of which most die at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """A module and the tests that are to notice."""

    path: str
    tests: tuple[str, ...]


def _rules(*pairs: tuple[str, str]) -> tuple[Target, ...]:
    return tuple(
        Target(f"edge_agent/alarms/rules/{name}.py", tuple(f"tests/alarms/test_{test}.py" for test in tests.split()))
        for name, tests in pairs
    )


SIGNAL, OUTPUTS, BOARDS = "tests/signal/test_", "tests/outputs/test_", "tests/sources/boards/test_"
SCREEN = tuple(f"{BOARDS}screen.py::test_{name}" for name in (
    "one_sample_that_jumps_away_and_back_is_given_up", "beats_and_steps_and_a_pacemaker_stay", "what_is_held_is_said",
    "each_sample_comes_once_with_its_gap_and_its_lead", "after_a_long_loss_nothing_is_concluded",
))  # fmt: skip
GROUPS: dict[str, tuple[Target, ...]] = {
    "rules": _rules(
        ("arrest", "arrest_edges arrest rules_limits"),
        ("atrial", "rules_edges rhythm"),
        ("base", "rules_edges arrest_edges"),
        ("fibrillation", "fibrillation_edges fibrillation"),
        ("pressure", "pressure_alarms_edges pressure_rules"),
        ("rate", "rules_edges rate"),
        ("technical", "pressure_alarms_edges technical"),
        ("unlike", "unlike_edges unlike rules_limits"),
        ("unmoved", "unlike_edges unlike"),
        ("ventricular", "ventricular_edges ventricular unlike"),
        ("witness", "rules_edges rules_limits arrest_edges pressure_alarms_edges rate"),
    ),
    "outbox": tuple(
        Target(
            f"edge_agent/outputs/{name}.py",
            (f"{OUTPUTS}outbox_edges.py", f"{OUTPUTS}parcels.py", f"{OUTPUTS}outbox.py::test_two_agents_cannot_share_one"),
        )
        for name in ("outbox", "parcels")
    ),
    "decoders": tuple(
        Target(f"edge_agent/sources/boards/{name}.py", (f"{BOARDS}board_edges.py", f"{BOARDS}board_bytes.py", *more))
        for name, more in (
            ("base", ()), ("bitalino", (f"{BOARDS}board_vectors.py",)), ("cyton", (f"{BOARDS}board_vectors.py",)), ("numbered", ()),
            ("protocentral", (f"{BOARDS}board_vectors.py",)), ("protocentral_boards", (f"{BOARDS}board_vectors.py",)),
            ("registry", (f"{BOARDS}board_vectors.py",)), ("screen", (f"{BOARDS}screen_edges.py", *SCREEN)),
        )
    ),
    "detectors": (
        Target("edge_agent/signal/qrs_reference.py", tuple(f"{SIGNAL}qrs_{name}.py" for name in ("twins", "decisions", "to_the_sample"))),
        Target("edge_agent/signal/qrs_design.py", (f"{SIGNAL}qrs_design.py", f"{SIGNAL}qrs_twins.py")),
        Target("edge_agent/signal/pressure.py", tuple(f"{SIGNAL}pressure{name}.py" for name in ("_times", "_edges", ""))),
        Target("edge_agent/signal/pulse_rules.py", (f"{SIGNAL}pressure_edges.py",)),
    ),
}  # fmt: skip
"""The tests named are those made for the module, not all that run it: some seconds for each mutant, and not the whole suite."""


# -- making them ---------------------------------------------------------------------------------------------------------


def every(path: str) -> Iterator[Mutant]:
    from cosmic_ray.ast import get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    source = (ROOT / path).read_text(encoding="utf-8")
    provider, tree = OperatorProvider(), get_ast(source)
    nodes = list(_walk(tree))
    for name in OPERATORS:
        operator = provider[name]()
        count = sum(len(list(operator.mutation_positions(node))) for node in nodes)
        yield from (Mutant(path, name, at) for at in range(count))


def _walk(node: object) -> Iterator[object]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _walk(child)


def mutate(mutant: Mutant) -> tuple[int, str, str] | None:
    """(line, what was changed, the new source); None where nobody could have meant it: only an annotation would change, which nothing
    executes, or it is no Python any more (`**names` in a dictionary taken for a power)."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    made = mutate_code(source, OperatorProvider()[mutant.operator](), mutant.occurrence)
    try:
        if made is None or _meaning(made) == _meaning(source):
            return None
    except SyntaxError:
        return None
    old, new = source.splitlines(), made.splitlines()
    changes = [one for one in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes() if one[0] != "equal"]
    _, i, j, k, m = changes[0]
    return i + 1, f"{' '.join(' '.join(old[i:j]).split())}  ->  {' '.join(' '.join(new[k:m]).split())}", made


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
    return ast.dump(tree)


def run_group(name: str, chosen: Sequence[Mutant], log: Path, said: Callable[[Outcome], None]) -> None:
    tests = {target.path: there(target.tests) for target in GROUPS[name]}
    prepare(sorted({test for each in tests.values() for test in each}), log)
    usual: dict[str, float] = {}
    for mutant in chosen:
        made = mutate(mutant)
        if made is None:
            continue
        path = mutant.path
        if path not in usual:
            usual[path] = unchanged(tests[path], log)
            print(f"# {path}: {usual[path]:.1f} s of processor time unchanged", flush=True)
        line, change, source = made
        verdict, used = attempt(tests[path], instead(path, source), allowance(usual[path]), log)
        said(Outcome(mutant, line, change, verdict, round(used, 2)))


def draw(name: str, sample: int, seed: int) -> tuple[list[Mutant], int]:
    """(those to be tried, in an order of chance: a run that is ended has drawn fewer; how many there are)."""
    all_of_them = [mutant for target in GROUPS[name] for mutant in every(target.path)]
    return random.Random(f"{seed} {name}").sample(all_of_them, sample or len(all_of_them)), len(all_of_them)


def summary(outcomes: Sequence[Outcome], total: int) -> dict[str, object]:
    killed = sum(one.verdict != "survived" for one in outcomes)
    return {
        "mutants": total,
        "tried": len(outcomes),
        "killed": killed,
        "share": round(killed / max(1, len(outcomes)), 3),
        "interval_95": [round(end, 3) for end in interval(killed, len(outcomes))],
        "by": {what: sum(one.verdict == what for one in outcomes) for what in ("test", "import", "crash", "time")},
        "survivors": [asdict(one) for one in outcomes if one.verdict == "survived"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=[*GROUPS, mutants_c.GROUP], action="append")
    parser.add_argument("--sample", type=int, default=104, help="of each group; 0: all")
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--recheck", type=Path, help="the survivors of this report again")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settle()
    report: dict[str, dict[str, object]] = {}
    before = json.loads(asked.recheck.read_text()) if asked.recheck else None
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        for name in asked.group or [*GROUPS, mutants_c.GROUP]:
            old = (
                None
                if before is None
                else [Mutant(**one["mutant"]) for one in before.get(name, {}).get("survivors", ())]
            )
            if old == []:
                continue
            outcomes: list[Outcome] = []

            def said(one: Outcome, total: int, name: str = name, outcomes: list[Outcome] = outcomes) -> None:
                outcomes.append(one)
                if one.verdict == "survived":
                    print(f"{name}: {one.mutant.path}:{one.line}: {one.change}", flush=True)
                report[name] = summary(outcomes, total)
                if asked.out:
                    asked.out.write_text(json.dumps(report, indent=1) + "\n")

            if name == mutants_c.GROUP:
                mutants_c.run(asked.sample, asked.seed, old, log, said)
            else:
                chosen, total = draw(name, asked.sample, asked.seed) if old is None else (old, len(old))
                run_group(name, chosen, log, partial(said, total=total))
            found = report[name]
            print(
                f"{name}: {found['killed']} of {found['tried']} killed, 95 %: {found['interval_95']}, of {found['mutants']}"
            )


if __name__ == "__main__":
    main()
