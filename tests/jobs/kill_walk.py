"""The kill walk: a driver dies at every write of a search, before it and after it, and the next one goes on.

The search runs once, undisturbed; what it would leave behind at each write is kept, and gone on with from there.
"""

from pathlib import Path
from typing import Any

from marsseg.jobs.settings import Filters, StudySettings
from marsseg.search.budget import Budget
from marsseg.search.state import TrialState
from tests.jobs.toy_study import Snapshot, Study, build_settings

ENGINES = {"optuna": "tpe", "keras-tuner": "bayesian"}
# Beyond the ten configurations with which samplers begin, and the three that fail and are never observed.
BUDGET = 16
# Which proposal comes again as which: one that still waits where a scheduler asks for some ahead, and one long trained.
REPEATED = {5: 4, 12: 0}


def search_of(engine: str, scheduler: str, **changes: Any) -> StudySettings:
    """A search to walk through, whoever proposes and whoever gives epochs."""
    sampler = changes.pop("sampler", ENGINES[engine])
    return build_settings(engine=engine, sampler=sampler, scheduler=scheduler, budget=Budget(BUDGET), **changes)


def search_that_measures() -> StudySettings:
    """A search of which every other configuration is too slow, which is known only once its step has been timed."""
    return search_of("optuna", "asha", sampler="random", filters=Filters(max_step_ms=5.0))


def walk(folder: Path, settings: StudySettings, stride: int, remember_proposals: bool) -> int:
    """Kills a search at its write boundaries and goes on from each.

    Args:
        folder: An empty one.
        settings: What the search is.
        stride: 1 for every boundary, n for every n-th.
        remember_proposals: Whether a proposal that a driver made once may be taken over by the next ones.

    Returns:
        How many boundaries there were.
    """
    memory: dict[str, dict[str, Any]] | None = {} if remember_proposals else None
    undisturbed = Study(folder / "undisturbed", settings, repeated=REPEATED, proposals=memory)
    snapshots: list[Snapshot] = []
    writes = undisturbed.drive(at_boundary=lambda: snapshots.append(undisturbed.snapshot()))
    assert len(snapshots) == 2 * writes
    expected = record(undisturbed)
    assert {"rejected", "failed"} <= {kind for kind, _, _ in expected[1]}
    check_nothing_lost_or_doubled(undisturbed)
    boundaries = [now for before, now in zip([None, *snapshots], snapshots, strict=False) if now != before]
    for index in range(0, len(boundaries), stride):
        study = undisturbed.left_behind(folder / str(index), boundaries[index])
        study.drive()
        assert record(study) == expected, f"killed at boundary {index} of {len(boundaries)}"
        check_nothing_lost_or_doubled(study)
    return len(boundaries)


def record(study: Study) -> list[Any]:
    """All that a ledger holds of a search, apart from times."""
    events = [
        (event.kind, event.trial, {name: value for name, value in event.payload.items() if name != "active_s"})
        for event in study.ledger.events("toy")
    ]
    epochs = [study.ledger.epochs("toy", trial.number) for trial in study.state.trials]
    return [study.ledger.settings("toy"), events, epochs]


def check_nothing_lost_or_doubled(study: Study) -> None:
    """A search that is over has all its epochs in the ledger, and has trained each once."""
    state = study.state
    assert state.closed
    assert state.num_started == study.settings.budget.trials
    assert not state.in_state(TrialState.RUNNING, TrialState.PROPOSED, TrialState.PAUSED)
    for trial in state.trials:
        epochs = [record["epoch"] for record in study.ledger.epochs("toy", trial.number)]
        assert epochs == list(range(1, trial.epochs + 1))
    assert set(study.disk.trained.values()) == {1}
    assert sum(study.disk.trained.values()) == state.epochs_spent
