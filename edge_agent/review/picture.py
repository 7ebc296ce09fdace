"""A strip of signal as SVG, on paper grid true to scale: 25 mm/s, 10 mm/mV, 10 mm per 20 mmHg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edge_agent.journey import Samples
from edge_agent.sources.base import Signal

MM_PER_S = 25.0
MM_PER_UNIT = {"mV": 10.0, "mmHg": 0.5}
SCALES = "25 mm/s · 10 mm/mV · 10 mm per 20 mmHg"
LONGEST_S = 120.0
ROW_MM = 40.0
TALLEST_MM = 120.0
TOP_MM = 14.0
LEFT_MM = 2.0
POINTS_PER_MM = 8.0
"""More than any printer shows; beyond it, the least and the greatest are drawn."""
COLOURS = {"N": "#444", "S": "#0072b2", "V": "#c03000", "F": "#8a3d8f", "Q": "#000"}


@dataclass(frozen=True, slots=True)
class Note:
    """Something said of a moment."""

    sample: int
    text: str
    colour: str = "#000"
    mark: bool = False
    """A line across the strip."""


def strip(
    *, title: str, below: str, fs: float, first: int, signals: Sequence[Signal], values: Samples, notes: Sequence[Note]
) -> str:
    """``values``: channels x samples from ``first`` on. Everything that comes from outside is escaped."""
    shown = [i for i, signal in enumerate(signals) if signal.kind != "other"] or list(range(len(signals)))
    seconds = values.shape[1] / fs
    width = seconds * MM_PER_S
    rows = [_row_mm(values[i], signals[i].unit) for i in shown]
    tops = [TOP_MM + sum(rows[:n]) for n in range(len(rows))]
    floor = TOP_MM + sum(rows)
    height = floor + 8
    footer = " · ".join(part for part in (below[:250], SCALES) if part)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 2 * LEFT_MM:.2f}mm" height="{height:.2f}mm" '
        f'viewBox="{-LEFT_MM:g} 0 {width + 2 * LEFT_MM:.2f} {height:.2f}" font-family="sans-serif" font-size="3">',
        f"<title>{_text(title)}</title>",
        f'<rect x="{-LEFT_MM:g}" width="100%" height="100%" fill="#fff"/>',
        f'<text x="0" y="4" font-size="3.6">{_text(title)}</text>',
        f'<text x="0" y="{height - 2:.2f}" fill="#333">{_text(footer)}</text>',
        *_grid(width, TOP_MM, sum(rows)),
    ]
    for row, i in enumerate(shown):
        top = tops[row]
        parts.append(_line(values[i], fs, top + rows[row] / 2, rows[row], signals[i].unit))
        parts.append(
            f'<text x="1" y="{top + 4:.2f}" stroke="#fff" stroke-width=".8" paint-order="stroke">'
            f"{_text(signals[i].name)} ({_text(signals[i].unit or 'no unit')})</text>"
        )
    for note in notes:
        x = (note.sample - first) / fs * MM_PER_S
        if 0 <= x <= width:
            if note.mark:
                parts.append(
                    f'<path d="M{x:.2f} {TOP_MM - 6:.2f}V{floor:.2f}" stroke="{note.colour}" stroke-width=".3"/>'
                )
            anchor = "start" if note.mark else "middle"
            y = TOP_MM - 5 if note.mark else TOP_MM - 1
            left = x + 0.8 if note.mark else x
            parts.append(
                f'<text x="{left:.2f}" y="{y:.2f}" text-anchor="{anchor}" fill="{note.colour}">{_text(note.text)}</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def _text(text: str) -> str:
    """Escaped, and without what XML has no place for."""
    return escape("".join(char if char.isprintable() else "?" for char in text[:300]))


def _grid(width: float, top: float, height: float) -> list[str]:
    def lines(step: float) -> str:
        xs = np.arange(0, width + 1e-6, step)
        ys = np.arange(0, height + 1e-6, step)
        return "".join(f"M{x:g} {top:g}v{height:g}" for x in xs) + "".join(f"M0 {top + y:g}h{width:.2f}" for y in ys)

    return [
        f'<path d="{lines(1.0)}" stroke="#f6d5d0" stroke-width=".08" fill="none"/>',
        f'<path d="{lines(5.0)}" stroke="#e8a79c" stroke-width=".2" fill="none"/>',
    ]


def _row_mm(x: Samples, unit: str) -> float:
    """As tall as the signal wants, in whole boxes: a pressure that is cut off would look like one that is clipped. With a bound."""
    finite = x[np.isfinite(x)]
    if not finite.size or unit not in MM_PER_UNIT:
        return ROW_MM
    wanted = float(np.ptp(finite)) * MM_PER_UNIT[unit] + 6
    return float(min(TALLEST_MM, max(ROW_MM, 5 * np.ceil(wanted / 5))))


def _line(x: Samples, fs: float, middle: float, row_mm: float, unit: str) -> str:
    """The signal around its own middle; too tall for its row, it is cut off, as paper does."""
    finite = x[np.isfinite(x)]
    if not finite.size:
        return ""
    per_unit = MM_PER_UNIT.get(unit) or 20.0 / max(1e-9, float(np.ptp(finite)))
    low, high = float(finite.min()), float(finite.max())
    centre = float(np.median(finite))
    if unit != "mV" or max(high - centre, centre - low) * per_unit > row_mm / 2:
        centre = (low + high) / 2
    y = np.clip(middle - (x - centre) * per_unit, middle - row_mm / 2, middle + row_mm / 2)
    at = np.arange(x.size) / fs * MM_PER_S
    bunch = int(fs / MM_PER_S / POINTS_PER_MM * 2)
    if bunch > 2:
        whole = x.size // bunch * bunch
        pieces = y[:whole].reshape(-1, bunch)
        y = np.stack([np.fmin.reduce(pieces, 1), np.fmax.reduce(pieces, 1)], 1).reshape(-1)
        at = np.repeat(at[:whole:bunch], 2)
    drawn, pen = [], "M"
    for one, other in zip(at.tolist(), y.tolist(), strict=True):
        if other != other:
            pen = "M"
            continue
        drawn.append(f"{pen}{one:.2f} {other:.2f}")
        pen = "L"
    return f'<path d="{"".join(drawn)}" stroke="#101010" stroke-width=".25" fill="none" stroke-linejoin="round"/>'
