"""The engines of all models: the CPU's, and the TPUs beside it where an artifact holds a file for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from edge_agent import events
from edge_agent.inference.artifact import Artifact, open_engine
from edge_agent.inference.engine import Engine
from edge_agent.inference.loaded import LoadedModel
from edge_agent.inference.manifest import COMPILED_FILE
from edge_agent.inference.settings import InferenceConfig
from edge_agent.inference.tpu.failover import FailoverEngine
from edge_agent.inference.tpu.member import Member
from edge_agent.inference.tpu.settings import EngineName
from edge_agent.inference.tpu.supervisor import NOBODY, Supervisor

NO_FILE = f"no {COMPILED_FILE} in the artifact"


def backend_of(engine: Engine) -> str:
    """Where the next window goes; ``backend`` is where the last one went."""
    if not isinstance(engine, FailoverEngine):
        return engine.backend
    seat = engine.seat
    return engine.cpu.backend if seat is None else seat.engine.backend


class Engines:
    """``open`` gives a model its engine, ``keep`` says which models run; the rest happens by itself."""

    def __init__(self, settings: InferenceConfig, say: Callable[[], None]) -> None:
        """``say``: called from a TPU's thread when what ``message`` tells has changed."""
        self._settings = settings
        self._since = datetime.now(UTC)
        self._models: dict[str, LoadedModel] = {}
        self._supervisors: list[Supervisor] = []
        self._started = False
        self._say = say

    def open(self, artifact: Artifact) -> Engine:
        """Proven on the CPU at once; the TPU, if it is to be tried, comes in behind it later."""
        cpu = open_engine(artifact)
        return cpu if artifact.edgetpu is None or self._wanted(artifact.name) == "cpu" else FailoverEngine(cpu)

    def _wanted(self, name: str) -> EngineName:
        return self._settings.engines.get(name, self._settings.engine)

    def keep(self, models: Mapping[str, LoadedModel]) -> None:
        """These models run from now on. Those of several TPUs are dealt out in turn."""
        self._models = dict(models)
        those: list[tuple[str, Member]] = []
        for name, model in sorted(models.items()):
            artifact, engine, wanted = model.artifact, model.engine, self._wanted(name)
            if isinstance(engine, FailoverEngine) and artifact.edgetpu is not None and wanted != "cpu":
                those.append((name, Member(artifact, artifact.edgetpu, engine, wanted)))
        if those and not self._supervisors:
            tpu = self._settings.tpu
            self._supervisors = [Supervisor(tpu, device, self._say) for device in tpu.devices]
            if self._started:
                self.start()
        for i, supervisor in enumerate(self._supervisors):
            supervisor.take(dict(those[i :: len(self._supervisors)]))

    def start(self) -> None:
        self._started = True
        for supervisor in self._supervisors:
            supervisor.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        for supervisor in self._supervisors:
            supervisor.stop(timeout_s)

    def measure_again(self) -> bool:
        """False where there is nothing to choose from."""
        for supervisor in self._supervisors:
            supervisor.measure_again()
        return any(supervisor.members for supervisor in self._supervisors)

    # -- what is said --------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether a TPU is still to be tried for the first time."""
        return not all(one.tried for one in self._supervisors)

    @property
    def degraded(self) -> str | None:
        """Why the CPU does a TPU's work just now."""
        reasons = [one.status.reason for one in self._supervisors if one.status.state == "degraded"]
        return "; ".join(dict.fromkeys(reasons)) or None

    def why(self, name: str) -> str:
        """Why this model runs where it does."""
        for supervisor in self._supervisors:
            member = supervisor.members.get(name)
            if member is not None:
                chosen_away = member.tpu is not None and member.choice.engine == "cpu"
                if member.engine.seat is not None or chosen_away:
                    return member.choice.why
                return member.fault or supervisor.status.reason
        model = self._models.get(name)
        if self._wanted(name) == "cpu":
            return "as configured"
        if model is None or model.artifact.edgetpu is None:
            return f'{NO_FILE}; engine = "tpu" is configured' if self._wanted(name) == "tpu" else NO_FILE
        return "the TPU is not proven yet"

    @property
    def _nobody(self) -> str:
        asked = any(self._wanted(name) == "tpu" for name in self._models)
        return f'{NOBODY}, though engine = "tpu" is configured' if asked else NOBODY

    def message(self, device: str, session: str) -> events.EngineState:
        statuses = [one.status for one in self._supervisors]
        state = next((s for s in ("degraded", "tpu") if any(one.state == s for one in statuses)), "cpu")
        those = [one for one in statuses if one.state == state]
        last = [one.last_reason for one in self._supervisors if one.last_reason is not None]
        members = {name: one for supervisor in self._supervisors for name, one in supervisor.members.items()}
        models = {}
        for name, model in sorted(self._models.items()):
            member = members.get(name)
            models[name] = events.ModelEngine(
                backend=backend_of(model.engine),
                why=self.why(name),
                cpu_p99_us=member.cpu.p99_us if member is not None and member.cpu is not None else None,
                tpu_p99_us=member.tpu.p99_us if member is not None and member.tpu is not None else None,
            )
        return events.EngineState(
            device=device,
            session=session,
            time=datetime.now(UTC),
            state=state,  # type: ignore[arg-type]  # one of those that a Status has
            reason="; ".join(dict.fromkeys(one.reason for one in those)) or self._nobody,
            since=min((one.since for one in those), default=self._since),
            degradations=sum(one.degradations for one in self._supervisors),
            recoveries=sum(one.recoveries for one in self._supervisors),
            last_degraded="; ".join(dict.fromkeys(last)) or None,
            models=models,
        )

    def health(self) -> dict[str, int]:
        """Counted over all TPUs; nothing where none is a candidate."""
        counted: dict[str, int] = {}
        for supervisor in self._supervisors:
            for name, count in asdict(supervisor.counters).items():
                counted[name] = counted.get(name, 0) + count
        if self._supervisors:
            counted["tpu_degradations"] = sum(one.degradations for one in self._supervisors)
            counted["tpu_recoveries"] = sum(one.recoveries for one in self._supervisors)
        return counted
