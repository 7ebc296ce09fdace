"""Searching for a better plan, by Optuna, on the validation set: resumable, pruned, and never twice into the same hole.

The study is a folder: ``study.journal`` (Optuna's journal, which a power cut leaves readable), ``study.json`` (what is searched,
checked before it is gone on with), a run's folder per point under ``trials`` (named by its plan's digest, so that an interrupted
trial goes on from its checkpoint), and ``best.json``, ``trials.csv`` and pictures, written anew after every trial.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.data.windows import Split
from edge_train.errors import DataError
from edge_train.files import write_json
from edge_train.task import Plan, Task
from edge_train.tuning import avoid
from edge_train.tuning.avoid import Avoided
from edge_train.tuning.space import Space, apply, suggest

Say = Callable[[str], None]
TRIES = 30
"""Suggestions of the sampler that are turned down before one is drawn far from all that is avoided."""
LEARNED = 0.02
"""A validation score this little above chance is nothing learned."""
PRUNERS = ("median", "hyperband", "none")
LARGEST_WEIGHTS = 90_000
"""An int8 weight is a byte, and an artifact has at most 100 kB."""


class Pruned(Exception):
    """This trial is hopeless."""


class TimeIsUp(Exception):
    """The bound was reached while a trial ran: it stays to be gone on with."""


class Failure(Exception):
    """Why a trial came to nothing; ``kind`` goes on the avoid-list."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Bound:
    """When to stop asking; either or both."""

    trials: int | None = None
    """Finished, pruned or failed ones in the study, those of earlier calls included."""
    ends: float | None = None
    """time.monotonic()"""

    def over(self, tried: int) -> bool:
        return (self.trials is not None and tried >= self.trials) or self.late()

    def late(self) -> bool:
        return self.ends is not None and time.monotonic() >= self.ends


