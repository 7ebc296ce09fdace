"""What edge-bench is given or finds and cannot use: one line each, nothing torn, and the rest measured."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.bench import files, page, svg
from edge_agent.bench.cli import main
from edge_agent.bench.files import ReportError, read
from edge_agent.bench.plots import Lines
from edge_agent.inference.loaded import shipped_models
from tests.bench.made import OLD, report, result

QUICK = ("--seconds", "0.02", "--calls", "5", "--warmup-seconds", "0.01", "--warmup-calls", "1", "--quiet")


def ask(*arguments: str) -> int:
    """Exit status."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


def models(folder: Path, *names: str) -> Path:
    for name in names:
        shutil.copytree(shipped_models() / name, folder / name)
    return folder


def test_one_broken_model_is_said_to_be_and_the_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = models(tmp_path / "models", "ecg-af-rr", "ecg-beat-aami")
    (where / "ecg-af-rr" / "model.tflite").write_bytes(b"nothing of the kind")
    assert ask("--models-dir", str(where), "--out", str(tmp_path / "r"), "--device-name", "d", *QUICK) == 1
    said = capsys.readouterr()
    assert "ecg-af-rr" in said.err
    assert "not measured: 1" in said.err
    assert [path.name.split("-d-")[1][:13] for path in (tmp_path / "r").iterdir()] == ["ecg-beat-aami"]


def test_a_data_set_that_does_not_fit_one_model_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = models(tmp_path / "models", "ecg-af-rr", "ecg-beat-aami")
    (tmp_path / "data" / "ecg-af-rr").mkdir(parents=True)
    (tmp_path / "data" / "ecg-af-rr" / "test.npz").write_bytes(b"PK nothing")
    asked = ("--models-dir", str(where), "--data", str(tmp_path / "data"), "--scenario", "accuracy")
    assert ask(*asked, "--out", str(tmp_path / "r"), "--device-name", "d", *QUICK) == 1
    assert "not a readable .npz" in capsys.readouterr().err
    assert len(list((tmp_path / "r").iterdir())) == 1


def test_what_is_not_there_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--data", str(tmp_path / "nope"), "--out", str(tmp_path / "r")) == 1
    assert "no such folder of data sets" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert ask("--out", str(tmp_path / "file"), *QUICK) == 1
    assert "another folder: --out DIR" in capsys.readouterr().err
    assert not list(tmp_path.glob("r/*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seconds", "inf"),
        ("--seconds", "nan"),
        ("--seconds", "-1"),
        ("--calls", "0"),
        ("--calls", "1e3"),
        ("--streams", "0"),
        ("--scenario", "none"),
        ("--quantizedOnly", "perhaps"),
        ("--device-name", "a/b"),
        ("compare", "a.json", "--fail-if", "p99:20%"),
        ("compare", "a.json", "--fail-if", f"p99:+{'9' * 400}%"),
        ("compare", "a.json", "--html", "x.png"),
        ("page", "a.json", "--out", "x.pdf"),
        ("page", "a.json", "--out", "x"),
        ("collect", "--png", "x.html"),
    ],
)
def test_arguments_that_mean_nothing_are_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert arguments[-1][:40] in said or "none" in said
    assert "inf" not in arguments or "at most 1000000" in said


def written(folder: Path, change: Any = None) -> Path:
    data = json.loads(json.dumps(report(result()).model_dump(mode="json", by_alias=True)))
    if change is not None:
        change(data["results"][0])
    path = folder / "one.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def latency(**figures: object) -> Any:
    return lambda one: one["latency"].update(figures)


def faster(figure: str, by: float) -> Any:
    return lambda one: one["latency"].update({figure: one["latency"][figure] * by})


