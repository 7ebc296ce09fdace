"""The house's rules, kept by reading what imports what: docs/architecture.md says them in words."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 450

MAY_KNOW = {
    # A room (a folder or a module of its own), and the rooms that it may know beside itself. What stands first in the journey stands
    # first here. The last ones (daemon, cli, commands, review, bench, doctor, ...) may know all of these, and none of these knows them.
    "edge_agent": {
        "journey": "",
        "errors": "",
        "section": "",
        "plain_file": "",
        "progress": "",
        "strict_json": "errors",
        "hardware": "",
        "shown": "",
        "events": "",
        "clock": "",
        "stamp": "clock events",
        "gaps": "events stamp",
        "annotation_files": "errors",
        "config_problems": "section",
        "config": "alarms config_problems errors inference outputs review section sources",  # of the rooms, the settings
        "signal": "errors journey",
        "sources": "config errors journey section signal",
        "inference": "config errors events journey plain_file section shown signal",
        "alarms": "errors events inference journey section signal stamp",
        "items": "alarms inference journey",
        "pipeline": "alarms clock errors events gaps inference items journey signal sources stamp",
        "verdicts": "alarms events inference items journey stamp",
        "worker": "events items journey stamp verdicts",
        "outputs": "annotation_files config errors events journey section sources strict_json",
        "runner": "clock config errors events inference items journey pipeline sources stamp verdicts worker",
        "replay": "alarms clock config errors events inference items journey outputs pipeline progress sources stamp verdicts",
        "second_opinion": "alarms clock errors inference pipeline",
        "verify": "alarms clock errors pipeline replay sources stamp",
        "answers": "alarms errors events inference pipeline runner second_opinion",
        "reloading": "config inference runner",
        "process": "config shown",
        "watch": "commands config errors events",
    },
    "training/edge_train": {
        "arrays": "",
        "counted": "",
        "errors": "",
        "runtime": "",
        "qrs": "",
        "files": "errors",
        "reference": "arrays",
        "data": "arrays errors files reference",
        "task": "arrays data",
        "tasks": "errors task",
        "places": "errors task tasks",
        "measuring": "arrays files",
        "fitting": "arrays data errors files measuring runtime task",
        "packing": "arrays counted data errors files measuring reference runtime",
        "tuning": "data errors files fitting runtime task",
        "explain": "arrays errors runtime",
        "results": "arrays data errors files fitting measuring places runtime tasks",
        "alarms": "errors runtime",
        "af": "arrays counted data errors files fitting measuring packing task",
        "abp": "arrays counted data errors files fitting measuring places runtime task",
        "beats": "arrays counted data errors files measuring places reference results runtime task tasks",
        "opened": "beats data errors fitting packing task tasks",
        "finetuning": "arrays beats counted data errors explain files opened packing places runtime",
    },
}
CAUGHT_WHERE_THEY_ARE_RAISED = {
    "MissingExtraError": "signal.detectors makes a SourceError of it",
    "Overwritten": "the feeder abstains",
    "Damaged": "a TFLite file's bytes; TfliteError to the outside",
    "TpuLate": "the CPU answers",
    "BadBlock": "counted, the block is dropped",
    "UnreadableError": "watch says the line and goes on",
    "Done": "watch has seen what it waited for",
    "Bad": "400 on the page",
    "Refused": "400 on the page",
    "Conflict": "409 on the page",
    "Pruned": "a trial of tune",
    "TimeIsUp": "a trial of tune",
    "Failure": "a trial of tune; goes on the list of what is avoided",
}
"""Between two modules of one room; no user meets them."""
ROOMS = [(package, name) for package, rooms in MAY_KNOW.items() for name in rooms]
READ_THE_ENVIRONMENT = {
    "edge_agent.config": "settings",
    "edge_agent.watch.hook": "hands its own to the command that it starts, less the password",
    "edge_agent.bench.rig": "hands its own to the daemon that it starts",
}


def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to((ROOT / package).parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def names_imported(path: Path) -> tuple[str, ...]:
    """Full names, of modules or of things in them; imports for the type checker alone are none."""
    return tuple(_names_imported(path))


def _names_imported(path: Path) -> Iterator[str]:
    hidden = {
        id(inner)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree_of(path)):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    found = set()
    for name in names_imported(path):
        if name in known:
            found.add(name)
        elif name.rpartition(".")[0] in known:
            found.add(name.rpartition(".")[0])
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Paths that come back to where they began."""
    found, done = [], set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(graph.get(module, ())):
                walk(other, [*path, module])
            done.add(module)

    for module in graph:
        walk(module, [])
    return found