@dataclass(slots=True)
class Study:
    """An Optuna study with its space and its avoid-list."""

    folder: Path
    study: Any
    space: Space
    base: Plan
    task: Task
    artifact: str
    seed: int

    # --- the avoid-list ------------------------------------------------------------------------------------------------

    @property
    def avoided(self) -> list[Avoided]:
        return avoid.from_json(self.study.user_attrs.get("avoid", []))

    def put_on_list(self, entry: Avoided) -> None:
        self.study.set_user_attr("avoid", [*self.study.user_attrs.get("avoid", []), entry.as_json()])

    # --- asking and telling --------------------------------------------------------------------------------------------

    def ask(self) -> Any:
        """A trial whose point is near nothing that is avoided."""
        optuna = _optuna()
        for _ in range(TRIES):
            trial = self.study.ask()
            params = suggest(trial, self.space)
            if trial.user_attrs.get("again"):
                return trial  # interrupted before: it is its own neighbour
            against = avoid.reason(self.avoided, self.space, params)
            if against is None:
                return trial
            trial.set_user_attr("why", f"turned down, near trial {against.trial} ({against.why})")
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        rng = np.random.default_rng(len(self.study.trials))
        drawn = [{part.name: part.draw(rng) for part in self.space} for _ in range(256)]
        point = avoid.farthest(self.avoided, self.space, drawn)
        if point is None:
            raise DataError(
                f"{self.folder}: all of the search space is near something that is avoided; begin a new study"
            )
        self.study.enqueue_trial(dict(point))
        trial = self.study.ask()
        suggest(trial, self.space)
        return trial

    def plan(self, trial: Any) -> Plan:
        return apply(self.base, trial.params)

    def trial_folder(self, plan: Plan) -> Path:
        text = json.dumps([asdict(plan), self.seed], sort_keys=True)
        return self.folder / "trials" / hashlib.sha256(text.encode()).hexdigest()[:12]

    def done(self, trial: Any, facts: dict[str, Any]) -> None:
        """Finished; or nothing was learned, which is a failure."""
        chance = facts.get("chance", 0.0)
        for key in ("best_epoch", "epochs", "weights", "seconds"):
            trial.set_user_attr(key, facts.get(key))
        if facts["validation"] < chance + LEARNED:
            self.failed(trial, Failure("learned nothing", f"validation {facts['validation']:.3f}, chance {chance:.3f}"))
            return
        self.study.tell(trial, facts["validation"])
        self.put_on_list(avoid.entry(trial.number, trial.params, "done", f"{facts['validation']:.4f}"))

    def pruned(self, trial: Any, epoch: int) -> None:
        optuna = _optuna()
        trial.set_user_attr("why", f"pruned after epoch {epoch}")
        self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        self.put_on_list(avoid.entry(trial.number, trial.params, "pruned", f"epoch {epoch}"))

    def failed(self, trial: Any, failure: Failure) -> None:
        optuna = _optuna()
        trial.set_user_attr("why", str(failure))
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self.put_on_list(avoid.entry(trial.number, trial.params, failure.kind, failure.detail))

    def interrupted(self, number: int, params: dict[str, Any]) -> None:
        """Not its fault: it is asked for again, first thing, and goes on from its checkpoint."""
        optuna = _optuna()
        self.study.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
        if params:
            self.study.enqueue_trial(params, user_attrs={"again": number}, skip_if_exists=False)

    def revive(self) -> int:
        """Trials that a stopped process left running."""
        optuna = _optuna()
        left = [trial for trial in self.study.trials if trial.state == optuna.trial.TrialState.RUNNING]
        for trial in left:
            self.interrupted(trial.number, dict(trial.params))
        return len(left)

    def tried(self) -> int:
        """Trials that came to an end of their own."""
        return len(self.avoided)

    def best(self) -> Any | None:
        optuna = _optuna()
        complete = [trial for trial in self.study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value, default=None)

    def write_best(self) -> Path | None:
        best = self.best()
        if best is None:
            return None
        path = self.folder / "best.json"
        plan = apply(self.base, best.params)
        about = {"task": self.task.name, "artifact": self.artifact, "trial": best.number, "validation": best.value}
        write_json(path, {"plan": asdict(plan), "tuned": about | {"params": best.params, "tried": self.tried()}})
        return path


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise DataError("tuning needs Optuna: pip install -e training") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_study(
    folder: Path,
    task: Task,
    artifact: str,
    base: Plan,
    space: Space,
    digest: str,
    pruner: str = "median",
    seed: int = 0,
) -> Study:
    """A new study, or the one that is there if it searches the same."""
    _optuna()
    about = {
        "task": task.name,
        "artifact": artifact,
        "plan": asdict(base),
        "space": [asdict(part) | {"kind": type(part).__name__} for part in space],
        "digest": digest,
        "seed": seed,
    }
    about = json.loads(json.dumps(about))
    path = folder / "study.json"
    if path.is_file():
        was = json.loads(path.read_text())
        changed = sorted(key for key in about if was.get(key) != about[key])
        if changed:
            raise DataError(
                f"{folder}: holds a study of another {', '.join(changed)}; give another --study, or remove it"
            )
    else:
        write_json(path, about)
    return Study(folder, _stored(folder, artifact, make_pruner(pruner, base.epochs)), space, base, task, artifact, seed)


def read_study(folder: Path, task: Task, artifact: str) -> Study:
    """The study that is there, by its own plan: to be looked at, not gone on with (it has no space to draw from)."""
    _optuna()
    path = folder / "study.json"
    try:
        was = json.loads(path.read_text())
        base, seed, about = Plan(**was["plan"]), int(was["seed"]), was["artifact"]
    except FileNotFoundError:
        raise DataError(f"{folder}: no study there; run: edge-train tune {artifact} --trials N") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({error!r}); give another --study, or remove it") from None
    if about != artifact:
        raise DataError(f"{folder}: holds a study of {about}, not of {artifact}; say which with --study")
    return Study(folder, _stored(folder, artifact, make_pruner("none", base.epochs)), [], base, task, artifact, seed)


def _stored(folder: Path, artifact: str, pruner: Any) -> Any:
    import warnings

    optuna = _optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Optuna still calls experimental
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
        )
        return optuna.create_study(
            study_name=artifact,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(multivariate=True, n_startup_trials=8, seed=None, constant_liar=True),
            pruner=pruner,
        )


