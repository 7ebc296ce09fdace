"""Runs of ventricular beats, from the verdicts: five or more in a row, faster than 100 per minute.

This rule stands apart from the others because it must wait for a model; they never do.
"""

from __future__ import annotations

from edge_agent.alarms.rules import Finding
from edge_agent.config import AlarmLimits
from edge_agent.journey import Verdict


class VentricularRun:
    """Follows one channel's verdicts on its beats."""

    def __init__(self, fs: float) -> None:
        self._fs = fs
        self._run: list[int] = []

    def verdict(self, verdict: Verdict) -> None:
        """An abstention neither makes nor breaks a run."""
        if verdict.label is None:
            return
        if verdict.label == "V":
            self._run.append(verdict.window.sample)
            self._run = self._run[-64:]
        else:
            self._run.clear()

    def gap(self) -> None:
        self._run.clear()

    def finding(self, now: int, channel: str, limits: AlarmLimits) -> Finding | None:
        """While the newest beats are such a run and the last of them is not over yet."""
        least = limits.ventricular_beats
        if len(self._run) < least or now - self._run[-1] > 2 * self._fs:
            return None
        beats = self._run[-least:]
        rate = (least - 1) * 60 * self._fs / (beats[-1] - beats[0])
        if rate <= limits.ventricular_per_min:
            return None
        evidence = {"rate_per_min": round(rate, 1), "beats": len(self._run)}
        return Finding(self._run[0], min(beats[-1], now), channel, evidence)
