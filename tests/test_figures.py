"""`make figures`: a round goes on where it was ended, one that fails is named and stops no other, and nothing is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.spine import ROOT
from tools import figures, measures, quotes

PATIENCE_S = 30.0
Said = Callable[..., tuple[int, str]]


class Place:
    """A registry, a page and what is kept, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry, self.kept = folder / "figures.toml", folder / "figures.json"
        self.page, self.listed, self.results = folder / "page.md", folder / "listed.md", folder / "results"

    def measures(self, text: str) -> None:
        self.registry.write_text(textwrap.dedent(text), encoding="utf-8")
        names = [name for measure in measures.registry(self.registry) for name in measure.figures]
        self.page.write_text("\n".join(f"<!--= {name} -->old<!--/-->" for name in names) + "\n", encoding="utf-8")

    def state(self) -> dict[str, dict[str, dict[str, str]]]:
        read: dict[str, dict[str, dict[str, str]]] = json.loads(self.kept.read_text(encoding="utf-8"))
        return read

    def says(self) -> dict[str, str]:
        return {name: text for _, name, text in quotes.quoted([self.page])}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setattr(figures, "registry", lambda: measures.registry(made.registry))
    monkeypatch.setattr(figures, "apart", list)
    monkeypatch.setattr(figures, "LISTED", made.listed)
    monkeypatch.setattr(quotes, "KEPT", made.kept)
    monkeypatch.setattr(quotes, "LISTED", made.listed)
    monkeypatch.setattr(quotes, "pages", lambda: [made.page])
    monkeypatch.setattr(measures, "RESULTS", made.results)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Said:
    def command(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return figures.main(arguments), capsys.readouterr().out

    return command


ONE = """
[[measure]]
name = "one"
command = "echo one >> {log}; echo '{{\\"a\\": 2}}' > {{out}}.json"
result = "{{out}}.json"
minutes = 1
[measure.figures]
a = ["r['a'] / 3", ".2f"]
"""
FAILS = """
[[measure]]
name = "fails"
command = "echo fails >> {log}; test -e {mended} || {{ echo what is wrong >&2; exit 7; }}; echo 5 things"
minutes = 2
[measure.figures]
b = ["find(r'(\\\\d+) things')", ".0f"]
"""


def test_one_that_fails_is_named_stops_no_other_and_is_tried_again(place: Place, run: Said) -> None:
    log, mended = place.folder / "log", place.folder / "mended"
    place.measures((FAILS + ONE).format(log=log, mended=mended))
    status, said = run()
    assert status == 1
    assert re.search(r"fails FAILED: exit status 7\n +what is wrong", said)
    assert "1 measured, 1 FAILED: fails" in said
    assert place.says() == {"b": "old", "a": "0.67"}
    assert place.state()["failed"]["fails"]["why"].startswith("exit status 7")
    assert "failed" in run("--list")[1]
    mended.touch()
    status, said = run()
    assert (status, log.read_text().split()) == (0, ["fails", "one", "fails"]), "it went on with what was not measured"
    assert place.says() == {"b": "5", "a": "0.67"}
    assert place.state()["failed"] == {}
    assert "2 of 2 are measured in it" in place.listed.read_text()
    status, said = run()
    assert (status, log.read_text().split()) == (0, ["fails", "one", "fails"])
    assert "all of the round" in said


def test_another_round_begins_when_it_is_asked_for(place: Place, run: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place.folder / "log"
    place.measures(ONE.format(log=log))
    run()
    for module in (figures, measures):
        monkeypatch.setattr(module, "now", lambda: "2999-01-01T00:00Z")
    assert "1 measurements" in run("--dry-run", "--again")[1]
    assert run("--again")[0] == 0
    assert log.read_text().split() == ["one", "one"]
    assert place.state()["round"] == "2999-01-01T00:00Z"  # type: ignore[comparison-overlap]


def test_what_is_heavy_wants_to_be_asked_for(place: Place, run: Said) -> None:
    log = place.folder / "log"
    place.measures(
        ONE.format(log=log) + "\n" + ONE.format(log=log).replace('"one"', '"heavy"\nheavy = true').replace("a =", "h =")
    )
    assert "1 measurements, some 1 minutes" in run("--dry-run")[1]
    assert "2 measurements, some 2 minutes" in run("--dry-run", "--heavy")[1]
    assert not log.exists(), "a dry run measures nothing"
    run()
    assert place.says() == {"a": "0.67", "h": "old"}
    run("--heavy")
    assert place.says() == {"a": "0.67", "h": "0.67"}
    assert log.read_text().split() == ["one", "one"], "what the round had was not made again"


def test_what_needs_what_is_not_here_fails_or_stays_as_it_is_kept(place: Place, run: Said) -> None:
    log = place.folder / "log"
    needs = ONE.format(log=log).replace("minutes = 1", "minutes = 1\nneeds = ['no/such/place']")
    kept = needs.replace('"one"', '"other"\nor_kept = true').replace("a =", "o =")
    place.measures(needs + "\n" + kept)
    status, said = run()
    assert (status, log.exists()) == (1, False)
    assert "one FAILED: not here: no/such/place" in said
    assert "other: what is kept stays; not here: no/such/place" in said
    assert "other FAILED" not in said
    assert "other FAILED" in run("--only", "other")[1]


def test_what_measures_no_time_goes_side_by_side_and_all_else_alone(place: Place, run: Said) -> None:
    wait = "for i in $(seq 200); do test -e {there} && break; sleep 0.05; done; test -e {there}"
    text = "".join(
        f"""
        [[measure]]
        name = "{name}"
        command = "touch {place.folder}/{name}; {wait.format(there=place.folder / other)} && echo 1; rm -f {place.folder}/alone"
        minutes = 1
        beside = {"true" if name != "alone" else "false"}
        [measure.figures]
        {name} = ["find('(1)')", ".0f"]
        """
        for name, other in (("alone", "alone"), ("left", "right"), ("right", "left"))
    )
    place.measures(text)
    status, said = run("--jobs", "2")
    assert status == 0, said
    assert re.findall(r"\[\d of 3\] (\w+)", said)[2] == "alone"
    assert figures.minutes(measures.registry(place.registry), {"measures": {}}, 2) == 2


def test_a_hung_command_is_ended_with_what_it_started(place: Place, run: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_LEAST_LIMIT_S", 0.5)
    monkeypatch.setattr(measures, "_SAID_EVERY_S", 0.2)
    pid = place.folder / "pid"
    place.measures(f"""
        [[measure]]
        name = "hangs"
        command = "sleep 600 & echo $! > {pid}; wait"
        minutes = 0
        [measure.figures]
        a = "1"
        """)
    status, said = run()
    assert status == 1
    assert "hangs FAILED: had not ended" in said
    assert ended(int(pid.read_text()))


def ended(pid: int) -> bool:
    for _ in range(round(PATIENCE_S * 20)):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def begun(place: Place) -> Iterator[subprocess.Popen[str]]:
    """The command itself, with the paths of the folder."""
    program = f"""
import signal, sys
from pathlib import Path
from tools import figures, measures, quotes
folder = Path({str(place.folder)!r})
figures.registry = lambda: measures.registry(folder / "figures.toml")
quotes.KEPT, measures.RESULTS = folder / "figures.json", folder / "results"
quotes.LISTED = figures.LISTED = folder / "listed.md"
quotes.pages = lambda: [folder / "page.md"]
signal.signal(signal.SIGTERM, signal.default_int_handler)
sys.exit(figures.main([]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


SLOW = """
[[measure]]
name = "slow"
command = "sleep 600 & echo $! > {pid}; wait"
minutes = 1
beside = {beside}
[measure.figures]
s = "1"
"""


@pytest.mark.parametrize("beside", ["true", "false"], ids=["on a thread", "alone"])
def test_stopped_it_ends_what_runs_keeps_what_is_through_and_blames_nobody(
    place: Place, request: pytest.FixtureRequest, beside: str
) -> None:
    pid = place.folder / "pid"
    first = ONE.replace("minutes = 1", "minutes = 1\nbeside = true").format(log=place.folder / "log")
    place.measures(first + SLOW.format(pid=pid, beside=beside))
    process: subprocess.Popen[str] = request.getfixturevalue("begun")
    ends = time.monotonic() + PATIENCE_S
    while not (pid.exists() and pid.read_text().strip() and place.kept.exists()) and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGTERM)
    said, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == figures.STOPPED, told
    assert "the same command goes on" in told
    assert "FAILED" not in said
    assert ended(int(pid.read_text()))
    assert place.says()["a"] == "0.67"
    assert set(place.state()["measures"]) == {"one"}


@pytest.mark.parametrize(
    ("command", "result", "why"),
    [
        ("true", "{out}.json", "left no"),
        ("echo no json", "-", "left what is no JSON"),
        ("echo '{}'", "-", "KeyError"),
        ("echo '{\"x\": null}'", "-", "nothing was measured"),
        ("exit 1", "-", "exit status 1"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_result_that_cannot_be_read_is_a_fault(command: str, result: str, why: str) -> None:
    asked = measures.Measure("m", command, {"a": ("r['x']", "")}, 1, result=result)
    with pytest.raises(measures.FigureFault, match=why):
        measures.run(asked, False, measures.Running())


def test_an_older_result_is_not_taken_for_this_one(place: Place) -> None:
    place.results.mkdir()
    old = place.results / "m.json"
    old.write_text('{"x": 1}')
    os.utime(old, (1e9, 1e9))
    with pytest.raises(measures.FigureFault, match="left no"):
        measures.run(
            measures.Measure("m", "true", {"a": ("r['x']", "")}, 1, result="{out}.json"), False, measures.Running()
        )


def test_what_is_to_be_known_of_a_result_is_kept_and_listed(place: Place, run: Said) -> None:
    text = ONE.format(log=place.folder / "log").replace(
        "minutes = 1", "minutes = 1\nstatus = [3]\nnote = \"'other load' if r['a'] else ''\""
    )
    place.measures(text.replace('.json"\nresult', '.json; exit 3"\nresult'))
    assert run()[0] == 0
    assert place.state()["measures"]["one"]["note"] == "exit status 3: a bound is not kept; other load"
    assert "other load" in place.listed.read_text()


def test_a_key_that_the_registry_does_not_know_is_refused(place: Place) -> None:
    with pytest.raises(measures.FigureFault, match="heavey"):
        place.measures(ONE.format(log="x").replace("minutes = 1", "minutes = 1\nheavey = true"))


@pytest.mark.parametrize(
    ("number", "text"), [(0.2246, "0.22"), (5.32, "5.3"), (12.3, "12"), (2660.8, "2,661"), (0.031, "0.031"), (0, "0")]
)
def test_two_digits_at_least(number: float, text: str) -> None:
    found = measures.values(measures.Measure("m", "", {"a": ("sig(r)", "")}, 1), number, "")
    assert found == {"a": text}


def test_every_expression_of_the_registry_is_one() -> None:
    for measure in measures.registry():
        for name, (expression, _) in measure.figures.items():
            compile(expression, name, "eval")
        if measure.note is not None:
            compile(measure.note, measure.name, "eval")


def test_what_stands_apart_names_pages_that_are_there() -> None:
    for one in measures.apart():
        for page in re.findall(r"\]\(([^)]+)\)", one.page):
            assert (quotes.LISTED.parent / page).exists(), one.name
