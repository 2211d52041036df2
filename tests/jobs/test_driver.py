"""The driver: whole searches over toy curves, killed again and again, with trials that fail and workers that die."""

import random
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marsseg.errors import LedgerError
from marsseg.jobs.home import Home
from marsseg.jobs.settings import Filters
from marsseg.search.budget import Budget
from marsseg.search.engines import SAMPLERS
from marsseg.search.ledger import Ledger
from marsseg.search.state import SearchState, TrialState, replay
from tests.jobs.kill_walk import check_nothing_lost_or_doubled
from tests.jobs.toy_study import DIES_AT_ONCE, DIES_ONCE, DIES_PROMOTED, NAN_TRIAL, Killed, Study, build_settings

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def space_of(parameter: str, options: list[Any]) -> dict[str, Any]:
    return {"parameters": {parameter: {"kind": "choice", "options": options}}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study(tmp_path_factory.mktemp("undisturbed"))
    study.drive()
    return study


def test_a_whole_search_with_mishaps(undisturbed: Study) -> None:
    check_nothing_lost_or_doubled(undisturbed)
    trials = undisturbed.state.trials
    assert {
        number: (trials[number].epochs, trials[number].reason) for number in range(12) if trials[number].reason
    } == {
        NAN_TRIAL: (0, "NaN in the loss"),
        DIES_AT_ONCE: (0, "signal 9"),
        DIES_PROMOTED: (1, "signal 9"),
    }
    # Its worker dies once in every epoch: a trial that has made progress since then is tried again.
    assert {epoch for number, epoch in undisturbed.disk.has_died if number == DIES_ONCE} == {1, 2, 3, 4}
    assert trials[DIES_ONCE].state is TrialState.COMPLETED
    winner = undisturbed.state.winner
    assert winner is not None
    assert winner.epochs == 4
    assert winner.best_val_mean_iou == max(undisturbed.disk.scores[winner.number])


def test_observers_are_told_everything_once(undisturbed: Study) -> None:
    told = undisturbed.told
    assert told.epochs == undisturbed.disk.trained
    for trial in undisturbed.state.trials:
        states = [state for number, state in told.states if number == trial.number]
        assert states[0] == "running"
        # Closing a search stops its paused trials; code that runs after the driver reports that.
        assert states[-1] == ("paused" if trial.state is TrialState.STOPPED else trial.state.value)


def test_killed_after_every_single_write_a_search_comes_to_the_same_result(undisturbed: Study, tmp_path: Path) -> None:
    study = Study(tmp_path)
    drivers = 0
    while not study.state.closed:
        # Epochs that the interrupted trial reports again, and once more if its worker dies, are not progress.
        told_again = [len(study.disk.scores.get(t.number, [])) for t in study.state.in_state(TrialState.RUNNING)]
        with suppress(Killed):
            study.drive(2 * sum(told_again), survives_the_write=True)
        drivers += 1
        assert drivers < 200
    assert drivers > 30
    assert study.leaderboard() == undisturbed.leaderboard()
    check_nothing_lost_or_doubled(study)


@pytest.mark.parametrize(
    ("engine", "sampler"), [(engine, sampler) for engine, samplers in SAMPLERS.items() for sampler in samplers]
)
def test_whoever_proposes_a_killed_search_goes_on_with_the_proposals_it_would_have_made(
    engine: str, sampler: str, tmp_path: Path
) -> None:
    if sampler == "gp":
        pytest.importorskip("torch", reason="the extra 'gp' is not installed")
    # Samplers that model scores start to do so at ten observations.
    settings = build_settings(engine=engine, sampler=sampler, budget=Budget(14))
    undisturbed, killed = Study(tmp_path / "undisturbed", settings), Study(tmp_path / "killed", settings)
    num_writes = undisturbed.drive()
    for share in (0.3, 0.6, 0.85):
        with suppress(Killed):
            killed.drive(int(share * num_writes / 2))
    killed.drive()
    assert [trial.values for trial in killed.state.trials] == [trial.values for trial in undisturbed.state.trials]
    assert killed.leaderboard() == undisturbed.leaderboard()
    assert len({str(trial.values) for trial in killed.state.trials}) >= 14


@pytest.mark.parametrize("write", [14, 20, 29, 47])
def test_several_workers_killed_and_resumed_lose_nothing_and_come_to_the_same_result(
    tmp_path: Path, write: int
) -> None:
    settings = build_settings(workers=3)
    undisturbed, study = Study(tmp_path / "undisturbed", settings), Study(tmp_path / "killed", settings)
    undisturbed.drive()
    with pytest.raises(Killed):
        study.drive(write)
    assert study.state.in_state(TrialState.RUNNING)
    study.drive()
    check_nothing_lost_or_doubled(study)
    assert study.leaderboard() == undisturbed.leaderboard()


def decisions(study: Study) -> list[tuple[str, int | None]]:
    """The kind and trial of every event in the ledger, in order: proposed, started, finished and so on."""
    return [(event.kind, event.trial) for event in study.ledger.events("toy")]


@pytest.mark.parametrize(("scheduler", "max_step_ms"), [("asha", None), ("freeze-thaw", None), ("asha", 50.0)])
def test_whichever_worker_is_faster_a_search_on_a_processor_is_the_same(
    tmp_path: Path, scheduler: str, max_step_ms: float | None
) -> None:
    def search(pace: int, in_order: bool) -> Study:
        settings = build_settings(workers=3, scheduler=scheduler, filters=Filters(max_step_ms=max_step_ms))
        folder = tmp_path / f"{pace}-{in_order}"
        study = Study(folder, settings, pace=random.Random(pace), in_order=in_order)
        study.drive()
        return study

    first, *others = [search(pace, in_order=True) for pace in range(4)]
    for other in others:
        assert decisions(other) == decisions(first)
        assert other.leaderboard() == first.leaderboard()
    as_they_come = [search(pace, in_order=False) for pace in range(4)]
    assert any(decisions(study) != decisions(first) for study in as_they_come)


def test_results_are_taken_in_the_order_of_modelled_cost(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(workers=4), pace=random.Random(0))
    study.drive()
    ends, now = {}, 0.0
    state = SearchState()
    for event in study.ledger.events("toy"):
        state = replay([event], state)
        if event.kind == "started":
            ends[event.trial] = state.trials[event.trial or 0].ends
            assert ends[event.trial] > now
        elif event.kind in ("finished", "failed"):
            assert ends.pop(event.trial) == min([state.now, *ends.values()])
            now = state.now
    assert now > 0


def test_a_trial_whose_worker_dies_unheard_keeps_the_epochs_of_the_driver_before(
    tmp_path: Path,
) -> None:
    study = Study(tmp_path, build_settings(scheduler="none", budget=Budget(2)), mishaps=False)
    with pytest.raises(Killed):
        study.drive(4)
    assert len(study.ledger.epochs("toy", 0)) == 2
    study.disk.dies_unheard.add(0)
    study.drive()
    assert (study.state.trials[0].state, study.state.trials[0].epochs) == (TrialState.FAILED, 2)
    assert len(study.ledger.epochs("toy", 0)) == 2


def write_checkpoints(study: Study) -> None:
    for trial in range(study.settings.budget.trials or 0):
        folder = Home(study.folder).checkpoints("toy", trial)
        folder.mkdir(parents=True, exist_ok=True)
        for epoch in (1, 2):
            (folder / f"epoch-{epoch:05d}-digest.safetensors").touch()


def checkpoints_left(study: Study) -> dict[TrialState, set[tuple[str, ...]]]:
    left: dict[TrialState, set[tuple[str, ...]]] = {}
    for trial in study.state.trials:
        names = sorted(path.name for path in Home(study.folder).checkpoints("toy", trial.number).iterdir())
        left.setdefault(trial.state, set()).add(tuple(name.split("-")[1] for name in names))
    return left


def test_while_a_search_runs_only_trials_that_may_go_on_keep_a_checkpoint(tmp_path: Path) -> None:
    study = Study(tmp_path)
    write_checkpoints(study)
    study.drive()
    paused, none = {("00002",)}, {()}
    expected = {TrialState.STOPPED: paused, TrialState.COMPLETED: none, TrialState.FAILED: none}
    assert checkpoints_left(study) == expected


def test_what_a_killed_driver_did_not_remove_the_next_one_does(tmp_path: Path) -> None:
    study = Study(tmp_path)
    with pytest.raises(Killed):
        study.drive(40)
    write_checkpoints(study)
    before = {trial.number: trial.state for trial in study.state.trials}
    study.drive()
    over = [number for number, state in before.items() if state in (TrialState.COMPLETED, TrialState.FAILED)]
    assert over
    assert not [path for number in over for path in Home(tmp_path).checkpoints("toy", number).iterdir()]


def test_full_training_gives_every_trial_all_epochs(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(scheduler="none", budget=Budget(4)), mishaps=False)
    study.drive()
    check_nothing_lost_or_doubled(study)
    assert [trial.epochs for trial in study.state.trials] == [4] * 4


def test_the_seed_decides_a_search(undisturbed: Study, tmp_path: Path) -> None:
    boards = []
    for seed in (5, 6):
        study = Study(tmp_path / str(seed), build_settings(seed=seed))
        study.drive()
        boards.append(study.leaderboard()["trials"])
    assert boards[0] == undisturbed.leaderboard()["trials"]
    assert boards[1] != boards[0]


def test_duplicates_are_rejected_and_cost_no_budget(tmp_path: Path) -> None:
    document = space_of("model.base_filters", [4, 8, 12, 16])
    study = Study(tmp_path, build_settings(space=document, budget=Budget(4), sampler="random"), mishaps=False)
    study.drive()
    state = study.state
    rejected = state.in_state(TrialState.REJECTED)
    assert rejected
    for trial in rejected:
        twin = state.trials[int(trial.reason.removeprefix("the same as trial "))]
        assert (twin.values, twin.number < trial.number) == (trial.values, True)
        assert twin.state is not TrialState.REJECTED
        assert (trial.epochs, study.ledger.epochs("toy", trial.number)) == (0, [])
    assert state.num_started == 4
    assert sorted(trial.values["model.base_filters"] for trial in state.trials if trial not in rejected) == [
        4,
        8,
        12,
        16,
    ]


@pytest.mark.parametrize("scheduler", ["asha", "freeze-thaw"])
def test_200_rejections_in_a_row_end_a_search_with_what_it_has(tmp_path: Path, scheduler: str) -> None:
    document = space_of("augmentation.flips", [True, False])
    study = Study(tmp_path, build_settings(space=document, sampler="random", scheduler=scheduler), mishaps=False)
    study.drive()
    state = study.state
    assert state.closed
    assert state.num_started == 2
    assert state.rejected_in_a_row == 200
    assert state.winner is not None
    # An extended search looks for new configurations again.
    before = len(state.in_state(TrialState.REJECTED))
    with study.ledger.drive("toy") as writer:
        writer.append("opened")
    study.drive()
    assert len(study.state.in_state(TrialState.REJECTED)) == before + 200


def test_a_network_too_deep_for_the_images_is_rejected_with_the_reason(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(budget=Budget(4)), mishaps=False, image_shape=(4, 8))
    study.drive()
    rejected = study.state.in_state(TrialState.REJECTED)
    assert rejected
    assert all("needs image sides divisible by 8" in trial.reason for trial in rejected)
    assert {trial.values["model.num_blocks"] for trial in study.state.trials if trial not in rejected} == {2}


def test_a_finished_search_driven_again_changes_nothing(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(budget=Budget(3)), mishaps=False)
    study.drive()
    before = study.ledger.events("toy")
    assert study.drive() == 0
    assert study.ledger.events("toy") == before


def test_an_extended_search_starts_the_rest_of_its_budget(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(budget=Budget(4)), mishaps=False)
    study.drive()
    first = study.state.trials
    study.settings = replace(study.settings, budget=Budget(9))
    with study.ledger.drive("toy") as writer:
        writer.update_settings(study.settings.to_dict())
        writer.append("opened")
    study.drive()
    check_nothing_lost_or_doubled(study)
    assert study.state.trials[:4] == first


def test_a_driver_that_was_fenced_off_stops_at_its_next_write(tmp_path: Path) -> None:
    study = Study(tmp_path)

    class TakesOver:
        def on_change(self, *_: Any) -> None:
            (tmp_path / "ledger.db.toy.lock").unlink(missing_ok=True)
            with Ledger(tmp_path / "ledger.db").drive("toy"):
                pass

        on_epoch = on_change

    study.told = TakesOver()  # type: ignore[assignment]  # has the same methods
    with pytest.raises(LedgerError, match="taken this search over"):
        study.drive()
    assert not study.state.closed


def test_what_exceeds_a_limit_is_rejected_with_both_figures_and_costs_no_budget(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(budget=Budget(6), filters=Filters(max_params=40_000)), mishaps=False)
    study.drive()
    check_nothing_lost_or_doubled(study)
    rejected = study.state.in_state(TrialState.REJECTED)
    assert rejected
    assert all(re.fullmatch(r"[\d,]+ params, --max-params is 40,000", trial.reason) for trial in rejected)
    assert {trial.values["model.num_blocks"] for trial in rejected} == {3}


@pytest.mark.parametrize(("workers", "write"), [(1, float("inf")), (3, float("inf")), (3, 3)])
def test_steps_are_measured_before_the_first_epoch(tmp_path: Path, workers: int, write: float) -> None:
    # In the toy study a step takes `base_filters` milliseconds: 4 or 8.
    settings = build_settings(budget=Budget(6), filters=Filters(max_step_ms=5.0), workers=workers)
    study = Study(tmp_path, settings, mishaps=False)
    with suppress(Killed):
        study.drive(write)
    study.drive()
    check_nothing_lost_or_doubled(study)
    for trial in study.state.trials:
        assert trial.step_ms == trial.values["model.base_filters"]
        assert (trial.state is TrialState.REJECTED) == (trial.step_ms == 8)
    assert {t.reason for t in study.state.in_state(TrialState.REJECTED)} == {"8 ms a step, --max-step-ms is 5"}
    kinds = [event.kind for event in study.ledger.events("toy") if event.kind in ("measured", "started")]
    assert kinds[:1] == ["measured"]


def test_a_sampler_learns_what_is_rejected_and_proposes_something_else(tmp_path: Path) -> None:
    # Half of the space is too large; TPE models scores from the tenth observation on.
    settings = build_settings(budget=Budget(20), filters=Filters(max_params=40_000))
    study = Study(tmp_path, settings, mishaps=False)
    study.drive()
    assert study.state.num_started == 20
    rejected = [trial.number for trial in study.state.trials if "--max-params" in trial.reason]
    assert rejected
    late = [number for number in rejected if number >= 15]
    assert len(late) <= len(study.state.trials[15:]) // 2
