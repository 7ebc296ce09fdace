"""The alarm rules, by subject; `registry` finds them all.

To add one: a module with its function and its `RULES`, its name in `events.AlarmKind`, a row in docs/alarms.md (CONTRIBUTING.md).
"""
