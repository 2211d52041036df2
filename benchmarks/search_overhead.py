"""The overhead of a search of 1,000 trials beyond its training, and how long it takes to resume.

Everything is real except the training, which is a formula that takes no time: the driver, its ledger on disk, the
proposals and promotions of a search of the space `unet` with its defaults. The tracking store has a benchmark of its
own. A trial's overhead is the time from its start to the next trial's, with the epochs and promotions in between.

*Going on* is what `--resume` does before it can hand out the next segment: reading and replaying the ledger, deciding,
and proposing from the results of all trials; in a fresh process, without its imports.

The peer is Optuna's own study in SQLite with the same sampler over the same space, by ask and tell. It is told one
score per trial instead of every epoch, and so writes less.
"""

import itertools
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna

from benchmarks.processes import run_fresh
from benchmarks.recorded import NAME, build_settings, epoch_record, segment_facts
from benchmarks.results import Promise, Result
from marsseg.jobs.admission import Admission
from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.driver import Driver
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.worker import TrainTask
from marsseg.search.executor import Message
from marsseg.search.ledger import Ledger
from marsseg.search.optuna_proposer import suggest_values
from marsseg.search.optuna_samplers import build_sampler
from marsseg.search.schedulers import default_scheduler
from marsseg.search.state import SearchState, Trial, TrialState, replay

NUM_TRIALS = 1000
WINDOW = 100
SAMPLERS = ("random", "tpe")
STUDY_FILE = "optuna.db"
_MAX_EPOCHS = 27
_DATA = DataSize((64, 128), train_images=200, validation_images=40)


@dataclass
class FormulaExecutor:
    """One worker whose tasks are finished as soon as it is polled."""

    messages: list[Message] = field(default_factory=list)
    records: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def num_free(self) -> int:
        """One, unless a task has been handed out."""
        return 0 if self.messages else 1

    def submit(self, key: Any, task: TrainTask, runtime: Any = None, held: Any = ()) -> None:
        """Makes up the segment's epochs."""
        luck = random.Random(key)
        quality, records = luck.uniform(0.2, 0.8), self.records.setdefault(key, [])
        for epoch in range(len(records) + 1, task.until + 1):
            records.append(epoch_record(key, epoch, quality, luck))
            self.messages.append(Message(key, "epoch", records[-1]))
        self.messages.append(Message(key, "done", segment_facts(records, _MAX_EPOCHS, luck)))

    def poll(self, timeout_s: float) -> list[Message]:
        """All messages made up so far."""
        messages, self.messages = self.messages, []
        return messages


@dataclass
class Starts:
    """Observes when trials start."""

    seconds: list[float] = field(default_factory=list)

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """Nothing."""

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """Records the time of a trial's first segment."""
        if trial.state is TrialState.RUNNING and trial.epochs == 0:
            self.seconds.append(time.perf_counter())


def search_ours(home: Home, sampler: str) -> list[float]:
    """The times at which each trial started."""
    settings = replace(build_settings(NUM_TRIALS), sampler=sampler, scheduler=default_scheduler(1))
    ledger, starts = Ledger(home.ledger), Starts()
    ledger.create_search(NAME, settings.to_dict())
    with ledger.drive(NAME) as writer:
        candidates = build_candidates(settings)
        Driver(
            settings=settings,
            candidates=candidates,
            admission=Admission(candidates, settings.filters, _DATA),
            scheduler=settings.build_scheduler(),
            writer=writer,
            executor=FormulaExecutor(),  # type: ignore[arg-type]  # runs segments like one
            observers=[starts],
            home=home,
            state=SearchState(),
        ).run()
    return starts.seconds


def search_peer(study_file: Path, sampler: str) -> list[float]:
    """The times at which each trial was asked for."""
    space = build_settings(NUM_TRIALS).build_space()
    study = optuna.create_study(
        study_name=NAME,
        storage=f"sqlite:///{study_file}",
        direction="maximize",
        sampler=build_sampler(sampler, {}, seed=0),
    )
    starts = []
    for number in range(NUM_TRIALS):
        starts.append(time.perf_counter())
        trial = study.ask()
        suggest_values(trial, space)
        study.tell(trial, random.Random(number).uniform(0.2, 0.8))
    return starts


def resume_ours(home: Home) -> float:
    """Seconds until the next proposal is known."""
    start = time.perf_counter()
    ledger = Ledger(home.ledger)
    settings = StudySettings.from_dict(ledger.settings(NAME))
    state = replay(ledger.events(NAME))
    settings.build_scheduler().decide(state, NUM_TRIALS + 1)
    build_candidates(settings).propose(state)
    return time.perf_counter() - start


def resume_peer(study_file: Path) -> float:
    """Seconds until the next trial is known."""
    space = build_settings(NUM_TRIALS).build_space()
    start = time.perf_counter()
    study = optuna.load_study(
        study_name=NAME, storage=f"sqlite:///{study_file}", sampler=build_sampler("tpe", {}, seed=0)
    )
    suggest_values(study.ask(), space)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for sampler in SAMPLERS:
            path = Path(folder) / sampler
            ours, peer = _windows(search_ours(Home(path), sampler)), _windows(search_peer(path / STUDY_FILE, sampler))
            for case, pick, promise in (
                ("first hundred", 0, None),
                ("last hundred", -1, Promise(0.5)),
            ):
                _report(f"a trial of the {case} of {NUM_TRIALS:,}, {sampler}", "s", [ours[pick]], [peer[pick]], promise)
            _report(
                f"last hundred against first hundred, {sampler}",
                "times",
                [ours[-1] / ours[0]],
                [peer[-1] / peer[0]],
                Promise(1.2) if sampler == "random" else None,
            )
        ours, peer = [run_fresh(__file__, side, str(path)) for side in ("ours", "peer")]
        _report(f"going on with {NUM_TRIALS:,} trials, tpe", "s", [ours], [peer], Promise(5.0))


def _windows(starts: list[float]) -> list[float]:
    """Seconds per trial, hundred by hundred."""
    return [(end - begin) / WINDOW for begin, end in itertools.pairwise(starts[::WINDOW])]


def _report(case: str, unit: str, ours: list[float], peer: list[float], promise: Promise | None) -> None:
    Result(
        benchmark="search_overhead",
        case=case,
        unit=unit,
        ours=ours,
        peer=peer,
        peer_name=f"Optuna {optuna.__version__}",
        promise=promise,
    ).report()


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    match sys.argv[1:]:
        case ["ours", folder]:
            print(json.dumps(resume_ours(Home(Path(folder)))))
        case ["peer", folder]:
            print(json.dumps(resume_peer(Path(folder) / STUDY_FILE)))
        case _:
            main()
