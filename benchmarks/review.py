"""What the page costs: a 24-hour recording at 360 Hz, memory, frames a second, and what a viewer of the live page adds.

    python benchmarks/review.py [--json FILE]

Needs the extra ``[review]``; frames a second are measured in a headless Chromium (selenium, chromedriver) where there is one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FS = 360
HOURS = 24
PAN_S = 8.0
LIVE_S = 20.0
TICKS = os.sysconf("SC_CLK_TCK")


def record(folder: Path) -> Path:
    """A day of two channels in format 16: a beat shape at 70 to 90 a minute with noise, the same minute again and again."""
    rng = np.random.default_rng(1)
    n = 60 * FS
    x = np.zeros((n, 2))
    shape = np.exp(-0.5 * ((np.arange(FS) - 120) / 6) ** 2) - 0.2 * np.exp(-0.5 * ((np.arange(FS) - 220) / 30) ** 2)
    at = 0
    while at + FS < n:
        x[at : at + FS] += shape[:, None] * np.array([1.2, 0.7])
        at += int(rng.uniform(240, 310))
    minute = np.rint((x + rng.normal(0, 0.02, x.shape)) * 1000).astype("<i2").tobytes()
    with (folder / "day.dat").open("wb") as file:
        for _ in range(HOURS * 60):
            file.write(minute)
    lines = [f"day 2 {FS} {HOURS * 3600 * FS}"] + [f"day.dat 16 1000(0)/mV 16 0 0 0 0 {name}" for name in ("II", "V5")]
    (folder / "day.hea").write_text("\n".join(lines) + "\n")
    return folder / "day"


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[int, str]]:
    """Process id and address of an ``edge-agent review``."""
    command = [sys.executable, "-m", "edge_agent", "review", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def get(url: str, path: str) -> bytes:
    link = http.client.HTTPConnection(url.split("/")[2], timeout=60)
    link.request("GET", path)
    answer = link.getresponse()
    body = answer.read()
    link.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {body[:200]!r}")
    return body


def memory_mb(pid: int) -> dict[str, float]:
    """Now and at most; and of now the part that is not a mapped file."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    keys = {"rss": "VmRSS", "peak": "VmHWM", "anonymous": "RssAnon"}
    return {name: round(int(said[key].split()[0]) / 1024, 1) for name, key in keys.items()}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def chromium() -> Any:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        return None
    try:
        from selenium import webdriver
    except ImportError:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1366,900",
        "--disable-gpu",
    ):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


PAN = """
const done = arguments[arguments.length - 1];
const canvas = document.getElementById("trace");
const until = performance.now() + arguments[0];
const before = edgeReview.frames;
const began = performance.now();
let frames = 0, longest = 0, last = began;
function step(now) {
  frames += 1;
  longest = Math.max(longest, now - last);
  last = now;
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: 25, bubbles: true, cancelable: true }));
  if (now < until) requestAnimationFrame(step);
  else {
    const seconds = (now - began) / 1000;
    done({ fps: frames / seconds, drawn: (edgeReview.frames - before) / seconds, longest_ms: longest });
  }
}
requestAnimationFrame(step);
"""


def drawing_ms(page: Any, name: str) -> dict[str, float]:
    """What the page's own code takes for a frame, without the browser's painting: this carries over to other screens."""
    took = sorted(page.execute_script(f"return [...{name}.recent].slice(0, {name}.frames)"))
    return {"median": round(took[len(took) // 2], 2), "p95": round(took[int(len(took) * 0.95)], 2)}


def of_a_day(folder: Path) -> dict[str, Any]:
    path = record(folder)
    made: dict[str, Any] = {}
    with serving(str(path), "--state", str(folder / "state"), "--no-models") as (pid, url):
        began = time.monotonic()
        samples = json.loads(get(url, "/api/open?record=day"))["samples"]
        get(url, "/api/tile?record=day&level=1&index=0")
        made["open_first_screen_s"] = round(time.monotonic() - began, 3)
        while json.loads(get(url, "/api/changes?record=day&after=0"))["pyramid"] < samples:
            time.sleep(0.05)
        made["open_whole_overview_s"] = round(time.monotonic() - began, 3)
        times = []
        for index in range(200):
            level = index % 6
            most = -(-samples // 4**level) // 1024
            t = time.monotonic()
            get(url, f"/api/tile?record=day&level={level}&index={index * 7919 % max(1, most)}")
            times.append((time.monotonic() - t) * 1000)
        made["tile_ms_median"] = round(statistics.median(times), 2)
        made["tile_ms_p99"] = round(sorted(times)[-2], 2)
        page = chromium()
        if page is not None:
            page.set_script_timeout(60)
            began = time.monotonic()
            page.get(url)
            while not page.execute_script("return document.body.dataset.ready"):
                time.sleep(0.02)
            made["page_ready_s"] = round(time.monotonic() - began, 3)
            made["pan_25mm_s"] = page.execute_async_script(PAN, PAN_S * 1000)
            made["pan_25mm_s_drawing_ms"] = drawing_ms(page, "edgeReview")
            for _ in range(6):
                page.execute_script("document.querySelector('[data-do=wider]').click()")
            made["pan_0.3mm_s"] = page.execute_async_script(PAN, PAN_S * 1000)
            made["pan_0.3mm_s_drawing_ms"] = drawing_ms(page, "edgeReview")
            page.quit()
        made["memory_mb"] = memory_mb(pid)
    with serving(str(path), "--state", str(folder / "state"), "--no-models") as (pid, url):
        began = time.monotonic()
        json.loads(get(url, "/api/open?record=day"))
        get(url, "/api/tile?record=day&level=6&index=0")
        made["open_again_s"] = round(time.monotonic() - began, 3)
    return made


def of_live() -> dict[str, Any]:
    """Percent of a core with none, one and four viewers that read all there is."""
    made: dict[str, Any] = {}
    with serving("--live") as (pid, url):
        time.sleep(12)
        for viewers in (0, 1, 4):
            links = []
            for _ in range(viewers):
                script = "import sys,urllib.request\nfor _ in urllib.request.urlopen(sys.argv[1]): pass"
                links.append(
                    subprocess.Popen([sys.executable, "-c", script, f"{url}api/live"], stderr=subprocess.DEVNULL)
                )
            time.sleep(2)
            before, at = cpu_s(pid), time.monotonic()
            time.sleep(LIVE_S)
            made[f"cpu_percent_{viewers}_viewers"] = round(100 * (cpu_s(pid) - before) / (time.monotonic() - at), 2)
            for one in links:
                one.kill()
                one.wait()
        page = chromium()
        if page is not None:
            page.get(url)
            time.sleep(5)
            before_drawn, at = int(page.execute_script("return edgeLive.frames")), time.monotonic()
            time.sleep(10)
            drawn = int(page.execute_script("return edgeLive.frames")) - before_drawn
            made["live_fps"] = round(drawn / (time.monotonic() - at), 1)
            made["live_drawing_ms"] = drawing_ms(page, "edgeLive")
            page.quit()
        made["memory_mb"] = memory_mb(pid)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {"day": of_a_day(Path(folder)), "live": of_live(), "load": os.getloadavg()[0]}
    text = json.dumps(made, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
