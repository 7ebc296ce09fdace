"""Whoever cannot use a mouse, see colours or bear movement: every page by axe-core, and all that can be done by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent.review.guard import Token
from edge_agent.review.library import Library
from edge_agent.review.live import LiveFeed
from tests.review.conftest import wait_for
from tests.review.test_browser import analysed, axe, complaints, data, keys, opened, status

pytestmark = pytest.mark.timeout(180)
__all__ = ["analysed"]


@pytest.fixture
def locked(tmp_path: Path, recordings: Path, serve: Callable[..., Any]) -> Iterator[tuple[Any, str]]:
    token = Token(tmp_path / "token.json")
    secret = token.make()
    library = Library(recordings, tmp_path / "state", models=False)
    yield serve(library=library, token=token), secret
    library.close()


def focused(page: Any) -> str:
    """Its name or its words; empty where nothing has the focus."""
    return str(
        page.execute_script(
            "const e = document.activeElement; return e === document.body ? '' :"
            " e.dataset.do || e.id || e.getAttribute('aria-label') || e.textContent"
        )
    )


def outline(page: Any) -> float:
    return float(page.execute_script("return parseFloat(getComputedStyle(document.activeElement).outlineWidth)"))


def test_the_login_by_keyboard_and_for_axe(locked: tuple[Any, str], browser: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    server, secret = locked
    page = browser("360,740")
    page.get(server.url)
    wait_for(lambda: page.current_url.endswith("/login"))
    assert axe(page) == []
    keys(page, Keys.TAB)
    assert focused(page) == "token"
    assert outline(page) >= 2
    keys(page, "wrong", Keys.ENTER)
    wait_for(lambda: "not the token" in status(page))
    assert axe(page) == []  # the page that says what is wrong
    page.execute_script("document.getElementById('token').value = ''")
    keys(page, secret, Keys.ENTER)
    wait_for(lambda: data(page, "ready"), 30)


def test_empty_pages_for_axe(tmp_path: Path, serve: Callable[..., Any], browser: Callable[..., Any]) -> None:
    (tmp_path / "none").mkdir()
    library = Library(tmp_path / "none", tmp_path / "state", models=False)
    try:
        page = browser()
        page.get(serve(library=library).url)
        wait_for(lambda: "no recording in this folder" in status(page))
        assert axe(page) == []
        feed = LiveFeed(dict, "d")
        feed.start()
        page.get(serve(feed=feed).url)
        wait_for(lambda: page.find_element("id", "none").is_displayed())
        assert axe(page) == []
        feed.stop()
        assert complaints(page) == []
    finally:
        library.close()


def test_a_recording_that_cannot_be_read_for_axe(
    tmp_path: Path, serve: Callable[..., Any], browser: Callable[..., Any]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.hea").write_text("broken 1 250 1000\nbroken.dat 16 200/mV 16 0 0 0 0 II\n")
    library = Library(tmp_path / "in", tmp_path / "state", models=False)
    try:
        page = browser()
        page.get(serve(library=library).url)
        wait_for(lambda: "no such file" in status(page))
        assert page.find_element("id", "status").get_attribute("class") == "error"
        assert axe(page) == []
    finally:
        library.close()


def test_everything_can_be_reached_and_seen_by_keyboard(
    analysed: Library,
    serve: Callable[..., Any],
    browser: Callable[..., Any],
) -> None:
    from selenium.webdriver.common.keys import Keys

    page = browser()
    opened(page, serve(library=analysed).url)
    wanted = set(
        page.execute_script(
            "return [...document.querySelectorAll('button, select, input, a[href], [tabindex=\"0\"]')]"
            ".filter((e) => e.checkVisibility()).map((e) => e.dataset.do || e.id || e.getAttribute('aria-label') || e.textContent)"
        )
    )
    assert len(wanted) > 25
    page.execute_script("document.activeElement.blur()")
    walked: dict[str, float] = {}
    for _ in range(2 * len(wanted)):
        keys(page, Keys.TAB)
        name = focused(page)
        if name:
            walked[name] = outline(page)
    assert wanted <= set(walked)  # none is left out, and no trap on the way
    assert {name for name, width in walked.items() if width < 2} == set()
    page.execute_script("document.querySelector('[data-do=help]')?.focus(); document.getElementById('trace').focus()")
    keys(page, "?")
    assert page.execute_script("return document.getElementById('keys').open")
    keys(page, Keys.ESCAPE)
    assert not page.execute_script("return document.getElementById('keys').open")


def test_a_beat_and_a_segment_are_corrected_without_a_mouse(
    analysed: Library,
    serve: Callable[..., Any],
    browser: Callable[..., Any],
) -> None:
    """From the page's opening on, keys alone: a name, a class, a move, an addition, a deletion, an artefact, undo, export."""
    from selenium.webdriver.common.keys import Keys

    page = browser()
    opened(page, serve(library=analysed).url)
    for _ in range(40):
        keys(page, Keys.SHIFT + Keys.TAB + Keys.NULL)
        if focused(page) == "who":
            break
    assert focused(page) == "who"
    keys(page, "ann")
    for _ in range(40):
        keys(page, Keys.TAB)
        if focused(page) == "trace":
            break
    keys(page, "4", Keys.ARROW_RIGHT)
    wait_for(partial(data, page, "selected"))

    def saved() -> int:
        return int(data(page, "saved") or 0)

    def does(*pressed: str) -> None:
        wait_for(partial(data, page, "selected"))  # while the page reads anew what was saved, nothing is
        before = saved()
        keys(page, *pressed)
        wait_for(lambda: saved() > before, 10, lambda: f"{pressed}: {status(page)}")

    at = int(data(page, "sample"))
    does("s")
    does(".")
    wait_for(lambda: int(data(page, "sample")) == at + 1)
    does("x")
    does("u")
    keys(page, Keys.ARROW_RIGHT)
    wait_for(lambda: int(data(page, "sample") or 0) > at + 1)
    does(Keys.DELETE)
    does("r")
    for _ in range(60):
        keys(page, Keys.TAB)
        if focused(page) == "export":
            break
    keys(page, Keys.ENTER)
    wait_for(lambda: data(page, "exported"))
    acts = [one.act for one in analysed.corrections.journal("patient").operations]
    assert acts == ["label", "move", "artefact", "undo", "delete", "reviewed"]
    assert complaints(page) == []


def test_who_asked_for_no_movement_sees_one_picture_a_second(
    serve: Callable[..., Any], browser: Callable[..., Any]
) -> None:
    from edge_agent.review.host import LiveHost, simulated

    host = LiveHost(simulated(1), "d")
    host.start()
    try:
        page = browser()
        page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
        )
        opened(page, serve(feed=host.feed).url)
        page.execute_script(
            "window.strokes = 0; const was = CanvasRenderingContext2D.prototype.stroke;"
            " CanvasRenderingContext2D.prototype.stroke = function (...a) { window.strokes += 1; return was.apply(this, a); }"
        )
        wait_for(lambda: page.execute_script("return window.strokes") > 0, 10)
        before, frames = page.execute_script("return [window.strokes, edgeLive.frames]")
        page.execute_async_script("setTimeout(arguments[0], 4000)")
        after, later = page.execute_script("return [window.strokes, edgeLive.frames]")
        rows = page.execute_script("return document.querySelectorAll('.names > div').length")
        assert later - frames > 10  # the browser does draw
        assert rows * 2 <= after - before <= rows * 6
    finally:
        host.stop()
