"""What a reload takes up while the agent runs, and the naming of what only a restart does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.config import Config
from edge_agent.inference.installed.live import LIVE, LiveModels
from edge_agent.runner import StreamRunner

LOOKED_INTO = ("stream", "health_s")
NEEDS_RESTART = tuple(name for name in Config.model_fields if name not in LOOKED_INTO)
"""Tables that only a restart takes up: all others, but for what is `LIVE` of the models'."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    settings: Config
    """What holds from now on."""
    changed: list[str]
    needs_restart: list[str]


def take_up(fresh: Config, settings: Config, runners: Sequence[StreamRunner], models: LiveModels) -> Reloaded:
    """Limits, models and how often health is said; sources, outputs and what streams there are stay as they began."""
    running = {runner.config.name: runner for runner in runners}
    changed, needs_restart = [], []
    for stream in fresh.stream:
        runner = running.get(stream.name)
        if runner is None:
            needs_restart.append(f"stream {stream.name} (new)")
            continue
        runner.configured = stream.alarms
        if stream.alarms != runner.config.alarms:
            runner.set_limits(stream.alarms)
            changed.append(f"{stream.name}.alarms")
        if stream.model_copy(update={"alarms": runner.config.alarms}) != runner.config:
            needs_restart.append(f"stream {stream.name}")
    needs_restart += [f"stream {name} (gone)" for name in running.keys() - {stream.name for stream in fresh.stream}]
    needs_restart += [name for name in NEEDS_RESTART if _apart(name, fresh, settings)]
    other_models = models.reload(fresh.inference)
    models.engines.measure_again()
    if other_models:
        changed += other_models
        for runner in runners:
            runner.models_changed()
    if fresh.health_s != settings.health_s:
        changed.append("health_s")
    holds = {"health_s": fresh.health_s, "stream": [runner.config for runner in runners]}
    return Reloaded(settings.model_copy(update=holds), changed, needs_restart)


def _apart(name: str, fresh: Config, settings: Config) -> bool:
    """Whether a table differs in what only a restart takes up."""
    one, other = getattr(fresh, name), getattr(settings, name)
    if name == "inference":
        one = one.model_copy(update={key: getattr(other, key) for key in LIVE})
    return bool(one != other)
