"""Which board sent these bytes: every decoder tries, and what fits best is likely.

Frames tell families apart. Boards that share a frame (a HealthyPi v3, a v4 and an old ADS1292R sketch; MAX30003, MAX30001
and ADS1293; a Cyton with a Daisy and without) are told apart by whether what the fields say can be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.journey import Samples
from edge_agent.sources.boards import bitalino, registry
from edge_agent.sources.boards import protocentral_boards as boards
from edge_agent.sources.boards.base import Codec, Decoder

LEAST_FRAMES = 5
LEAST_SHARE = 0.5
"""Of the bytes, in good frames."""
LEAST_LINES = 0.2
"""Of the lines: a byte in ten wrong leaves that many of a dozen characters. No frames of bytes read as numbers line by line."""
MOST_STRANGE = 0.15
"""Of the bytes, in text."""
DAMAGED_LINES = 0.02
LEAST_OFTEN = 3
"""A word that means something is said again."""
USUAL_RATES = (50, 100, 125, 128, 200, 250, 256, 360, 400, 500, 512, 1000)
_NEAR = 0.05
_SPOILT = 0.1
"""Of the lines: cut ones lose nothing but their ends, and a few of those."""
_BOUNDS = {
    "heart_rate": (0, 350),
    "resp_rate": (0, 120),
    "spo2": (0, 100),
    "temperature_c": (0, 60),
    "rr_ms": (0, 10_000),
}
_SEPARATORS = {"\t": "tab", ",": ",", ";": ";", " ": "blank"}
_LETTERS = re.compile(r"[A-Za-z]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Likely:
    name: str
    """A board's, or 'lines of text'."""
    evidence: str
    fs: float
    """Nominal; of lines, the usual rate nearest to the measured one."""
    measured_fs: float | None
    frames_good: int
    frames_bad: int
    share: float
    """Of the bytes, in good frames or lines."""
    score: float
    """What is in the fields: 1 what should be, 0.5 cannot be said, 0 what cannot be."""
    options: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    separator: str = ","
    warnings: tuple[str, ...] = ()


def recognise(data: bytes, seconds: float) -> list[Likely]:
    """The likeliest first; those as likely as it after it; empty if nothing fits. ``seconds``: how long it took to come."""
    if lines := recognise_lines(data, seconds):
        return [lines]
    found = [likely for codec, options in _candidates(seconds) if (likely := _try(codec, options, data, seconds))]
    if not found:
        return []
    best = max((round(one.share, 2), one.score) for one in found)
    return [one for one in found if one.share > best[0] - 0.05 and one.score == _best_score(found, best[0])]


def _best_score(found: list[Likely], share: float) -> float:
    return max(one.score for one in found if one.share > share - 0.05)


def _candidates(seconds: float) -> Iterable[tuple[Codec, dict[str, Any]]]:
    for name in registry.NAMES:
        if name != "bitalino":
            yield registry.codec(name), {}
    for count in range(1, 7):  # a BITalino does not say how many it sends; 5 and 6 have one size, and 6 fit both
        if count != 5:
            options: dict[str, Any] = {"inputs": tuple(range(1, count + 1))}
            yield registry.codec("bitalino", **options), options
    del seconds


def _try(codec: Codec, options: dict[str, Any], data: bytes, seconds: float) -> Likely | None:
    board, decoder = codec.board, codec.frames()
    values: list[Samples] = []
    fits: list[bool] = []
    for at in range(0, len(data), 256):  # often enough to see the numbers change
        chunks = decoder.decode(data[at : at + 256])
        values += [chunk.values for chunk in chunks]
        if chunks:
            fits.append(_fits(decoder))
    counters = decoder.counters
    share = (len(data) - counters.bytes_skipped) / max(1, len(data))
    if counters.frames_good < LEAST_FRAMES or share < LEAST_SHARE:
        return None
    joined = np.concatenate(values, axis=1) if values else np.empty((len(board.channels), 0), np.float32)
    measured = joined.shape[1] / seconds if seconds > 0.5 else None
    fs = board.fs
    if board.name == "bitalino" and measured:
        fs = min(bitalino.RATES, key=lambda rate: abs(np.log(rate / measured)))
        spread = np.array([np.ptp(row) for row in joined])
        likeliest = codec.board.channels[int(np.argmax(_peaked(joined) * (spread > 2)))].name
        options = {**options, "fs": fs, "ecg": (likeliest,)}
    score = _score(codec, data, joined, fits)
    return Likely(
        board.name,
        _evidence(counters.frames_good, counters.frames_bad, share, measured, fs, checked=board.checked),
        fs,
        measured,
        counters.frames_good,
        counters.frames_bad,
        share,
        score,
        options,
        warnings=_warnings(codec, joined, measured, fs),
    )


