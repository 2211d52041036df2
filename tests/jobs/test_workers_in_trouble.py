"""Searches over toy curves whose workers run out of disk space, or die while they time a step."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from marsseg.errors import TrainingError
from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.settings import Filters
from marsseg.search.state import SearchState, TrialState
from tests.jobs.kill_walk import check_nothing_lost_or_doubled, record
from tests.jobs.toy_study import Disk, Killed, Study, build_settings

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

LIMIT_MS = 9.0


def driven(folder: Path, **changes: Any) -> Study:
    folder.mkdir()
    study = Study(folder, **changes)
    study.drive()
    return study


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_a_search_that_goes_on_where_there_is_room_again(tmp_path: Path, workers: int) -> None:
    settings = build_settings(workers=workers)
    undisturbed = driven(tmp_path / "undisturbed", settings=settings, mishaps=False)
    study = Study(tmp_path, settings, mishaps=False, disk=Disk(full_at={(3, 1), (4, 2)}))
    for number in (3, 4):
        with pytest.raises(TrainingError, match="No space left on device"):
            study.drive()
        assert study.state.trials[number].state is TrialState.RUNNING
    study.drive()
    assert record(study) == record(undisturbed)
    check_nothing_lost_or_doubled(study)


def test_a_worker_that_dies_once_while_it_times_a_step_changes_nothing(tmp_path: Path) -> None:
    settings = build_settings(filters=Filters(max_step_ms=LIMIT_MS))
    undisturbed = driven(tmp_path / "undisturbed", settings=settings)
    disturbed = driven(tmp_path / "disturbed", settings=settings, disk=Disk(deaths_while_timed=Counter(range(40))))
    assert record(disturbed) == record(undisturbed)


def test_a_step_over_which_two_workers_die_is_too_slow_for_any_limit(tmp_path: Path) -> None:
    settings = build_settings(filters=Filters(max_step_ms=1000.0))
    study = driven(tmp_path / "study", settings=settings, disk=Disk(deaths_while_timed=Counter({1: 2})))
    assert study.state.trials[1].state is TrialState.REJECTED
    assert study.state.trials[1].reason == "its step could not be timed: signal 9"
    check_nothing_lost_or_doubled(study)


def test_what_was_rejected_for_its_step_is_known_again_after_a_kill(tmp_path: Path) -> None:
    settings = build_settings(sampler="random", seed=4)
    first = build_candidates(settings).propose(SearchState())
    settings = build_settings(sampler="random", seed=4, filters=Filters(max_step_ms=first["model.base_filters"] - 1))
    undisturbed = driven(tmp_path / "undisturbed", settings=settings, repeated={5: 0, 9: 0})
    trials = undisturbed.state.trials
    assert "ms a step" in trials[0].reason
    assert trials[5].reason == trials[9].reason == "the same as trial 0"
    study = Study(tmp_path, settings, repeated={5: 0, 9: 0})
    with suppress(Killed):
        study.drive(writes=4)
    assert study.state.trials[0].state is TrialState.REJECTED
    study.drive()
    assert record(study) == record(undisturbed)