def test_the_search_finds_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", ["edge_agent", "training/edge_train"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    known = modules(package)
    assert circles({name: imported_modules(path, known) - {name} for name, path in known.items()}) == []


@pytest.mark.parametrize(("package", "name"), ROOMS)
def test_a_room_knows_only_those_before_it(package: str, name: str) -> None:
    known = modules(package)
    ours = {module: path for module, path in known.items() if room(module) == name}
    assert ours, f"there is no room {name}: the rule is stale"
    may = {*MAY_KNOW[package][name].split(), name, Path(package).name}
    knows = {(module, other) for module, path in ours.items() for other in imported_modules(path, known)}
    assert not {f"{module} imports {other}" for module, other in knows if room(other) not in may}
    assert may <= {room(other) for _, other in knows} | {name, Path(package).name}, "more is allowed than is needed"


def test_of_the_rooms_the_configuration_knows_their_settings_alone() -> None:
    known = modules("edge_agent")
    rooms = {one for one in imported_modules(known["edge_agent.config"], known) if one.count(".") > 1}
    beside = {"edge_agent.alarms.limits", "edge_agent.inference.installed.signature", "edge_agent.outputs.sinks"}
    assert rooms - beside == {f"edge_agent.{name}.settings" for name in ("inference", "outputs", "review", "sources")}


def test_what_runs_on_the_device_knows_nothing_of_training_tests_or_benchmarks() -> None:
    strangers = {"edge_train", "tests", "benchmarks", "scipy", "pandas", "tensorflow.keras", "keras"}
    for module, path in modules("edge_agent").items():
        for name in names_imported(path):
            assert not any(name == one or name.startswith(f"{one}.") for one in strangers), f"{module} imports {name}"


def test_errors_stand_in_one_tree() -> None:
    """What is raised for a user is an EdgeAgentError; what a module raises to itself is private to it, and caught there."""
    trees = {**modules("edge_agent"), **modules("training/edge_train")}
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for path in trees.values()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }

    def is_ours(name: str) -> bool:
        return name == "EdgeAgentError" or any(is_ours(base) for base in bases.get(name, ()))

    def is_error(name: str) -> bool:
        found = getattr(builtins, name, None)
        return (isinstance(found, type) and issubclass(found, BaseException)) or any(map(is_error, bases.get(name, ())))

    assert {name for name in bases if is_error(name) and not is_ours(name)} == set(CAUGHT_WHERE_THEY_ARE_RAISED)


def test_a_board_s_decoder_knows_the_journey_and_nothing_else() -> None:
    known = modules("edge_agent")
    for module, path in known.items():
        if module.startswith("edge_agent.sources.boards."):
            beyond = {one for one in imported_modules(path, known) if not one.startswith("edge_agent.sources.boards")}
            assert beyond <= {"edge_agent.journey", "edge_agent.sources.base"}, module


def test_settings_alone_read_the_environment() -> None:
    reading = {
        module
        for module, path in modules("edge_agent").items()
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in one.name for one in node.names))
    }
    assert reading == set(READ_THE_ENVIRONMENT)


def test_what_leaves_by_a_stream_s_topics_is_defined_in_events() -> None:
    for module, path in modules("edge_agent").items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Event" for base in node.bases):
                assert module == "edge_agent.events", f"{module}.{node.name}"


@pytest.mark.parametrize(("package", "table"), [("edge_agent", 0), ("training/edge_train", 1)])
def test_every_room_stands_in_the_document(package: str, table: int) -> None:
    """And none that is not there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Rooms")[2]
    lines = [part for part in text.split("\n\n") if part.startswith("| room of")][table].splitlines()
    there = {
        path.name + "/" * path.is_dir()
        for path in (ROOT / package).iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    name = re.compile(r"`([a-z_]+(?:/|\.py))`")
    assert there <= {found for line in lines for found in name.findall(line)}
    assert {found for line in lines for found in name.findall(line.split("|")[1])} <= there


def test_a_long_module_says_why() -> None:
    """In its docstring, with the word 'Long'."""
    for package in ("edge_agent", "training/edge_train", "tests", "benchmarks"):
        for module, path in modules(package).items():
            lines = path.read_text(encoding="utf-8").count("\n")
            said = "Long" in (ast.get_docstring(tree_of(path)) or "")
            assert lines <= MOST_LINES or said, f"{module}: {lines} lines"