def _peaked(values: Samples) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How far the extremes lie beyond the middle half: much in an ECG, little in a breath."""
    low, middle, high = np.percentile(values, (25, 50, 75), axis=1)
    return np.asarray(np.abs(values - middle[:, None]).max(axis=1) / np.maximum(high - low, 1.0))


def _evidence(good: int, bad: int, share: float, measured: float | None, fs: float, *, checked: bool) -> str:
    check = "with a right checksum" if checked else "(they carry no checksum)"
    rate = f", {measured:.1f} samples/s against {fs:g}" if measured else ""
    return f"{good} frames {check}, {bad} bad, {100 * share:.1f} % of the bytes{rate}"


def _fits(decoder: Decoder) -> bool:
    """Whether the board's own numbers can be."""
    numbers = decoder.numbers
    for name, (low, high) in _BOUNDS.items():
        if name in numbers and not low <= numbers[name] <= high:
            return False
    rate, rr_ms = numbers.get("heart_rate"), numbers.get("rr_ms")
    # one of the two without the other, or two that contradict each other
    return rate is None or rr_ms is None or (rate == rr_ms == 0) or (rr_ms > 0 and 0.4 < rate * rr_ms / 60_000 < 2.5)


def _score(codec: Codec, data: bytes, values: Samples, fits: list[bool]) -> float:
    name = codec.board.name
    if name in _TWENTY:
        return 1.0 if _twenty(data) == name else 0.0
    if name in ("cyton", "cyton-daisy"):
        turns = _in_turns(data)
        return 1.0 if (turns < 1.5 if name == "cyton" else turns > 0.9) else 0.0
    if name in ("max30003", "max30001"):
        return 1.0 if np.mean(fits) > 0.9 else 0.0
    if name == "ads1293":  # it has no numbers of its own; 24-bit channels
        return 0.5 if values.size and np.mean(np.abs(values) < 2**23) > 0.9 else 0.0
    if name == "bitalino":  # frames of 6 bytes within frames of 8 and the like do not follow each other: none is found
        return 1.0
    return 1.0 if not fits or np.mean(fits) > 0.5 else 0.5


_TWENTY = ("healthypi3", "healthypi4", "ads1292r-old")


def _twenty(data: bytes) -> str:
    """Of the boards with 20 bytes in a frame, by what stands where the firmware writes constants."""
    found: Counter[str] = Counter()
    layout = boards.V3
    at = data.find(b"\x0a\xfa" + layout.header)
    while 0 <= at <= len(data) - layout.size:
        payload = data[at + 5 : at + 25]
        if not any(payload[4:14]) and payload[17] == 0:
            found["ads1292r-old"] += 1
        elif payload[17] == 80 and payload[18] == 120:
            found["healthypi4"] += 1
        else:
            found["healthypi3"] += 1
        at = data.find(b"\x0a\xfa" + layout.header, at + layout.size)
    return found.most_common(1)[0][0] if found else ""


def _in_turns(data: bytes) -> float:
    """How much less a Cyton's frame is like the last one than like the one before that: two boards in turn are above 1."""
    decoder = registry.codec("cyton").frames()
    chunks = [*decoder.decode(data), *decoder.flush()]
    longest = max((chunk.values for chunk in chunks), key=lambda values: values.shape[1])
    if longest.shape[1] < 8:
        return 1.0
    one = float(np.abs(np.diff(longest, axis=1)).sum())
    two = float(np.abs(longest[:, 2:] - longest[:, :-2]).sum())
    return one / two if two else 1.0


def _warnings(codec: Codec, values: Samples, measured: float | None, fs: float) -> tuple[str, ...]:
    said = []
    if codec.board.name == "bitalino":
        said.append("it does not say what is plugged in: ecg names the most peaked of its inputs, a guess")
    if any(channel.kind == "ecg" and channel.unit == "NU" for channel in codec.board.channels):
        said.append("its maker does not say what a count is worth: set ecg_mv (millivolts per count)")
    for row in [row for row, channel in enumerate(codec.board.channels) if channel.kind == "ecg"]:
        channel = codec.board.channels[row]
        there = values[row][~np.isnan(values[row])]
        if not len(there):
            said.append(f"{channel.name}: the board says that its lead is off")
        elif len(there) > fs and np.ptp(there) <= 2 * abs(channel.scale):
            said.append(f"{channel.name} is flat: is its lead on? (a MAX30003 without leads sends a straight line)")
    if measured and abs(measured / fs - 1) > _NEAR:
        said.append(f"{measured:.1f} samples/s are not its {fs:g}: set fs, or look for lost bytes")
    return tuple(said)


