"""Plots as SVG, written by hand: a page with them needs no script, no library and no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from edge_agent.bench.plots import Lines, Plot, Points, Stacks

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 44
COLOURS = ("#3b6fb6", "#d1495b", "#2a9d8f", "#e09f3e", "#7b5ea7", "#5c6b73", "#9aa51b", "#b5651d", "#0096c7", "#c77dff")
BAR, GAP = 26, 12
NAME_WIDTH = 240


def draw(plot: Plot) -> str:
    return _lines(plot) if isinstance(plot, Lines) else _stacks(plot)


def number(value: float) -> str:
    """Short, for an axis."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:.3g}"


class Axis:
    """From values to places."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        if log:
            low = max(low, 1e-9)
            high = max(high, low * 1.01)
        elif not high - low > 1e-9 * max(abs(low), abs(high), 1e-3):  # all the same, but for rounding
            high = low + max(1.0, abs(low))
        self.low, self.high, self.log = low, high, log
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps: Sequence[int] = (1, 2, 5) if last - first <= 3 else (1,)
            every = [10.0**power * step for power in range(first, last + 1) for step in steps]
            return [one for one in every if self.low * 0.999 <= one <= self.high * 1.001]
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(one for one in (1, 2, 5, 10) if one * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _lines(plot: Lines) -> str:
    points = [point for _, line in plot.series for point in line]
    xs = [x for x, _ in points]
    ys = [y for _, y in points] + [value for _, value in plot.limits]
    if plot.y_log:
        ys = [y for y in ys if y > 0] or [1.0]
    x = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, plot.x_log)
    bottom = min(ys) * 0.8 if plot.y_log else min(0.0, min(ys))
    y = Axis(bottom, max(ys) * (1.3 if plot.y_log else 1.08), HEIGHT - BOTTOM, TOP, plot.y_log)
    rows = math.ceil(len(plot.series) / 2)
    total = HEIGHT + 18 * rows
    parts = [f'<svg viewBox="0 0 {WIDTH} {total}" role="img" aria-label="{escape(plot.title)}">']
    parts += _grid(x, y, plot)
    for value_name, value in plot.limits:
        at = y.place(value)
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="limit" x="{WIDTH - RIGHT}" y="{at - 4:.1f}" text-anchor="end">'
            f"{escape(value_name)} {number(value)}</text>"
        )
    for i, (name, line) in enumerate(plot.series):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(_path(line, x, y, colour))
        left, top = LEFT + (i % 2) * (WIDTH - LEFT) / 2, HEIGHT + 4 + 18 * (i // 2)
        parts.append(f'<rect x="{left:.0f}" y="{top}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{left + 18:.0f}" y="{top + 11}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])


def _path(line: Points, x: Axis, y: Axis, colour: str) -> str:
    places = [(x.place(a), y.place(b)) for a, b in line]
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3.5" fill="{colour}"/>'
    through = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    return f'<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="1.8"/>'


def _grid(x: Axis, y: Axis, plot: Lines) -> Iterator[str]:
    for value in y.ticks():
        at = y.place(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>'
    named = [one for one in plot.x_names if x.low * 0.999 <= one[0] <= x.high * 1.001]
    for value, name in named or [(value, number(value)) for value in x.ticks()]:
        at = x.place(value)
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(plot.x_label)}</text>'
    high = (TOP + HEIGHT - BOTTOM) / 2
    yield (f'<text transform="translate(14 {high:.0f}) rotate(-90)" text-anchor="middle">{escape(plot.y_label)}</text>')


def _stacks(plot: Stacks) -> str:
    names = list(dict.fromkeys(part for _, parts in plot.bars for part, _ in parts))
    most = max((sum(value for _, value in parts) for _, parts in plot.bars), default=1.0) or 1.0
    high = TOP + len(plot.bars) * (BAR + GAP)
    rows = math.ceil(len(names) / 4)
    axis = Axis(0.0, most * 1.12, NAME_WIDTH, WIDTH - RIGHT, log=False)
    parts = [f'<svg viewBox="0 0 {WIDTH} {high + 44 + 18 * rows}" role="img" aria-label="{escape(plot.title)}">']
    for value in axis.ticks():
        at = axis.place(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{high}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{high + 16}" text-anchor="middle">{number(value)} {escape(plot.unit)}</text>'
        )
    for i, (name, bar) in enumerate(plot.bars):
        top = TOP + i * (BAR + GAP)
        parts.append(f'<text x="{NAME_WIDTH - 8}" y="{top + BAR / 2 + 4:.0f}" text-anchor="end">{escape(name)}</text>')
        so_far = 0.0
        for part, value in bar:
            left, right = axis.place(so_far), axis.place(so_far + value)
            colour = COLOURS[names.index(part) % len(COLOURS)]
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{max(0.3, right - left):.1f}" height="{BAR}" fill="{colour}">'
                f"<title>{escape(part)}: {number(value)} {escape(plot.unit)}</title></rect>"
            )
            so_far += value
        parts.append(f'<text x="{axis.place(so_far) + 5:.1f}" y="{top + BAR / 2 + 4:.0f}">{number(so_far)}</text>')
    for i, part in enumerate(names):
        left, top = 10 + (i % 4) * WIDTH / 4, high + 28 + 18 * (i // 4)
        parts.append(f'<rect x="{left:.0f}" y="{top}" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>')
        parts.append(f'<text x="{left + 18:.0f}" y="{top + 11}">{escape(part)}</text>')
    return "\n".join([*parts, "</svg>"])
