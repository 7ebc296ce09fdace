"""Every alarm, once: of each module of this folder what stands in its `RULES` and `VERDICT_RULES`.

Those of `RULES` never wait for a model. Those of `VERDICT_RULES` need the beats' classes, and are asked on the verdict lane. What is
urgent is asked first (priorities after IEC 60601-1-8: high wants somebody at once, medium soon, low to be known), then what gives way
to the fewest, so that whatever is `under` it gives way in the same step; then as `events.AlarmKind` lists them.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_args

from edge_agent.alarms import rules
from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.judged import Judged
from edge_agent.alarms.rules.base import Rule
from edge_agent.events import AlarmKind, Priority

PLACES = {name: place for names in (Priority, AlarmKind) for place, name in enumerate(get_args(names))}
MODULES = [
    import_module(f"{rules.__name__}.{found.name}")
    for found in iter_modules(rules.__path__)
    if found.name != __name__.rpartition(".")[2]
]


def _of_all(table: str) -> tuple[Rule[Any], ...]:
    found = (rule for module in MODULES for rule in getattr(module, table, ()))
    return tuple(sorted(found, key=lambda rule: (PLACES[rule.priority], len(rule.under), PLACES[rule.kind])))


RULES: tuple[Rule[Evidence], ...] = _of_all("RULES")
VERDICT_RULES: tuple[Rule[Judged], ...] = _of_all("VERDICT_RULES")
