"""Every error that this package raises on purpose, in one tree.

    EdgeAgentError            what a user can mend; carries the remedy; the command line prints it without a traceback
    ├── ConfigError           the configuration (several problems at once, each with its place)
    ├── SourceError           a recording, board or port that cannot be read
    │   ├── SourceLost        it was there and went away: worth another try
    │   └── SourceBroken      a recording that is damaged: no try will mend it
    ├── ArtifactError         a model folder or archive that must not be run
    ├── EngineError           a runtime that is missing or failed at a call
    ├── OutputError           a broker or file that cannot be written
    └── RequestError          a request over MQTT that cannot be carried out

Exit status: 2 for usage (argparse), 1 for all of these.
"""

from __future__ import annotations

from pathlib import Path


class EdgeAgentError(Exception):
    """What went wrong, where, and what to do next."""

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  {self.remedy}" if self.remedy else self.what


class ConfigError(EdgeAgentError, ValueError):
    """All that is wrong with a configuration, at once."""

    def __init__(self, where: Path | str, problems: list[str]) -> None:
        self.problems = problems
        many = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        super().__init__(f"{where}: {many}\n" + "\n".join(f"  - {problem}" for problem in problems))


class SourceError(EdgeAgentError, OSError):
    """A recording, board or port that cannot be read as configured."""

    __str__ = EdgeAgentError.__str__


class SourceLost(SourceError):
    """A source that was delivering and stopped (unplugged, closed, silent): reopened with backoff."""

    __str__ = EdgeAgentError.__str__


class SourceBroken(SourceError):
    """What a source holds is damaged or ends too early: trying again would say the same, so the stream ends as failed."""

    __str__ = EdgeAgentError.__str__


class ArtifactError(EdgeAgentError, ValueError):
    """A model that must not be run; names the file and the reason."""


class EngineError(EdgeAgentError, RuntimeError):
    """A TFLite runtime that is missing, or that failed at a call."""


class OutputError(EdgeAgentError, OSError):
    """A broker, file or folder that cannot be written."""

    __str__ = EdgeAgentError.__str__


class RequestError(EdgeAgentError, ValueError):
    """A request over MQTT that cannot be carried out; its text is the answer."""
