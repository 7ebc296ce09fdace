"""The page of a real daemon beside a real broker: from an alarm's message to its picture; the broker gone, the daemon killed."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.commands.demo import DEVICE, Inbox, broker, free_port, subscriber
from tests.review.conftest import wait_for
from tests.review.test_browser import SCRIPT, complaints, data, opened, shot

pytestmark = pytest.mark.timeout(240)
pytest.importorskip("amqtt")


def configuration(folder: Path, mqtt: int, page: int, speed: float) -> Path:
    (folder / "stops.toml").write_text(SCRIPT)
    path = folder / "agent.toml"
    path.write_text(
        f'[device]\nid = "{DEVICE}"\n[mqtt]\nhost = "127.0.0.1"\nport = {mqtt}\n'
        f'[outbox]\nenabled = true\n[review]\nenabled = true\nport = {page}\nstate = "{folder / "state"}"\n'
        '[[stream]]\nname = "bed-1"\n'
        f'[stream.source]\ntype = "simulated"\nscript = "stops.toml"\nseed = 9\nspeed = {speed}\n'
    )
    return path


def started(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "run", str(path)], stderr=subprocess.DEVNULL, text=True
    )


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def ended(process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(how)
    process.wait(15)


def alarm_over_mqtt(inbox: Inbox, kind: str, seconds: float) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        try:
            while True:
                _topic, payload, _at = inbox.messages.get_nowait()
                said = json.loads(payload) if payload.startswith(b"{") else {}
                if said.get("kind") == kind and said.get("state") == "raised":
                    return dict(said)
        except queue.Empty:
            return None

    found = wait_for(look, seconds)
    assert isinstance(found, dict)
    return found


def test_from_an_alarms_message_to_its_picture(tmp_path: Path, browser: Callable[..., Any]) -> None:
    mqtt, port = free_port(), free_port()
    inbox = Inbox()
    with ExitStack() as stack:
        stack.enter_context(broker(mqtt, tmp_path))
        stack.enter_context(subscriber(mqtt, inbox))
        agent = started(configuration(tmp_path, mqtt, port, 1.0))
        stack.callback(ended, agent)
        wait_for(lambda: listens(port), 30)
        page = browser()
        opened(page, f"http://127.0.0.1:{port}/live")
        said = alarm_over_mqtt(inbox, "asystole", 60)
        assert said["strip"].startswith("/strips/")
        link = wait_for(lambda: page.find_elements("css selector", "[data-alarm=asystole] a"), 10)[0]
        assert link.get_attribute("href") == f"http://127.0.0.1:{port}{said['strip']}"
        link.click()
        page.switch_to.window(page.window_handles[-1])
        assert "ten seconds after" in page.find_element("tag name", "body").text  # at once: it says what is awaited
        wait_for(lambda: page.find_elements("css selector", "svg"), 30)  # and shows it by itself when it is there
        texts = [one.text for one in page.find_elements("css selector", "svg text")]
        assert any("asystole (high), bed-1" in text for text in texts)
        assert any(text == "asystole" for text in texts)
        shot(page, "strip.png")
        assert complaints(page) == []


def test_the_broker_goes_and_the_daemon_is_killed(tmp_path: Path, browser: Callable[..., Any]) -> None:
    mqtt, port = free_port(), free_port()
    path = configuration(tmp_path, mqtt, port, 1.0)
    with ExitStack() as stack:
        agent = started(path)  # no broker yet
        stack.callback(lambda: ended(agent))
        wait_for(lambda: listens(port), 30)
        page = browser("360,740")
        opened(page, f"http://127.0.0.1:{port}/live")
        away = page.find_element("id", "broker")
        wait_for(lambda: "broker away" in away.text, 15)
        stale = page.find_element("id", "stale")
        assert not stale.is_displayed()  # the signal is as live as ever
        with broker(mqtt, tmp_path):
            wait_for(lambda: away.text == "", 30)
        wait_for(lambda: "broker away" in away.text, 15)
        ended(agent, signal.SIGKILL)
        wait_for(lambda: stale.is_displayed(), 15)
        assert "NO CONNECTION" in stale.text
        assert page.execute_script("return getComputedStyle(document.querySelector('canvas')).opacity") < "0.5"
        frames = int(data(page, "frames"))
        agent = started(path)
        wait_for(lambda: not stale.is_displayed() and int(data(page, "frames")) > frames + 5, 40)
        assert len(page.find_elements("css selector", ".stream")) == 1
        wait_for(lambda: page.find_element("css selector", ".vitals b").text not in ("–", ""), 30)
