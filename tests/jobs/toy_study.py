"""A study over toy curves: real ledger, real proposals, real driver; only the training is a formula.

Drivers can be killed at any write, trials can fail and workers can die.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.jobs.admission import Admission
from marsseg.jobs.candidates import BASE, Candidates, build_candidates
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.driver import Driver
from marsseg.jobs.home import Home
from marsseg.jobs.leaderboard import leaderboard_document
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.worker import MeasureTask, TrainTask
from marsseg.search.budget import Budget
from marsseg.search.executor import Message
from marsseg.search.ledger import Ledger, LedgerWriter
from marsseg.search.space_file import load_space
from marsseg.search.state import SearchState, Trial, TrialState, replay

SMOKE = load_space(Path(__file__).parents[2] / "search_spaces" / "smoke.toml")
NAN_TRIAL, DIES_ONCE, DIES_AT_ONCE, DIES_PROMOTED = 2, 4, 6, 8


def build_settings(**changes: Any) -> StudySettings:
    fixed = {**SMOKE.fixed, "training.max_epochs": 4, "training.precision": "float32", "training.threads": 1}
    settings = StudySettings(
        name="toy",
        uid="toy",
        kind="search",
        seed=5,
        budget=Budget(12),
        engine="optuna",
        sampler="tpe",
        scheduler="asha",
        min_epochs=1,
        max_epochs=4,
        reduction_factor=2,
        workers=1,
        configs={BASE: ExperimentConfig().with_values(fixed).model_dump(mode="json")},
        fingerprint={"digest": "0"},
        space_name="smoke",
        space=SMOKE.document,
    )
    return replace(settings, **changes)


@dataclass
class Disk:
    """What outlives a driver: checkpointed scores of trials, and which workers have died or are still to die."""

    scores: dict[int, list[float]] = field(default_factory=dict)
    trained: Counter[tuple[int, int]] = field(default_factory=Counter)
    has_died: set[tuple[int, int]] = field(default_factory=set)
    dies_unheard: set[int] = field(default_factory=set)
    full_at: set[tuple[int, int]] = field(default_factory=set)
    deaths_while_timed: Counter[int] = field(default_factory=Counter)


def toy_score(number: int, config: dict[str, Any], epoch: int) -> float:
    quality = (
        config["seed"] % 1000 / 5000 + config["model"]["num_blocks"] / 20 + 0.2 * (number in (DIES_ONCE, DIES_PROMOTED))
    )
    return float(quality * (1 - 0.5**epoch) + 0.01 * (epoch % 3))


@dataclass
class ToyExecutor:
    """Runs tasks in this process as a worker does: checkpoint first, then message; known epochs are sent again."""

    disk: Disk
    mishaps: bool
    num_workers: int
    pace: random.Random | None = None
    tasks: dict[int, Iterator[Message]] = field(default_factory=dict)

    @property
    def num_free(self) -> int:
        return self.num_workers - len(self.tasks)

    def submit(self, key: Any, task: TrainTask | MeasureTask, runtime: Any = None, held: Any = ()) -> None:
        assert self.num_free > 0
        assert runtime == 1
        if isinstance(task, MeasureTask):
            self.tasks[key] = self._time(key, json.loads(task.config))
            return
        self.tasks[key] = self._train(key, json.loads(task.config), task.until)

    def poll(self, timeout_s: float) -> list[Message]:
        """Returns one message of each task, so that several trials are in flight; with a pace, of one random task."""
        assert self.tasks
        tasks = list(self.tasks.values())
        messages = [next(task) for task in (self.pace.sample(tasks, 1) if self.pace else tasks)]
        for message in messages:
            if message.kind != "epoch":
                del self.tasks[message.key]
        return messages

    def _time(self, key: tuple[str, int], config: dict[str, Any]) -> Iterator[Message]:
        if self.disk.deaths_while_timed[key[1]]:
            self.disk.deaths_while_timed[key[1]] -= 1
            yield Message(key, "died", "signal 9")
        yield Message(key, "done", config["model"]["base_filters"] / 1000)

    def _train(self, number: int, config: dict[str, Any], until: int) -> Iterator[Message]:
        scores = self.disk.scores.setdefault(number, [])
        if number in self.disk.dies_unheard:
            yield Message(number, "died", "signal 9")
        for epoch in range(1, until + 1):
            if epoch > len(scores):
                if self.mishaps and number == NAN_TRIAL:
                    yield Message(number, "failed", "NaN in the loss")
                dies = {
                    DIES_AT_ONCE: True,
                    DIES_PROMOTED: epoch == 2,
                    DIES_ONCE: (number, epoch) not in self.disk.has_died,
                }
                if self.mishaps and dies.get(number):
                    self.disk.has_died.add((number, epoch))
                    yield Message(number, "died", "signal 9")
                if (number, epoch) in self.disk.full_at:
                    self.disk.full_at.remove((number, epoch))
                    yield Message(number, "unable", "No space left on device")
                scores.append(toy_score(number, config, epoch))
                self.disk.trained[number, epoch] += 1
            yield Message(number, "epoch", {"epoch": epoch, "metrics": {"val_mean_iou": scores[epoch - 1]}})
        best = max(scores)
        body = {"completed": until == 4, "epochs": until, "scores": scores[:until], "best_val_mean_iou": best}
        body |= {"best_epoch": scores.index(best) + 1, "params": 10 * number, "duration_s": 1.5 * until}
        yield Message(number, "done", body)


class Killed(BaseException):
    """The driver is killed; only the test catches this."""


@dataclass
class KilledWriter:
    """The ledger of a driver that is killed at a write, before or after the write is committed."""

    writer: LedgerWriter
    writes_left: float = float("inf")
    survives_the_write: bool = False
    at_boundary: Callable[[], None] = lambda: None
    num_writes: int = 0

    def append(self, *args: Any, **payload: Any) -> Any:
        return self._write("append", *args, **payload)

    def append_epoch(self, *args: Any) -> Any:
        return self._write("append_epoch", *args)

    def _write(self, method: str, *args: Any, **payload: Any) -> Any:
        self.num_writes += 1
        self.at_boundary()
        if self.num_writes > self.writes_left and not self.survives_the_write:
            raise Killed
        result = getattr(self.writer, method)(*args, **payload)
        self.at_boundary()
        if self.num_writes > self.writes_left:
            raise Killed
        return result


@dataclass(frozen=True)
class Snapshot:
    """What a driver killed at this moment leaves behind."""

    ledger: bytes
    disk: Disk


@dataclass(frozen=True)
class ToyCandidates:
    """Candidates, some of which are proposed twice.

    With a memory, a state gets the proposal it got the first time: a proposal is a function of the state.
    """

    candidates: Candidates
    repeated: Mapping[int, int]
    memory: dict[str, dict[str, Any]] | None

    def propose(self, state: SearchState) -> dict[str, Any]:
        if len(state.trials) in self.repeated:
            return dict(state.trials[self.repeated[len(state.trials)]].values)
        if self.memory is None:
            return self.candidates.propose(state)
        key = repr(state.trials)
        if key not in self.memory:
            self.memory[key] = self.candidates.propose(state)
        return self.memory[key]

    def identity(self, values: Mapping[str, Any]) -> str:
        return self.candidates.identity(values)

    def config(self, values: Mapping[str, Any]) -> ExperimentConfig:
        return self.candidates.config(values)


@dataclass
class Told:
    """An observer that checks the driver: whatever it is told is already in the ledger."""

    ledger: Ledger
    epochs: Counter[tuple[int, int]] = field(default_factory=Counter)
    states: list[tuple[int, str]] = field(default_factory=list)

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        assert record in self.ledger.epochs("toy", trial.number)
        self.epochs[trial.number, record["epoch"]] += 1

    def on_change(self, state: SearchState, trial: Trial) -> None:
        assert state.trials[trial.number] == trial
        self.states.append((trial.number, trial.state.value))


@dataclass
class Study:
    """A search on disk that drivers may work on, one after another."""

    folder: Path
    settings: StudySettings = field(default_factory=build_settings)
    mishaps: bool = True
    image_shape: tuple[int, int] = (64, 128)
    disk: Disk = field(default_factory=Disk)
    repeated: Mapping[int, int] = field(default_factory=dict)
    proposals: dict[str, dict[str, Any]] | None = None
    pace: random.Random | None = None
    in_order: bool = True

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.db")
        if not self.ledger.names():
            self.ledger.create_search("toy", self.settings.to_dict())
        self.told = Told(self.ledger)

    def snapshot(self) -> Snapshot:
        """Both halves of the study, the ledger and the disk, as they are between two writes."""
        return Snapshot((self.folder / "ledger.db").read_bytes(), deepcopy(self.disk))

    def left_behind(self, folder: Path, snapshot: Snapshot) -> "Study":
        """The study as a driver killed at this snapshot left it."""
        folder.mkdir(parents=True)
        (folder / "ledger.db").write_bytes(snapshot.ledger)
        return replace(self, folder=folder, disk=deepcopy(snapshot.disk))

    def drive(
        self,
        writes: float = float("inf"),
        survives_the_write: bool = False,
        at_boundary: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Runs a driver until it ends, is stopped or killed, and returns the number of writes it made."""
        settings = StudySettings.from_dict(self.ledger.settings("toy"))
        candidates = ToyCandidates(build_candidates(settings), self.repeated, self.proposals)
        with self.ledger.drive("toy") as writer:
            killed = KilledWriter(writer, writes, survives_the_write, at_boundary)
            Driver(
                settings=settings,
                candidates=candidates,
                admission=Admission(candidates, settings.filters, DataSize(self.image_shape, 64, 16), settings.sizes),
                scheduler=settings.build_scheduler(),
                writer=killed,  # type: ignore[arg-type]  # has the same methods
                executor=ToyExecutor(  # type: ignore[arg-type]  # has the same methods
                    self.disk, self.mishaps, settings.workers, self.pace
                ),
                observers=[self.told],
                home=Home(self.folder),
                state=self.state,
                epochs={
                    trial.number: len(self.ledger.epochs("toy", trial.number))
                    for trial in self.state.in_state(TrialState.RUNNING)
                },
                in_order=self.in_order,
                should_stop=should_stop,
            ).run()
        return killed.num_writes

    @property
    def state(self) -> SearchState:
        return replay(self.ledger.events("toy"))

    def leaderboard(self) -> dict[str, Any]:
        return leaderboard_document(self.settings, self.state)
