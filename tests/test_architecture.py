"""The house's rules, kept by reading what imports what: docs/architecture.md says them in words."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 450

MAY_KNOW = {
    # A room, and the rooms and modules of edge_agent that it may know beside itself. One that is not listed may know all.
    "journey": set(),
    "errors": set(),
    "progress": set(),
    "stanza": set(),
    "section": set(),
    "events": {"errors"},
    "latency": {"events"},
    "clock": {"errors", "journey"},
    "stamp": {"clock", "events"},
    "signal": {"errors", "journey"},
    "annotation_files": {"errors"},
    "sources": {"config", "errors", "journey", "ports", "section", "signal", "stanza"},
    "alarms": {"errors", "events", "inference", "journey", "section", "signal", "stamp"},
    "outputs": {"annotation_files", "config", "errors", "events", "journey", "latency", "section", "sources"},
}
READ_THE_ENVIRONMENT = {
    "edge_agent.config": "settings",
    "edge_agent.watch.hook": "hands its own to the command that it starts, less the password",
    "edge_agent.bench.rig": "hands its own to the daemon that it starts",
}


def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names_imported(path: Path) -> Iterator[str]:
    """Full names, of modules or of things in them; imports for the type checker alone are none."""
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
    known = {name.removeprefix("training."): path for name, path in modules(package).items()}
    assert circles({name: imported_modules(path, known) - {name} for name, path in known.items()}) == []


@pytest.mark.parametrize("name", sorted(MAY_KNOW))
def test_a_room_knows_only_those_before_it(name: str) -> None:
    known = modules("edge_agent")
    ours = {module: path for module, path in known.items() if room(module) == name}
    assert ours, f"there is no room {name}: the rule is stale"
    beyond = {
        f"{module} imports {other}"
        for module, path in ours.items()
        for other in imported_modules(path, known)
        if room(other) not in MAY_KNOW[name] | {name, "edge_agent"}
    }
    assert not beyond


def test_what_runs_on_the_device_knows_nothing_of_training_tests_or_benchmarks() -> None:
    strangers = {"edge_train", "tests", "benchmarks", "scipy", "pandas", "tensorflow.keras", "keras"}
    for module, path in modules("edge_agent").items():
        for name in names_imported(path):
            assert not any(name == one or name.startswith(f"{one}.") for one in strangers), f"{module} imports {name}"


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


def test_a_long_module_says_why() -> None:
    """In its docstring, with the word 'Long'."""
    for package in ("edge_agent", "training/edge_train", "tests", "benchmarks"):
        for module, path in modules(package).items():
            lines = path.read_text(encoding="utf-8").count("\n")
            said = "Long" in (ast.get_docstring(tree_of(path)) or "")
            assert lines <= MOST_LINES or said, f"{module}: {lines} lines"