IMPOSSIBLE = {
    "negative": (latency(min_us=-1.0), "-1 us"),
    "p50 above p99": (latency(p50_us=9e5), "percentiles that fall: 900000 us"),
    "p99 above the most": (latency(max_us=1.0), "percentiles that fall"),
    "nan": (latency(p50_us=math.nan), "it is not JSON"),
    "infinite": (latency(p99_us=math.inf), "it is not JSON"),
    "too large for a float": (latency(max_us=10**400), "latency.max_us: a number of hundreds of digits is no figure"),
    "absurd": (latency(max_us=1e300), "results.0.latency.max_us: 1e+300 is no figure"),
    "nothing counted": (latency(count=0), "0 calls"),
    "not what the histogram holds": (latency(count=7), "7 calls, 4000 in the histogram"),
    "a p50 that the histogram does not hold": (faster("p50_us", 0.95), "latency: p50 is "),
    "a p99 that it does not hold": (faster("p99_us", 0.98), "latency: p99 is "),
    "a p99.9 that it does not hold": (faster("p99_9_us", 1.02), "latency: p99.9 is "),
    "a longest call that it does not hold": (faster("max_us", 2.0), "latency: max is "),
    "a mean that it does not have": (faster("mean_us", 0.97), "latency: mean is "),
    "a mean beyond all": (latency(mean_us=1e6), "a mean of 1e+06 us"),
    "segments": (lambda one: one["segments"][0].update(p50_us=-5.0), "segments: -5 us"),
    "more late than there were": (lambda one: one["deadline"].update(misses=5000), "5000 of 4000 calls late"),
    "spread": (lambda one: one["spread"].update(p50_us=-1.0), "a spread below 0"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_figures_that_nobody_measured_are_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = IMPOSSIBLE[name]
    path = written(tmp_path, change)
    for command in ("compare", "page"):
        out = ("--out", str(tmp_path / "x.html")) if command == "page" else ()
        assert ask(command, str(path), *out) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert words in said[0]
        assert str(path) in said[0]
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("command", ["compare", "page", "publish"])
@pytest.mark.parametrize("what", ["/dev/zero", "pipe"])
def test_what_is_no_plain_file_is_neither_read_nor_waited_for(
    what: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert ask(command, what) == 1
    assert f"{what}: is no plain file" in capsys.readouterr().err


def test_a_report_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(files.MOST_BYTES + 1)
    with pytest.raises(ReportError, match="over 64 MiB"):
        read(tmp_path / "large.json")


@pytest.mark.parametrize("limit", [(), ("--fail-if", "p99:+20%")])
def test_reports_that_have_nothing_in_common_are_not_compared(
    limit: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = files.write(report(result()), tmp_path)
    other = files.write(report(result(), model="other"), tmp_path)
    page_of_both = tmp_path / "x.html"
    assert ask("compare", str(one), str(other), "--html", str(page_of_both), *limit) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == (
        "edge-bench: nothing is in more than one of the 2 reports: nothing was compared"
    )
    assert not page_of_both.exists()
    assert ask("compare", str(one), *limit) == 1


@pytest.mark.parametrize("command", [("run", "--png", *QUICK), ("collect", "--png", "x.png")])
def test_a_png_that_cannot_be_drawn_is_refused_before_anything_is_done(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    assert ask(*command) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("edge-bench: a PNG needs matplotlib")
    assert list(tmp_path.iterdir()) == []


def test_a_report_as_it_was_made_is_believed(tmp_path: Path) -> None:
    assert read(written(tmp_path)).rows[0].count == 4000


@pytest.mark.parametrize("figures", [{"count": 0}, {"max_us": 1.0}, {"max_us": -1.0}])
def test_the_earlier_schema_is_held_to_the_same(figures: dict[str, float], tmp_path: Path) -> None:
    data = copy.deepcopy(OLD)
    data["results"][0].update(figures)
    (tmp_path / "old.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ReportError, match="damaged: single: "):
        read(tmp_path / "old.json")


def test_a_report_that_does_not_fit_on_the_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The half of it is written, as on a disk that fills up."""
    whole = Path.write_text

    def half(path: Path, text: str, **more: Any) -> int:
        if len(text) < 100:
            return whole(path, text, **more)
        whole(path, text[: len(text) // 2], **more)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    asked = ("--models", "ecg-af-rr", "--out", str(tmp_path), "--device-name", "d")
    assert ask(*asked, *QUICK) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No space"):
        files.write(report(result()), tmp_path)
    with pytest.raises(OSError, match="No space"):
        page.write("x" * 1000, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("values", [(0.0, 5e-324), (1e15, 1e15 + 0.125), (-1e15, 1e15), (3.0, 3.0), (1e-320, 1e-310)])
def test_axes_take_whatever_a_report_may_hold(values: tuple[float, float]) -> None:
    line = [(float(i), value) for i, value in enumerate(values)]
    for log in (False, True):
        plot = Lines("t", "x", "y", [("a", line), ("b", [(value, 1.0) for value in values])], x_log=log, y_log=log)
        assert svg.draw(plot).count("<text") < 100


def test_of_a_day_s_reports_the_newest_is_published_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``reports/*.json`` lists summary-...-2.json before summary-....json."""
    sent: list[Any] = []

    def publish(_mqtt: Any, those: list[Any]) -> list[str]:
        sent.extend(those)
        return []

    monkeypatch.setattr("edge_agent.bench.fleet.publish", publish)
    (tmp_path / "c.toml").write_text(
        '[mqtt]\nhost = "h"\n[[stream]]\nname = "a"\n[stream.source]\ntype = "simulated"\n', encoding="utf-8"
    )
    paths = []
    for name, time in (("x-2.json", "2026-11-21T12:00:00Z"), ("x.json", "2026-11-21T11:00:00Z")):
        made = report(result())
        made = made.model_copy(update={"environment": made.environment.model_copy(update={"time": time})})
        paths.append(tmp_path / name)
        paths[-1].write_text(json.dumps(made.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    for order in (paths, paths[::-1]):
        sent.clear()
        assert ask("publish", *map(str, order), "--config", str(tmp_path / "c.toml")) == 0
        assert [one.time for one in sent] == ["2026-11-21T12:00:00Z"]
