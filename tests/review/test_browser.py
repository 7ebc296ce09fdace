"""The page in a real browser: what a person does, end to end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wfdb

from edge_agent import events
from edge_agent.annotation_files import artf
from edge_agent.config import SimulatedSource, StreamConfig
from edge_agent.review.host import LiveHost, simulated
from edge_agent.review.library import Library
from edge_agent.review.strips import StripKeeper
from tests.review.conftest import missing, wait_for

pytestmark = pytest.mark.timeout(180)
SCRIPT = """
[[episodes]]
name = "sinus"
duration_s = 12
[[episodes]]
name = "asystole"
rhythm = "asystole"
duration_s = 30
"""
SHOTS = os.environ.get("EDGE_AGENT_SCREENSHOTS")


def data(page: Any, name: str) -> str:
    return str(page.execute_script(f"return document.body.dataset.{name} || ''"))


def status(page: Any) -> str:
    return str(page.execute_script("return document.getElementById('status').textContent"))


def keys(page: Any, *pressed: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(*pressed).perform()


def name(page: Any, who: str) -> None:
    field = page.find_element("id", "who")
    field.clear()
    field.send_keys(who)
    page.execute_script("document.getElementById('trace').focus()")


def opened(page: Any, url: str) -> None:
    page.get(url)
    wait_for(lambda: data(page, "ready"), 30)


def at_a_beat(page: Any, url: str) -> int:
    """Opened by ann, the first V selected; its sample."""
    from selenium.webdriver.common.keys import Keys

    opened(page, url)
    name(page, "ann")
    keys(page, "4", Keys.ARROW_RIGHT)
    wait_for(partial(data, page, "selected"))
    return int(data(page, "sample"))


def complaints(page: Any) -> list[str]:
    return [line["message"] for line in page.get_log("browser") if line["level"] == "SEVERE"]


def shot(page: Any, file: str) -> None:
    """Kept where somebody asked for pictures: CI's artifacts, the README's."""
    if SHOTS:
        page.save_screenshot(str(Path(SHOTS) / file))


@pytest.fixture
def analysed(library: Library) -> Library:
    one = library.open("patient")
    wait_for(lambda: one.merged() and one.found.state in ("whole", "failed"), 60)
    assert one.found.state == "whole", one.found.why
    return library


def test_a_person_corrects_a_recording(
    analysed: Library, serve: Callable[..., Any], browser: Callable[[], Any]
) -> None:
    from selenium.webdriver.common.keys import Keys

    server = serve(library=analysed)
    page = browser()
    opened(page, server.url)
    assert data(page, "models") == "whole"
    keys(page, "4")  # only V
    keys(page, Keys.ARROW_RIGHT)
    first = wait_for(lambda: data(page, "selected"))
    assert data(page, "label") == "V"
    at = int(data(page, "sample"))
    keys(page, "f")  # nobody has said who he is
    wait_for(lambda: "who you are" in status(page))
    name(page, "ann")
    assert data(page, "selected") == first
    keys(page, "f")
    wait_for(lambda: data(page, "label") == "F", 10, lambda: f"{status(page)} {complaints(page)} {data(page, 'label')}")
    keys(page, Keys.ARROW_RIGHT)
    second = wait_for(lambda: data(page, "selected") != first and data(page, "selected"))
    keys(page, "s")
    wait_for(lambda: data(page, "label") == "S")
    keys(page, "u")  # not that one
    wait_for(lambda: "undo" in status(page) and data(page, "label") == "V")
    assert data(page, "selected") == second
    keys(page, "x")
    wait_for(lambda: data(page, "artefact") == "true")
    segment = data(page, "segment")
    shot(page, "review.png")

    page.refresh()
    wait_for(lambda: data(page, "ready"), 30)
    keys(page, "9", Keys.ARROW_RIGHT)  # only by a person now: what was corrected is still there
    wait_for(lambda: data(page, "selected") == first)
    assert data(page, "label") == "F"
    page.find_element("css selector", "[data-do=export]").click()
    exported = Path(wait_for(lambda: data(page, "exported")))
    read = wfdb.rdann(str(exported.with_suffix("")), "rev")
    people = [(int(a), b) for a, b, c in zip(read.sample, read.symbol, read.subtype, strict=True) if c == 1]
    assert people == [(at, "F")]
    merged, _ = analysed.open("patient").merged()
    assert read.sample.size == merged.sample.size
    (group,) = artf.read(exported.parent.parent / "segments" / "patient.artf").groups
    (mark,) = group.marks
    assert f"{mark.start_us // 4000}-{mark.end_us // 4000}" == segment
    assert complaints(page) == []


def test_two_browsers_see_each_other_and_lose_nothing(
    analysed: Library, serve: Callable[..., Any], browser: Callable[[], Any]
) -> None:
    from selenium.webdriver.common.keys import Keys

    server = serve(library=analysed)
    ann, bob = browser(), browser()
    for page, who in ((ann, "ann"), (bob, "bob")):
        opened(page, server.url)
        name(page, who)
        keys(page, "4", Keys.ARROW_RIGHT)
        wait_for(partial(data, page, "selected"))
    assert data(ann, "selected") == data(bob, "selected")
    bob.execute_script(
        "window.was = window.fetch; window.fetch = (path, more) =>"
        " /changes|beats/.test(path) ? new Promise(() => {}) : window.was(path, more)"
    )
    keys(ann, "s")
    wait_for(lambda: data(ann, "label") == "S")
    keys(bob, "f")  # he has not seen it
    wait_for(
        lambda: bob.find_element("id", "conflict").is_displayed(),
        10,
        lambda: f"{status(bob)} {complaints(bob)} {data(bob, 'label')}",
    )
    assert "ann has changed it meanwhile, to S" in bob.find_element("id", "conflict-text").text
    bob.execute_script("window.fetch = window.was")
    bob.find_element("id", "mine").click()
    wait_for(lambda: data(bob, "label") == "F")
    wait_for(lambda: data(ann, "label") == "F")  # and she is shown
    said = [one.plain() for one in analysed.corrections.journal("patient").operations]
    assert [(one["who"], one["label"]) for one in said] == [("ann", "S"), ("bob", "F")]


def test_what_the_server_did_not_take_is_sent_again(
    analysed: Library, serve: Callable[..., Any], browser: Callable[[], Any]
) -> None:
    from selenium.webdriver.common.keys import Keys

    server = serve(library=analysed)
    page = browser()
    opened(page, server.url)
    name(page, "ann")
    keys(page, "4", Keys.ARROW_RIGHT)
    wait_for(lambda: data(page, "selected"))
    page.execute_script(
        "window.was = window.fetch; window.fetch = (path, more) =>"
        " more && more.method === 'POST' ? Promise.reject(new TypeError('gone')) : window.was(path, more)"
    )
    keys(page, "f")
    wait_for(lambda: "not saved yet" in status(page))
    assert analysed.corrections.journal("patient").operations == []
    page.refresh()  # the browser, too, was ended
    wait_for(lambda: data(page, "ready"), 30)
    wait_for(lambda: len(analysed.corrections.journal("patient").operations) == 1)


def test_keys_faster_than_the_server_are_all_done_and_in_order(
    analysed: Library, serve: Callable[..., Any], browser: Callable[[], Any]
) -> None:
    """Each of them means the beat as the one before it left it: no conflict with oneself, no class turned back."""
    from selenium.webdriver.common.keys import Keys

    page = browser()
    at = at_a_beat(page, serve(library=analysed).url)
    page.execute_script(
        "const was = window.fetch; const late = () => new Promise((done) => setTimeout(done, 200));"
        "window.fetch = async (path, more) => { if (/beats|correct/.test(path)) await late(); return was(path, more); }"
    )
    keys(page, "s", ".", ".", ".", "u", Keys.DELETE)
    journal = partial(analysed.corrections.journal, "patient")
    wait_for(lambda: len(journal().operations) == 6, 20, lambda: f"{status(page)}: {journal().operations}")
    said = [one.plain() for one in journal().operations]
    assert [one["act"] for one in said] == ["label", "move", "move", "move", "undo", "delete"]
    assert [(one["label"], one["sample"] - at) for one in said[:4]] == [("S", 0), ("S", 1), ("S", 2), ("S", 3)]
    assert said[5]["sample"] == at + 2
    assert not page.find_element("id", "conflict").is_displayed()
    assert complaints(page) == []


def test_wishes_on_one_beat_without_the_server_follow_one_another(
    analysed: Library, serve: Callable[..., Any], browser: Callable[[], Any]
) -> None:

    page = browser()
    at = at_a_beat(page, serve(library=analysed).url)
    page.execute_script(
        "window.was = window.fetch; window.fetch = (path, more) =>"
        " more && more.method === 'POST' ? Promise.reject(new TypeError('gone')) : window.was(path, more)"
    )
    keys(page, "f", ".", ".")
    pending = "return JSON.parse(localStorage.getItem('edge-review-pending') || '[]').length"
    wait_for(lambda: page.execute_script(pending) == 3)
    page.execute_script("window.fetch = window.was")
    wait_for(lambda: page.execute_script(pending) == 0)
    said = [one.plain() for one in analysed.corrections.journal("patient").operations]
    assert [(one["act"], one["label"], one["sample"] - at) for one in said] == [
        ("label", "F", 0), ("move", "F", 1), ("move", "F", 2),
    ]  # fmt: skip
    assert not page.find_element("id", "conflict").is_displayed()


def test_why_and_pictures(
    analysed: Library, serve: Callable[..., Any], browser: Callable[[], Any], tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    server = serve(library=analysed)
    page = browser()
    opened(page, server.url)
    keys(page, "4", Keys.ARROW_RIGHT)
    wait_for(lambda: data(page, "selected"))
    keys(page, "e")
    wait_for(lambda: data(page, "explained"), 60)
    assert abs(int(data(page, "explained")) - int(data(page, "sample"))) < 40
    assert page.find_element("id", "why").text.startswith("V with score 0.")
    page.find_element("css selector", "[data-do=png]").click()
    file = wait_for(lambda: data(page, "downloaded"))
    assert file.split()[0].endswith(".png")
    got = wait_for(lambda: list((tmp_path / "downloads").glob("*.png")))
    assert got[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert complaints(page) == []


def axe(page: Any) -> list[str]:
    """Serious faults by axe-core, as its Python package carries it."""
    try:
        import axe_selenium_python
    except ImportError:
        missing("axe-selenium-python is not installed")
    file = Path(str(axe_selenium_python.__file__)).parent / "node_modules" / "axe-core" / "axe.min.js"
    page.execute_script(file.read_text(encoding="utf-8"))
    found = page.execute_async_script(
        "const done = arguments[0];"
        " axe.run().then(done, (error) => done({violations: [{id: String(error), impact: 'critical', nodes: []}]}))"
    )
    return [
        f"{one['id']} ({one['impact']}): {[node['target'] for node in one['nodes']][:5]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_the_checker_finds_what_is_wrong(browser: Callable[[], Any]) -> None:
    page = browser()
    page.get("data:text/html,<html><body><img src='x'><input><p style='color:%23ccc'>faint</p></body></html>")
    assert {line.split()[0] for line in axe(page)} >= {"image-alt", "label", "color-contrast"}


def test_nothing_serious_for_axe(analysed: Library, serve: Callable[..., Any], browser: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    server = serve(library=analysed)
    for size in ("1280,800", "420,800"):
        page = browser(size)
        opened(page, server.url)
        keys(page, "4", Keys.ARROW_RIGHT)
        wait_for(partial(data, page, "selected"))
        assert axe(page) == []
        keys(page, "?")
        assert axe(page) == []


@pytest.fixture
def live(serve: Callable[..., Any], tmp_path: Path) -> Iterator[tuple[Any, dict[str, float], StripKeeper]]:
    """Three healthy patients, and one whose heart stops after twelve seconds."""
    (tmp_path / "stops.toml").write_text(SCRIPT)
    ill = StreamConfig(name="bed-4", source=SimulatedSource(type="simulated", script=tmp_path / "stops.toml", seed=9))
    raised: dict[str, float] = {}

    def heard(event: events.Event) -> None:
        if isinstance(event, events.Alarm) and event.state == "raised":
            raised.setdefault(event.kind, time.time())

    strips = StripKeeper(tmp_path / "strips")
    host = LiveHost([*simulated(3), ill], "ward <b>1</b>", strips, heard)
    server = serve(feed=host.feed, strips=strips)
    host.start()
    yield server, raised, strips
    host.stop()


def test_the_live_page(live: tuple[Any, dict[str, float], StripKeeper], browser: Callable[..., Any]) -> None:
    server, raised, strips = live
    page = browser()
    opened(page, server.url)
    assert page.find_element("id", "device").text == "ward <b>1</b>"
    assert len(page.find_elements("css selector", ".stream")) == 4
    page.execute_script(
        "window.seen = {}; setInterval(() => { for (const one of document.querySelectorAll('[data-alarm]'))"
        " window.seen[one.dataset.alarm] ??= Date.now() / 1000; }, 20)"
    )
    wait_for(lambda: "asystole" in raised, 40)
    wait_for(lambda: page.execute_script("return window.seen.asystole"), 5)
    late = page.execute_script("return window.seen.asystole") - raised["asystole"]
    assert late < 2.0
    banner = page.find_element("css selector", "[data-alarm=asystole]")
    assert "HIGH" in banner.text  # not by colour alone
    shot(page, "live.png")
    assert axe(page) == []
    ink = page.execute_script(
        "const c = document.querySelector('canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i] < 60 && d[i + 1] < 60 && d[i + 3] > 200) n += 1; return n"
    )
    assert ink > 500  # a trace was drawn
    link = page.find_element("css selector", "[data-alarm=asystole] a").get_attribute("href")
    from urllib.parse import urlsplit

    file = wait_for(lambda: strips.path(urlsplit(link).path.rpartition("/")[2]), 40)
    assert b"asystole" in file.read_bytes()
    assert complaints(page) == []


def test_a_bed_without_signal_shows_no_quality_and_no_delay_of_before(
    live: tuple[Any, dict[str, float], StripKeeper], browser: Callable[..., Any]
) -> None:
    page = browser()
    opened(page, live[0].url)
    page.set_script_timeout(10)
    said = page.execute_async_script(
        "const done = arguments[0]; import('/static/stream.js').then(({ Stream }) => {"
        " const one = new Stream({ name: 'x', fs: 250, signals: [{ name: 'II', kind: 'ecg', unit: 'mV' }] });"
        " const now = { state: 'online', vitals: {}, rhythm: 'N', alarms: [], backends: { beat: 'cpu' }, overwritten: 0,"
        "   quality: { II: { good: false, reasons: ['flat'] } }, latency: { algorithm_ms: 120, queue_ms: 1, compute_ms: 2 } };"
        " const seen = [0.2, 12, null].map((age_s) => { one.state({ ...now, age_s });"
        "   return [one.facts.textContent, one.figures.rhythm.textContent, one.facts.title]; });"
        " done(seen); }, (error) => done(String(error)));"
    )
    assert said[0] == [
        "online · quality: II flat · delay 123 ms · cpu", "rhythm N", "algorithm 120 ms, queue 1 ms, compute 2 ms",
    ]  # fmt: skip
    for (facts, rhythm, title), age in zip(said[1:], ("NO SIGNAL for 12 s", "no signal yet"), strict=True):
        assert facts == f"online · {age} · quality – · delay – · cpu"
        assert (rhythm, title) == ("rhythm –", "algorithm – ms, queue – ms, compute – ms")


def test_old_news_say_so_and_the_link_mends_itself(browser: Callable[[], Any]) -> None:
    from edge_agent.review.serve import PageServer
    from edge_agent.review.web import Page

    host = LiveHost(simulated(1), "d")
    host.start()
    pages = [Page(library=None, feed=host.feed) for _ in range(2)]
    first = PageServer(pages[0].guard, "127.0.0.1", 0)
    first.start()
    try:
        page = browser()
        opened(page, first.url)
        wait_for(lambda: int(data(page, "frames") or 0) > 5)
        first.stop()
        stale = page.find_element("id", "stale")
        wait_for(lambda: stale.is_displayed(), 15)
        assert "NO CONNECTION" in stale.text
        second = PageServer(pages[1].guard, "127.0.0.1", first.port)
        second.start()
        try:
            wait_for(lambda: not stale.is_displayed(), 30)
        finally:
            second.stop()
    finally:
        for one in pages:
            one.close()
        host.stop()
