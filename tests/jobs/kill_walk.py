"""The kill walk: a driver is killed before and after every write of a search, and the next driver continues.

The search runs once, undisturbed. A snapshot of its files is kept at each write; each is then resumed.
"""

from pathlib import Path
from typing import Any

from marsseg.jobs.settings import Filters, StudySettings
from marsseg.search.budget import Budget
from marsseg.search.state import TrialState
from tests.jobs.toy_study import Snapshot, Study, build_settings

ENGINES = {"optuna": "tpe", "keras-tuner": "bayesian"}
# More than the ten configurations that samplers start with plus the three that fail and are never observed.
BUDGET = 16
# Proposal 5 repeats 4, which still waits if the scheduler proposes ahead; 12 repeats 0, which was trained long before.
REPEATED = {5: 4, 12: 0}


def search_of(engine: str, scheduler: str, **changes: Any) -> StudySettings:
    """The settings of a search to walk through, with any engine and any scheduler."""
    sampler = changes.pop("sampler", ENGINES[engine])
    return build_settings(engine=engine, sampler=sampler, scheduler=scheduler, budget=Budget(BUDGET), **changes)


def search_that_measures() -> StudySettings:
    """A search in which every other configuration is too slow, which only timing its training step reveals."""
    return search_of("optuna", "asha", sampler="random", filters=Filters(max_step_ms=5.0))


def walk(folder: Path, settings: StudySettings, stride: int, remember_proposals: bool) -> int:
    """Kills a search at its write boundaries and resumes it from each.

    Args:
        folder: An empty folder.
        settings: The settings of the search.
        stride: 1 for every boundary, n for every n-th.
        remember_proposals: Whether later drivers may reuse a proposal that an earlier one made for the same state.

    Returns:
        The number of boundaries.
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
    """Everything that the ledger holds about a search, except times."""
    events = [
        (event.kind, event.trial, {name: value for name, value in event.payload.items() if name != "active_s"})
        for event in study.ledger.events("toy")
    ]
    epochs = [study.ledger.epochs("toy", trial.number) for trial in study.state.trials]
    return [study.ledger.settings("toy"), events, epochs]


def check_nothing_lost_or_doubled(study: Study) -> None:
    """Checks that a search that is over has all its epochs in the ledger and trained each exactly once."""
    state = study.state
    assert state.closed
    assert state.num_started == study.settings.budget.trials
    assert not state.in_state(TrialState.RUNNING, TrialState.PROPOSED, TrialState.PAUSED)
    for trial in state.trials:
        epochs = [record["epoch"] for record in study.ledger.epochs("toy", trial.number)]
        assert epochs == list(range(1, trial.epochs + 1))
    assert set(study.disk.trained.values()) == {1}
    assert sum(study.disk.trained.values()) == state.epochs_spent
