"""The shell commands of a Markdown page, and what the page says about them in comments that no reader sees.

Commands stand in fenced blocks named `sh` (every line is one) or `console` (those behind `$ `; the rest is what they print). Other
blocks are text. A comment before a block says what a machine needs to know; TEXT limits it to commands that contain it:

    <!-- docs-check skip REASON [/TEXT/] -->      not here, because it needs: see REASONS
    <!-- docs-check with /OLD/NEW/ -->            run with this in the place of that (a shorter time, a name that exists here)
    <!-- docs-check stop SECONDS [/TEXT/] -->     does not end by itself: Ctrl-C after so long
    <!-- docs-check status N[,N] [/TEXT/] -->     this exit status is right
    <!-- docs-check limit SECONDS [/TEXT/] -->    may take so long (LIMIT_S by default)
    <!-- docs-check needs NAME [/TEXT/] -->       a program, `shared` (the recordings) or `edge-train`; passed over where it is not there
    <!-- docs-check file NAME -->                 the block (of any language) is written there; `with` before it changes it
    <!-- docs-check run
    commands that no reader sees: what has to be there before, or what must be true after
    -->
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

REASONS = {
    "hardware": "a board, a Coral, a Raspberry Pi",
    "root": "root",
    "hours": "more than a few minutes",
    "internet": "the package index, or another server outside",
    "elsewhere": "other machines or programs of a hospital's",
    "figures": "run by `make figures`",
}
LIMIT_S = 120.0
SHELL, PROMPTED = ("sh", "bash"), ("console",)
# What begins like this in a block that is not run has escaped the check.
_LIKE_A_COMMAND = re.compile(
    r"\s*(\$ |(sudo |\.?/?\S*bin/)?"
    r"(edge-agent|edge-bench|edge-train|python3?|pip|make|apt-get|apt|openssl|git|mosquitto\w*|systemctl)\s+[-\w./'])"
)
_DIRECTIVE = re.compile(r"\s*<!--\s*docs-check\s+(\w+)(.*)", re.DOTALL)
_FENCE = re.compile(r"(\s*)(`{3,})\s*(\w*)\s*$")
_ARGUMENTS = re.compile(r"([^\s:]+)(?:\s+([/|])(.*)\2)?\s*(?::.*)?")


class PageFault(Exception):
    """The page says something to the check that the check does not understand."""


@dataclass(frozen=True)
class Directive:
    verb: str
    value: str
    only: str | None  # the commands that contain this; None: all of the block
    line: int

    def meets(self, command: str) -> bool:
        return self.only is None or self.only in command


@dataclass(frozen=True)
class Command:
    text: str
    line: int
    hidden: bool = False
    skip: str | None = None  # a reason of REASONS
    stop_s: float | None = None
    status: tuple[int, ...] = (0,)
    limit_s: float = LIMIT_S
    needs: tuple[str, ...] = ()
    shortened: bool = False
    begins_block: bool = False


def _directive(text: str, line: int) -> Directive:
    found = _DIRECTIVE.match(text)
    assert found is not None
    verb, rest = found[1], found[2].strip()
    if verb == "run":
        return Directive(verb, rest, None, line)
    if verb == "file":
        if not re.fullmatch(r"[\w./-]+", rest):
            raise PageFault(f"{line}: file wants a name, found {rest!r}")
        return Directive(verb, rest, None, line)
    if verb == "with":
        if len(rest) < 3 or rest.count(rest[0]) < 3:
            raise PageFault(f"{line}: with /OLD/NEW/, found {rest!r}")
        return Directive(verb, rest, None, line)
    parts = _ARGUMENTS.fullmatch(rest)
    if parts is None:
        raise PageFault(f"{line}: {verb} VALUE [/TEXT/][: why], found {rest!r}")
    value, only = parts[1], parts[3]
    if verb not in ("skip", "stop", "status", "limit", "needs"):
        raise PageFault(f"{line}: no such word: {verb}")
    if verb == "skip" and value not in REASONS:
        raise PageFault(f"{line}: skip {value}: one of {', '.join(REASONS)}")
    if verb == "status" and not re.fullmatch(r"\d+(,\d+)*", value):
        raise PageFault(f"{line}: status wants a number, or some, found {value!r}")
    if verb in ("stop", "limit") and not re.fullmatch(r"\d+(\.\d+)?", value):
        raise PageFault(f"{line}: {verb} wants a number, found {value!r}")
    return Directive(verb, value, only, line)


def _whole(text: str) -> bool:
    """Whether the shell would begin to carry this out, or go on reading lines."""
    if text.rstrip().endswith("\\"):
        return False
    read = subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False)
    return read.returncode == 0 and b"here-document" not in read.stderr


def _joined(lines: list[tuple[int, str]], prompted: bool) -> list[tuple[int, str]]:
    """Commands, those over several lines made whole."""
    found: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, line in lines:
        if begun is None:
            if prompted and not line.startswith("$ "):
                continue
            text = line[2:] if prompted else line
            if not text.strip() or text.lstrip().startswith("#"):
                continue
            begun = (number, text)
        else:
            begun = (begun[0], begun[1] + "\n" + line)
        if _whole(begun[1]):
            found.append(begun)
            begun = None
    if begun is not None:
        raise PageFault(f"{begun[0]}: a command without an end: {begun[1][:60]!r}")
    return found


def _replaced(text: str, directive: Directive) -> str:
    if directive.verb != "with":
        return text
    _, old, new, *_ = directive.value.split(directive.value[0])
    return text.replace(old, new)


def _applied(text: str, line: int, directives: list[Directive], first: bool) -> Command:
    skip, stop, limit, new = None, None, LIMIT_S, text
    status: tuple[int, ...] = (0,)
    needs: list[str] = []
    for directive in directives:
        new = _replaced(new, directive)
        if directive.meets(text):
            if directive.verb == "skip":
                skip = directive.value
            elif directive.verb == "stop":
                stop = float(directive.value)
            elif directive.verb == "status":
                status = tuple(int(number) for number in directive.value.split(","))
            elif directive.verb == "limit":
                limit = float(directive.value)
            elif directive.verb == "needs":
                needs.append(directive.value)
    return Command(new, line, False, skip, stop, status, limit, tuple(needs), new != text, first)


def commands(path: Path) -> list[Command]:
    """The page's commands in order, the hidden ones among them. What is said of no command is a PageFault."""
    found: list[Command] = []
    pending: list[Directive] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        line, number = lines[at], at + 1
        at += 1
        if _DIRECTIVE.match(line):
            comment = [line]
            while "-->" not in comment[-1]:
                if at == len(lines):
                    raise PageFault(f"{number}: a comment without an end")
                comment.append(lines[at])
                at += 1
            directive = _directive("\n".join(comment).rpartition("-->")[0], number)
            if directive.verb != "run":
                pending.append(directive)
                continue
            one = _applied(directive.value, number, pending, True)
            found.append(replace(one, text=f"set -e\n{one.text}", hidden=True, skip=None, shortened=False))
            pending = []
            continue
        fence = _FENCE.match(line)
        if not fence:
            if line.strip():
                if pending:
                    raise PageFault(f"{pending[0].line}: no block follows")
                if line.startswith("    ") and _LIKE_A_COMMAND.match(line) and not re.match(r"\s*[-*|]", line):
                    raise PageFault(f"{number}: commands stand in a fenced block: {line.strip()[:60]!r}")
            continue
        indent, ticks, language = fence[1], fence[2], fence[3]
        block: list[tuple[int, str]] = []
        while at < len(lines) and lines[at].strip() != ticks:
            block.append((at + 1, lines[at].removeprefix(indent)))
            at += 1
        at += 1
        files = [directive for directive in pending if directive.verb == "file"]
        if files:
            body = "\n".join(text for _, text in block)
            for directive in pending:
                body = _replaced(body, directive)
            text = f"cat > {files[0].value} <<'END_OF_FILE'\n{body}\nEND_OF_FILE"
            found.append(Command(text, files[0].line, hidden=True, begins_block=True))
        elif language in SHELL + PROMPTED:
            texts = _joined(block, language in PROMPTED)
            for directive in pending:
                old = directive.value.split(directive.value[0])[1] if directive.verb == "with" else directive.only
                if old is not None and not any(old in text for _, text in texts):
                    raise PageFault(f"{directive.line}: no command below has {old!r}")
            found += [_applied(text, row, pending, index == 0) for index, (row, text) in enumerate(texts)]
        elif language in ("", "text"):
            for row, text in block:
                if _LIKE_A_COMMAND.match(text):
                    raise PageFault(f"{row}: looks like a command, in a block that is not run: {text.strip()[:60]!r}")
        pending = []
    if pending:
        raise PageFault(f"{pending[0].line}: no block follows")
    return found
