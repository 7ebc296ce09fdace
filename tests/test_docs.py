"""README and docs: nothing in them is out of date that a machine can see in seconds. `make docs-check` runs their commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.outputs import sinks
from edge_agent.sources.boards import registry
from tests.spine import ROOT
from tools import measures, quotes
from tools.pages import PageFault, commands
from tools.place import pages

PAGES = [path for path in pages() if path.exists()]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(
    r"(?<![\w/-])(?:edge_agent|tests|benchmarks|training|tools|packaging|systemd|config|docs|examples|models)/[\w./-]+"
)


def prose(path: Path) -> str:
    """Without the blocks."""
    return re.sub(r"^\s*```.*?^\s*```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", one.lower())).replace(" ", "-") for one in found}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_a_page_says_of_its_commands_is_understood(page: Path) -> None:
    commands(page)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_that_are_named_are_there(page: Path) -> None:
    for code in CODE.findall(prose(page)):
        for path in PATH.findall(code):
            base = ROOT / "training" if page.parent.name == "training" and (ROOT / "training" / path).exists() else ROOT
            name = path.rstrip("./")
            if (
                "NAME" in name
                or "..." in code
                or name.startswith(("training/build", "training/.venv", "training/results", "models/x"))
            ):
                continue
            assert (base / name).exists() or list(base.glob(name + "*")), f"`{code}`: there is no {name}"


def test_make_targets_that_are_named_are_there() -> None:
    there = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^|&& |sudo )make ([a-z][a-z0-9-]*)", text, re.MULTILINE):
            assert target in there, f"{page.name}: make {target}"


def test_pages_quote_what_was_measured() -> None:
    assert quotes.faults(measures.registry(), quotes.kept()) == []


def test_the_list_of_figures_is_whole() -> None:
    listed = quotes.LISTED.read_text(encoding="utf-8")
    assert all(f"| {measure.name} | `" in listed for measure in measures.registry()), "make figures ARGS=--write"


def test_every_board_stands_in_the_document() -> None:
    text = (ROOT / "docs" / "boards.md").read_text(encoding="utf-8")
    assert [name for name in registry.NAMES if f"`{name}`" not in text] == []


def test_every_output_stands_in_the_document() -> None:
    text = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    assert [name for name in sinks.SINKS if f"[{name}]" not in text] == []


def test_every_shipped_model_stands_in_the_document() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    shipped = [path.parent.name for path in (ROOT / "models").glob("*/manifest.json")]
    assert shipped
    assert [name for name in shipped if f"[`{name}`](../models/{name}/MODEL_CARD.md)" not in text] == []


# ------------------------------------------------------------------------------------------------ the tools themselves


def page_of(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_commands_over_several_lines_are_one(tmp_path: Path) -> None:
    text = "```sh\n# a remark\nfor i in 1 2; do\n  echo $i\ndone\necho a \\\n  b\n```\n```console\n$ cat 'x\ny'\nprinted\n$ true\n```\n"
    found = [(one.text, one.line) for one in commands(page_of(tmp_path, text))]
    assert [line for _, line in found] == [3, 6, 10, 13]
    assert found[2][0] == "cat 'x\ny'"


def test_comments_say_how_commands_are_run(tmp_path: Path) -> None:
    text = """<!-- docs-check skip root /sudo/ -->
<!-- docs-check with |FILE|a.txt| -->
<!-- docs-check status 1,3 /grep/: nothing found is right -->
<!-- docs-check stop 4 /tail/ -->
```sh
sudo true
grep x FILE
tail -f FILE
```
"""
    root, grep, tail = commands(page_of(tmp_path, text))
    assert (root.skip, root.shortened) == ("root", False)
    assert (grep.text, grep.status, grep.shortened, grep.stop_s) == ("grep x a.txt", (1, 3), True, None)
    assert (tail.stop_s, tail.status) == (4.0, (0,))


@pytest.mark.parametrize(
    "text",
    [
        "```\nedge-agent run my.toml\n```\n",
        "    edge-agent run my.toml\n",
        "<!-- docs-check skip laziness -->\n```sh\ntrue\n```\n",
        "<!-- docs-check stop soon -->\n```sh\ntrue\n```\n",
        "<!-- docs-check skip root /nothing/ -->\n```sh\ntrue\n```\n",
        "<!-- docs-check skip root -->\n\nNo block here.\n",
        "<!-- docs-check hope -->\n```sh\ntrue\n```\n",
        "```sh\nif true\n```\n",
    ],
    ids=["hidden in a block", "hidden by indenting", "reason", "number", "meets none", "no block", "word", "no end"],
)
def test_what_would_escape_the_check_is_a_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(PageFault):
        commands(page_of(tmp_path, text))


def test_a_page_with_a_command_that_fails_fails(tmp_path: Path) -> None:
    page = page_of(
        tmp_path, "```sh\ncd docs\npwd\nls boards.md\nfalse\n```\n<!-- docs-check stop 1 -->\n```sh\nsleep 60\n```\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tools.docs_check", "--logs", str(tmp_path), str(page)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout
    assert "5 run; 1 stopped" in ran.stdout
    assert re.findall(r"page\.md:(\d+):", ran.stdout) == ["5"]


def test_figures_are_written_where_they_are_quoted(tmp_path: Path) -> None:
    page = page_of(tmp_path, "F1 <!--= a -->1<!--/--> %, <!--= b -->2<!--/-->\n<!--= t -->\n| old |\n<!--/-->\n")
    assert quotes.write({"a": "99.9", "t": "| new |\n| rows |"}, [page]) == [page]
    assert (
        page.read_text()
        == "F1 <!--= a -->99.9<!--/--> %, <!--= b -->2<!--/-->\n<!--= t -->\n| new |\n| rows |\n<!--/-->\n"
    )
    assert quotes.write({"a": "99.9"}, [page]) == []
    assert [(name, text) for _, name, text in quotes.quoted([page])] == [
        ("a", "99.9"),
        ("b", "2"),
        ("t", "| new |\n| rows |"),
    ]


def test_a_figure_that_cannot_be_read_is_a_fault() -> None:
    measure = measures.Measure("m", "true", {"a": ("r['x']", ".1f"), "b": ("find(r'(\\d+) us')", ".0f")}, 1, result="-")
    assert measures.values(measure, {"x": 2.04}, "it took 1,234 us".replace(",", "")) == {"a": "2.0", "b": "1234"}
    with pytest.raises(measures.FigureFault, match="KeyError"):
        measures.values(measure, {}, "5 us")
    with pytest.raises(measures.FigureFault, match="nothing printed"):
        measures.values(measure, {"x": 1}, "")