def make_pruner(name: str, epochs: int) -> Any:
    optuna = _optuna()
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=max(1, epochs // 6))
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs, reduction_factor=3)
    if name == "none":
        return optuna.pruners.NopPruner()
    raise DataError(f"no pruner named {name!r}; there are: {', '.join(PRUNERS)}")


# --- one trial ------------------------------------------------------------------------------------------------------------


def chance(task: Task, split: Split) -> float:
    """What validation's score is for one who has learned nothing."""
    truth = split.validation.label
    if task.positive is not None:
        return float((truth == task.labels.index(task.positive)).mean())
    count = np.bincount(truth, minlength=len(task.labels))
    most = float(count.max() / max(1, count.sum()))  # who always says the most frequent class
    return 2 * most / (1 + most) / max(1, int((count > 0).sum()))


def attempt(
    task: Task, split: Split, plan: Plan, seed: int, folder: Path, report: Callable[[int, float], None]
) -> dict[str, Any]:
    """Fit one plan; what goes wrong is a `Failure` that says how."""
    from edge_train.fitting.architectures import build
    from edge_train.fitting.fit import fit
    from edge_train.runtime import quiet

    tf = quiet()
    try:
        try:
            weights = int(build(task, plan).count_params())
        except (DataError, ValueError) as error:
            raise Failure("cannot be built", str(error)[:120]) from None
        if weights > LARGEST_WEIGHTS:
            raise Failure("too big", f"{weights:,} weights, at most {LARGEST_WEIGHTS:,}")
        facts = fit(task, split, plan, seed, folder, lambda _: None, resume=True, report=report)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise Failure("out of memory", str(error).split("\n")[0][:80]) from None
    except DataError as error:
        if "no longer a number" not in str(error):  # a full disk, or data that do not fit: not the plan's fault
            raise
        raise Failure("not a number", str(error)[:120]) from None
    except tf.errors.OpError as error:
        raise Failure("TensorFlow", str(error).split("\n")[0][:120]) from None
    finally:
        tf.keras.backend.clear_session()
    return facts | {"chance": chance(task, split)}


def search(study: Study, split: Split, bound: Bound, say: Say, after: Callable[[Study], object]) -> None:
    """Trial after trial until the bound; what is interrupted stays to be gone on with."""
    revived = study.revive()
    if revived:
        say(f"{revived} trial(s) were interrupted and go on")
    while not bound.over(study.tried()):
        trial = study.ask()
        plan = study.plan(trial)
        folder = study.trial_folder(plan)
        last = [0]

        def report(epoch: int, score: float, trial: Any = trial, last: list[int] = last) -> None:
            last[0] = epoch
            trial.report(score, epoch)
            if trial.should_prune():
                raise Pruned
            if bound.late():
                raise TimeIsUp

        began = time.monotonic()
        with _kept(study, trial):
            try:
                facts = attempt(study.task, split, plan, study.seed, folder, report)
                study.done(trial, facts)
                said = f"validation {facts['validation']:.4f} (epoch {facts['best_epoch']} of {facts['epochs']})"
            except Pruned:
                study.pruned(trial, last[0])
                said = f"pruned after epoch {last[0]}"
            except Failure as failure:
                study.failed(trial, failure)
                said = f"failed: {failure}"
            except TimeIsUp:
                study.interrupted(trial.number, dict(trial.params))
                say(f"trial {trial.number}: time is up after epoch {last[0]}; the same command goes on with it")
                break
        best = study.best()
        top = "" if best is None else f"; best {best.value:.4f} (trial {best.number})"
        say(f"trial {trial.number}: {said}, {time.monotonic() - began:.0f} s{top}")
        after(study)


@contextlib.contextmanager
def _kept(study: Study, trial: Any) -> Iterator[None]:
    """Ctrl-C, or a fault of ours: the trial is not lost and not blamed."""
    try:
        yield
    except BaseException:
        study.interrupted(trial.number, dict(trial.params))
        raise


def with_epochs(plan: Plan, epochs: int | None) -> Plan:
    return plan if epochs is None else replace(plan, epochs=epochs)
