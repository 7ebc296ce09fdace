"""A recording of our own making, the page's server, and a browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.outputs.segment import Place, Segment
from edge_agent.sources.base import Signal
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script

FS = 250.0
SECONDS = 90
SCRIPT = Script((Episode("sinus rhythm", 20), Episode("ventricular beats", SECONDS - 20, pvc_per_min=12)))


def missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and in CI nothing may be skipped")
    pytest.skip(what)


@pytest.fixture(scope="session", autouse=True)
def stack() -> None:
    try:
        import starlette
        import uvicorn
    except ImportError:
        missing("starlette or uvicorn is not installed")
    else:
        assert starlette.__version__
        assert uvicorn.__version__


def write_record(base: Path, seconds: float = SECONDS, fs: float = FS) -> Path:
    """An ECG and a pressure of the simulated patient, as the recorder writes them."""
    patient = SimulatedPatient(fs, ("II", "ABP"), SCRIPT, 3)
    signals = (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg"))
    segment = Segment(Place(base), signals, fs, 0, None)
    left = round(seconds * fs)
    while left > 0 and (block := patient.read(min(left, 5000))) is not None:
        segment.append(segment.end, block.values)
        left -= block.values.shape[1]
    segment.close()
    return base.with_suffix(".hea")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_record(folder / "patient")
    return folder


@pytest.fixture
def recordings(made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Makes headless Chromiums, each with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        missing("chromium or chromedriver is not installed")
    try:
        from selenium import webdriver
    except ImportError:
        missing("selenium is not installed")
    assert program is not None
    opened: list[Any] = []

    def start(size: str = "1280,800") -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            f"--window-size={size}",
            "--disable-gpu",
        ):
            options.add_argument(argument)
        options.add_argument(f"--user-data-dir={tmp_path / f'profile{len(opened)}'}")
        options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        opened.append(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)))
        return opened[-1]

    yield start
    for one in opened:
        one.quit()


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """A server in this process for a library or a feed."""
    from edge_agent.review.serve import PageServer
    from edge_agent.review.web import Page

    stops: list[Callable[[], Any]] = []

    def start(**arguments: Any) -> Any:
        page = Page(library=arguments.pop("library", None), feed=arguments.pop("feed", None), **arguments)
        server = PageServer(page.guard, "127.0.0.1", 0)
        server.start()
        stops.extend([server.stop, page.close])
        return server

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def library(recordings: Path, tmp_path: Path) -> Iterator[Any]:
    from edge_agent.review.library import Library

    made = Library(recordings, tmp_path / "state")
    yield made
    made.close()


def wait_for(what: Callable[[], Any], seconds: float = 20.0, instead: Callable[[], Any] = str) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not happen in time; {instead()}")
