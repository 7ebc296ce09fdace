"""Reports on disk: their schema, their names, old ones, damaged ones; compared, drawn, tabled."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge_agent.bench import files, page, plots, table
from edge_agent.bench.cli import main
from edge_agent.bench.compare import Limit, compare, exceeded, pairs
from edge_agent.bench.report import Report
from tests.bench.made import OLD, report, result

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schema"


def checked(data: dict[str, Any], name: str = "bench-2.json") -> None:
    """Held against the published schema; and nothing in it that the schema does not describe."""
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    problems = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(data)]
    assert not problems, problems
    assert set(data) <= set(schema["properties"])


def test_a_report_keeps_to_its_schema_and_reads_back(tmp_path: Path) -> None:
    made = report(result(), result(name="window"))
    path = files.write(made, tmp_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    checked(data)
    assert data["schema"] == "edge-agent/bench/2"
    back = files.read(path)
    assert back.report is not None
    assert [row.key for row in back.rows] == [("single", "call", "cpu/test"), ("single", "window", "cpu/test")]
    for spoilt in ("results", "environment", "schema"):
        with pytest.raises(AssertionError):
            checked({key: value for key, value in data.items() if key != spoilt})


def test_the_days_second_report_overwrites_nothing(tmp_path: Path) -> None:
    names = [files.write(report(result(30.0 + i)), tmp_path).name for i in range(3)]
    day = re.fullmatch(r"summary-here-m-(\d{4}-\d\d-\d\d)\.json", names[0])
    assert day is not None
    assert names[1:] == [f"summary-here-m-{day[1]}-{i}.json" for i in (2, 3)]
    p50s = [files.read(tmp_path / name).rows[0].us["p50"] for name in names]
    assert p50s == sorted(p50s)  # type: ignore[type-var]


@pytest.mark.parametrize("device", ["../../etc/x", "Pi 4 (USB)", "a/b", "...", "-"])
def test_no_devices_name_leaves_the_folder(tmp_path: Path, device: str) -> None:
    path = files.write(report(result(), device=device), tmp_path / "reports")
    assert path.parent == tmp_path / "reports"
    assert re.fullmatch(r"summary-[A-Za-z0-9_.-]+\.json", path.name)


def test_the_last_report_says_whether_it_comes_again(tmp_path: Path) -> None:
    files.write(report(result(30.0)), tmp_path)
    (tmp_path / "summary-here-m-2026-01-01.json").write_text("{")  # a damaged one is passed over
    found = files.previous(tmp_path, report(result()))
    assert found is not None
    assert found.rows[0].us["p50"] == pytest.approx(30.0, rel=0.05)
    assert files.previous(tmp_path, report(result(), digest="e" * 64)) is None  # another model
    assert files.previous(tmp_path, report(result(), device="there")) is None


def test_an_old_report_still_compares(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", files.write(report(result(30.0)), tmp_path)
    old.write_text(json.dumps(OLD))
    reports = [files.read(old), files.read(new)]
    (pair,) = pairs(reports)
    assert pair.ratio("p50") == pytest.approx(0.75, rel=0.05)
    assert pair.beyond_spread("p50") is None
    assert "spread not known" in compare(reports)
    assert main(["compare", str(old), str(new), "--fail-if", "p50:+10%"]) == 0
    assert main(["compare", str(new), str(old), "--fail-if", "p50:+10%"]) == 3


def test_a_gate_does_not_open_for_want_of_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = files.write(report(result(30.0)), tmp_path / "one")
    other = files.write(report(result(30.0), model="another"), tmp_path / "other")
    for limit in ([], ["--fail-if", "p99:+20%"]):
        assert main(["compare", str(one), str(other), *limit]) == 1
        assert "nothing was compared" in capsys.readouterr().err
    few = OLD | {"results": [{**OLD["results"][0], "percentiles_us": {"p50": 40.0}}]}
    (tmp_path / "few.json").write_text(json.dumps(few), encoding="utf-8")
    assert main(["compare", str(tmp_path / "few.json"), str(one), "--fail-if", "p99:+20%"]) == 3
    assert "p99: is in no two of the reports" in capsys.readouterr().err


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_what_is_invalid_opens_no_gate(
    which: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = [["throttled"] if number in which else [] for number in (0, 1)]
    one, other = (files.write(report(result(30.0, reasons=of)), tmp_path / str(n)) for n, of in enumerate(why))
    assert main(["compare", str(one), str(other)]) == 0  # shown it is, with its reasons
    capsys.readouterr()
    assert main(["compare", str(one), str(other), "--fail-if", "p50:+500%"]) == 3
    assert capsys.readouterr().err.count("p50 proves nothing: INVALID in ") == 1


def test_a_folder_stands_for_the_reports_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for p50 in (30.0, 60.0):
        files.write(report(result(p50)), tmp_path)
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    assert main(["compare", str(tmp_path), "--fail-if", "p50:+500%"]) == 0
    assert "m: " in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty")]) == 1
    assert "is no plain file" in capsys.readouterr().err


GOOD = json.dumps(report(result()).model_dump(mode="json", by_alias=True))


def without(data: dict[str, Any], key: str) -> str:
    return json.dumps({name: value for name, value in data.items() if name != key})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON"),
        (GOOD[: len(GOOD) // 2], "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1, 2]", "it names no schema"),
        ("{}", "it names no schema"),
        ('{"schema": "edge-agent/bench/7"}', "its schema is 'edge-agent/bench/7'"),
        ('{"schema": "edge-agent/bench/2"}', "damaged"),
        (re.sub(r'"histogram": "[^"]{8}', '"histogram": "????????', GOOD), "no HDR histogram"),
        (GOOD.replace('"valid": true', '"valid": "perhaps"'), "damaged: results.0.valid"),
        (without(OLD, "results"), "damaged: a report of edge-agent/bench/1 without 'results'"),
        (json.dumps({**OLD, "results": [{}]}), "damaged"),
        (json.dumps({**OLD, "results": [{**OLD["results"][0], "count": None}]}), "damaged"),
    ],
    ids=[
        "empty",
        "cut",
        "deep",
        "list",
        "none",
        "unknown",
        "bare",
        "histogram",
        "field",
        "old",
        "old-row",
        "old-number",
    ],
)
def test_a_damaged_report_gives_one_clear_line(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    assert main(["compare", str(path)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert str(path) in err
    assert "Traceback" not in err


def test_no_report_and_a_folder_are_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "none.json")]) == 1
    assert main(["compare", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 2


# -- comparing --------------------------------------------------------------------------------------------------------


def read(tmp_path: Path, *made: Report) -> list[files.Read]:
    return [files.read(files.write(one, tmp_path)) for one in made]


def test_a_difference_must_exceed_the_runs_own_spread(tmp_path: Path) -> None:
    noisy = read(tmp_path, report(result(30, wobble=0.1)), report(result(32, wobble=0.1, seed=1)))
    assert pairs(noisy)[0].said("p50") == "within the spread"
    quiet = read(tmp_path, report(result(30, wobble=0.002)), report(result(32, wobble=0.002, seed=1)))
    assert pairs(quiet)[0].said("p50") == "slower"
    assert pairs(quiet[::-1])[0].said("p50") == "faster"


def test_limits_are_passed_or_not(tmp_path: Path) -> None:
    reports = read(tmp_path, report(result(30)), report(result(33, seed=1)))
    assert exceeded(reports, [Limit.parse("p50:+20%")]) == []
    (said,) = exceeded(reports, [Limit.parse("p50:+5%"), Limit.parse("p99.9:+900%")])
    assert "p50 is +" in said
    for wrong in ("p50", "p50:20%", "p51:+20%", "p50:+x%", "p50:+20"):
        with pytest.raises(ValueError, match="is wanted"):
            Limit.parse(wrong)


def test_what_stands_in_one_report_alone_is_named(tmp_path: Path) -> None:
    text = compare(read(tmp_path, report(result(), result(name="window")), report(result(reasons=["interrupted"]))))
    assert "only once: m: single window" in text
    assert "single call is INVALID: interrupted" in text


# -- tables and plots ----------------------------------------------------------------------------------------------------


def test_the_table_says_all_that_matters() -> None:
    text = "\n".join(table.tables(report(result(reasons=["throttled"]))))
    assert "INVALID: throttled" in text
    assert "p99.9" in text
    widths = {len(line) for line in text.splitlines() if line.startswith("| ") and "cpu/test" in line}
    assert len(widths) == 1


def test_the_page_is_one_file_and_well_formed() -> None:
    text = page.page([report(result(backend="cpu/<script>alert(1)</script>"), result(name="window"))])
    assert "<script" not in text
    assert not re.search(r"https?://|@import|url\(|<link|<img", text)
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 4  # distribution, percentiles, two timelines
    for drawing in drawings:
        for number in re.findall(
            r'(?:points|x|y|width)="([^"]*)"', ET.tostring(ET.fromstring(drawing), encoding="unicode")
        ):
            assert "nan" not in number
            assert "inf" not in number


def test_the_percentiles_that_are_drawn_are_the_histograms() -> None:
    one = result()
    assert one.latency is not None
    tail = dict(plots.tail(one.latency))
    assert tail[2.0] == pytest.approx(one.latency.p50_us, rel=2e-3)
    assert one.latency.p99_us is not None
    assert tail[100 / (100 - 99.0)] == pytest.approx(one.latency.p99_us, rel=2e-3)
    assert sum(share for _, share in plots.shares(one.latency)) == pytest.approx(100)


def test_a_png_where_matplotlib_is_and_a_clear_word_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = files.write(report(result()), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["page", str(path), "--out", str(tmp_path / "none.png")]) == 1
    assert "pip install" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    assert main(["page", str(path), "--out", str(tmp_path / "plots.png")]) == 0
    assert (tmp_path / "plots.png").read_bytes().startswith(b"\x89PNG")
