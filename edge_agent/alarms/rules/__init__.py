"""The alarm rules, by subject; `registry` lists them all.

To add one: a function in the module of its subject (or a new one), a line in the registry, its kind in `events.AlarmKind`, a row in
docs/alarms.md.
"""
