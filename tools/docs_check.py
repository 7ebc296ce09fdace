"""Runs the commands of README and docs as they stand there, each page in a copy of the checkout of its own (`make docs-check`).

What a page says of its commands in hidden comments is described in tools/pages.py. A page fails if one of its commands ends with another
exit status than it should, does not end, or if something in it looks like a command and is not run. What is passed over is counted
by its reason and listed; of our own programs it is looked up whether the subcommand and the options exist, and of what `make figures`
is said to run whether it does.

    python -m tools.docs_check                     all pages
    python -m tools.docs_check docs/mqtt.md        one
    python -m tools.docs_check --list              what would be run, and what not, and why
    python -m tools.docs_check --also internet     with what needs the package index
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tools.measures import registry
from tools.pages import REASONS, Command, PageFault, commands
from tools.place import ROOT, environment, is_there, pages, shared, shims

GRACE_S = 20.0
_LINES_SHOWN = 12


@dataclass
class Outcome:
    """What became of one page."""

    page: str
    counts: Counter[str] = field(default_factory=Counter)
    passed_over: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _copy(to: Path) -> None:
    """What git would clone, as it stands here now, and the compiled kernel."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    kernels = [str(path.relative_to(ROOT)) for path in ROOT.glob("edge_agent/signal/*.so")]
    for name in [*filter(None, listed.split("\0")), *kernels]:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a check that was started with & would hand on its deafness


def _end_all(sessions: list[int]) -> None:
    """What a page left running in the background; every command had a session of its own."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        left = [pid for pid in sessions if _alive(pid)]
        for pid in left:
            os.killpg(pid, how)
        ends = time.monotonic() + 5.0
        while any(_alive(pid) for pid in left) and time.monotonic() < ends:
            time.sleep(0.05)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _carry_out(command: Command, where: Path, scratch: Path, sessions: list[int], log: Path) -> str | None:
    """None if it went as it should, else what was wrong. `where` holds the shell's folder between two commands of a block."""
    text = f"trap 'pwd > {where}' EXIT\ncd \"$(cat {where})\"\n{command.text}\n"
    output = scratch / "output"
    limit_s = command.stop_s if command.stop_s is not None else command.limit_s
    with output.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", text],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment(scratch / "checkout", scratch / "bin", scratch / "home"),
            cwd=scratch / "checkout",
            start_new_session=True,
            preexec_fn=_interruptible,
        )
        sessions.append(process.pid)
        wrong = None
        allowed = command.status
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            if command.stop_s is None:
                wrong = f"had not ended after {limit_s:g} s"
            else:
                allowed = (*command.status, 130, -signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                wrong = wrong or f"did not end within {GRACE_S:g} s of Ctrl-C"
    said = output.read_text(encoding="utf-8", errors="replace")
    if wrong is None and process.returncode not in allowed:
        wrong = f"exit status {process.returncode}, not {' or '.join(map(str, command.status))}"
    with log.open("a", encoding="utf-8") as stream_of_log:
        stream_of_log.write(f"$ {command.text}\n{said}[{wrong or process.returncode}]\n\n")
    if wrong is None:
        return None
    last = [f"    {line[:200]}" for line in said.splitlines()[-_LINES_SHOWN:]]
    return "\n".join([wrong, *last])


def _first(command: Command) -> str:
    return command.text.removeprefix("set -e\n").splitlines()[0][:110]


def _unknown(command: Command, scratch: Path) -> str | None:
    """Of a command that is passed over: what it says that there is not."""
    words = shlex.split(command.text, comments=True)
    while words and (words[0] == "sudo" or re.fullmatch(r"\w+=\S*", words[0])):
        words = words[1:]
    if command.skip == "figures":
        measured = " ".join(measure.command for measure in registry())
        script = next((word for word in words if "benchmarks" in word), " ".join(words[:1]))
        return None if script in measured else f"make figures does not run {script}"
    program = Path(words[0]).name if words else ""
    if program not in ("edge-agent", "edge-bench", "edge-train") or not (scratch / "bin" / program).exists():
        return None
    options = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    names = [word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word)][:2]
    for many in range(len(names), -1, -1):  # the second word may be a name and no subcommand
        ended = subprocess.run(
            [scratch / "bin" / program, *names[:many], "--help"],
            cwd=scratch / "checkout",
            env=environment(scratch / "checkout", scratch / "bin", scratch / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode == 0:
            lacking = [option for option in options if option not in ended.stdout]
            return f"{program} {' '.join(names[:many])} has no {', '.join(lacking)}" if lacking else None
    return f"{program} {' '.join(names)} is no command"


def check(page: Path, also: frozenset[str], logs: Path) -> Outcome:
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else str(page)
    outcome = Outcome(name)
    began = time.monotonic()
    try:
        listed = commands(page)
    except PageFault as fault:
        outcome.failures.append(f"{name}:{fault}")
        return outcome
    wanted = []
    for command in listed:
        missing = [need for need in command.needs if not is_there(need)]
        if command.skip is not None and command.skip not in also:
            outcome.counts[command.skip] += 1
            outcome.passed_over.append(f"{name}:{command.line}: {command.skip}: {_first(command)}")
        elif missing:
            outcome.counts["not there"] += 1
            outcome.passed_over.append(f"{name}:{command.line}: no {', '.join(missing)} here: {_first(command)}")
        else:
            wanted.append(command)
    over = [command for command in listed if command not in wanted]
    if not wanted and not over:
        return outcome
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / (name.replace("/", "-") + ".log")
    log.write_text("", encoding="utf-8")
    sessions: list[int] = []
    with tempfile.TemporaryDirectory(prefix="docs-check-") as folder:
        scratch = Path(folder)
        for part in ("checkout", "home"):
            (scratch / part).mkdir()
        _copy(scratch / "checkout")
        shims(scratch / "bin")
        if recordings := shared():
            (scratch / "shared").symlink_to(recordings)
        where = scratch / "where"
        for command in over:
            if unknown := _unknown(command, scratch):
                outcome.failures.append(f"{name}:{command.line}: {_first(command)}\n    {unknown}")
        try:
            for command in wanted:
                if command.begins_block:
                    where.write_text(f"{scratch / 'checkout'}\n", encoding="utf-8")
                wrong = _carry_out(command, where, scratch, sessions, log)
                if not command.hidden:
                    outcome.counts["run"] += 1
                    outcome.counts["shortened"] += command.shortened
                    outcome.counts["stopped"] += command.stop_s is not None
                if wrong is not None:
                    outcome.failures.append(f"{name}:{command.line}: {_first(command)}\n    {wrong}")
        finally:
            _end_all(sessions)
    outcome.seconds = time.monotonic() - began
    return outcome


def _line(outcome: Outcome) -> str:
    counts = outcome.counts
    said = [f"{counts['run']} run"]
    said += [f"{counts[what]} {what}" for what in ("shortened", "stopped") if counts[what]]
    over = [f"{counts[reason]} {reason}" for reason in [*REASONS, "not there"] if counts[reason]]
    if over:
        said.append("passed over: " + ", ".join(over))
    return f"{'FAILED' if outcome.failures else 'ok':<7}{outcome.page:<34}{outcome.seconds:5.0f} s  {'; '.join(said)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="docs_check", description="Runs the commands of README and docs.")
    parser.add_argument("pages", nargs="*", type=Path, help="(all)")
    parser.add_argument(
        "--also", default="", help=f"with commands that need one of {', '.join(REASONS)} (commas between)"
    )
    parser.add_argument("--list", action="store_true", help="only say what would be run and what not")
    parser.add_argument("--logs", type=Path, default=ROOT / "reports" / "docs-check", help="what the commands said")
    arguments = parser.parse_args()
    also = frozenset(filter(None, arguments.also.split(",")))
    if unknown := also - set(REASONS):
        parser.error(f"--also {','.join(sorted(unknown))}: of {', '.join(REASONS)}")
    outcomes = []
    for page in [path.resolve() for path in arguments.pages] or pages():
        if arguments.list:
            for command in commands(page):
                if not command.hidden:
                    print(f"{page.relative_to(ROOT)}:{command.line}: {command.skip or 'run'}: {_first(command)}")
            continue
        outcomes.append(check(page, also, arguments.logs))
        print(_line(outcomes[-1]), flush=True)
        for failure in outcomes[-1].failures:
            print(f"  {failure}", flush=True)
    if arguments.list:
        return 0
    passed = [line for outcome in outcomes for line in outcome.passed_over]
    if passed:
        print(f"\n{len(passed)} passed over:")
        print("\n".join(f"  {line}" for line in passed))
    failed = sum(len(outcome.failures) for outcome in outcomes)
    ran = sum(outcome.counts["run"] for outcome in outcomes)
    print(
        f"\n{len(outcomes)} pages, {ran} commands run in {sum(outcome.seconds for outcome in outcomes):.0f} s, {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