# -- lines of text ---------------------------------------------------------------------------------------------------


def recognise_lines(data: bytes, seconds: float) -> Likely | None:
    """Numbers in lines: which separator, how many columns, which of them are signals."""
    text = data.translate(None, bytes(range(0x20, 0x7F)) + b"\t\r\n")
    if len(data) < 20 or len(text) > MOST_STRANGE * len(data):
        return None
    lines = [line.strip() for line in data.decode("ascii", "replace").split("\n")[1:-1]]
    lines = [line for line in lines if line]
    rows, separator = max(
        (_rows(lines, mark) for mark in _SEPARATORS), key=lambda found: (len(found[0]), found[1] != " ")
    )
    if len(rows) < LEAST_FRAMES or len(rows) < LEAST_LINES * len(lines):
        return None
    table = np.array(rows)
    often_said = Counter(line for line in lines if not _NUMBER.match(line) and len(line) < 8 and line.isascii())
    words = Counter({word: often for word, often in often_said.items() if often >= LEAST_OFTEN})
    prose = sum(len(_LETTERS.findall(line)) > len(line) / 2 for line in lines if line not in words)
    count = len(lines) - prose  # damaged ones were samples, too: the rate is that of the line ends
    damaged = count - len(rows) - sum(words.values())
    measured = count / seconds if seconds > 0.5 else None
    spoilt = damaged / count
    # Damage takes line ends, too, and adds hardly any: then the rate is no lower than what was counted.
    usual = [rate for rate in USUAL_RATES if measured and (spoilt < _SPOILT or rate >= (1 - _NEAR) * measured)]
    fs = float(min(usual or USUAL_RATES, key=lambda rate: abs(np.log(rate / measured)))) if measured else 250.0
    columns, warnings = _columns(table)
    if measured and not -_NEAR - (spoilt / 4 if spoilt >= _SPOILT else 0.0) <= measured / fs - 1 <= _NEAR:
        fs = float(round(measured))
        warnings.append(f"{measured:.1f} lines/s is no usual rate: a loop with a delay in it drifts")
    if damaged > DAMAGED_LINES * count:
        warnings.append(
            f"{damaged} of {count} lines are cut or damaged: look at the cable, the baud, and whether the board sends faster than its line"
        )
    if words:
        word, often = words.most_common(1)[0]
        warnings.append(f"{often} lines say {word!r}: if that means a lead is off, add lead_off = [{word!r}]")
    rate = f", {measured:.1f} lines/s" if measured else ""
    evidence = f"{len(rows)} of {len(lines)} lines are {table.shape[1]} number{'s' if table.shape[1] > 1 else ''}{rate}"
    return Likely(
        "lines of text",
        evidence,
        fs,
        measured,
        len(rows),
        len(lines) - count + damaged,
        (count - damaged) / len(lines),
        1.0,
        columns=tuple(columns),
        separator=_SEPARATORS[separator],
        warnings=tuple(warnings),
    )


def _rows(lines: list[str], separator: str) -> tuple[list[list[float]], str]:
    """The lines that are as many numbers as most are."""
    cut = [line.split(separator if separator != " " else None) for line in lines]
    numbers = [cells for cells in cut if cells and all(_NUMBER.fullmatch(cell.strip()) for cell in cells)]
    if not numbers:
        return [], separator
    usual = Counter(map(len, numbers)).most_common(1)[0][0]
    return [[float(cell) for cell in cells] for cells in numbers if len(cells) == usual], separator


def _columns(table: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[list[str], list[str]]:
    """A name for each that may be a signal; '-' for clocks, counters and constants."""
    names: list[str] = []
    warnings: list[str] = []
    signals = 0
    for column in table.T:
        steps = np.diff(column)
        if len(steps) > 2 and (steps >= 0).mean() > 0.97 and column[-1] > column[0]:
            names.append("-")
        elif not steps.any():
            names.append("-")
            warnings.append(f"column {len(names)} is always {column[0]:g}: is its lead on?")
        elif 20 < np.median(column) < 250 and 10 < np.ptp(column) < 200 and column.min() > 0 and signals:
            names.append("ABP")
        else:
            signals += 1
            names.append("ECG" if signals == 1 else f"ECG{signals}")
    if signals == 0 and "-" in names:
        names[max(range(len(names)), key=lambda at: len(set(table[:, at])))] = "ECG"
    return names, warnings
