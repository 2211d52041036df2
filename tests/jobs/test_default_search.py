"""Real searches with the default scheduler: paused trials thaw, a late failure costs one trial only, limits hold."""

import re
from itertools import pairwise
from typing import Any

import pytest

from marsseg.search.ledger import Ledger
from marsseg.search.state import SearchState, Trial, TrialState, replay
from tests.conftest import TINY_SPACE, Marsexp, make_marsexp, write_tiles

FIXED = re.sub(r"\[parameters.*", "", TINY_SPACE, flags=re.DOTALL)
# The first stage (epoch 1) has its own learning rate, so a rate too large for the second stage fails in epoch 2.
# Most of the rates are too large, so a trial that is resumed probably fails.
GOOD = 1e-3
STAGES = """[fixed]
"model.num_blocks" = 2
"warmup.epochs" = 1
"warmup.loss.background_weight" = 0.0
"""
SPACE = f"""
{FIXED.replace("[fixed]", STAGES)}
[parameters."model.base_filters"]
kind = "choice"
options = [4, 8]

[parameters."loss.terms"]
kind = "choice"
options = ["cross_entropy", "dice", "focal"]

[parameters."optimizer.learning_rate"]
kind = "choice"
options = [{GOOD}, 1e30, 2e30, 3e30]
"""
BUDGET, MAX_EPOCHS = 6, 18


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Marsexp, dict[str, Any]]:
    """The command in a folder where a search has run to its end, and the search's document."""
    marsexp = make_marsexp(tmp_path_factory.mktemp("default"))
    (marsexp.folder / "space.toml").write_text(SPACE, encoding="utf-8")
    write_tiles(marsexp.folder / "tiles.npz")
    done = marsexp(
        *("search", "--budget", str(BUDGET), "--space", "space.toml", "--data", "tiles.npz", "--name", "default"),
        *("--min-epochs", "1", "--max-epochs", str(MAX_EPOCHS), "--seed", "1", "--json"),
    )
    assert done.status == 0, done.stderr
    return marsexp, done.json()


def trials_of(marsexp: Marsexp) -> tuple[Trial, ...]:
    return replay(Ledger(marsexp.home / "ledger.db").events("default")).trials


def test_paused_trials_are_taken_up_again_and_the_best_is_trained_in_full(
    searched: tuple[Marsexp, dict[str, Any]],
) -> None:
    marsexp, document = searched
    trials = trials_of(marsexp)
    assert len([trial for trial in trials if trial.epochs]) == BUDGET
    winner = document["trials"][0]
    assert (winner["state"], winner["epochs"]) == ("completed", MAX_EPOCHS)
    assert max(trial.starts for trial in trials) > 1, "none was thawed after another had been trained"
    assert document["epochs_spent"] < BUDGET * MAX_EPOCHS / 2


def test_results_were_taken_in_the_order_of_modelled_cost(searched: tuple[Marsexp, dict[str, Any]]) -> None:
    marsexp, _ = searched
    state, running = SearchState(), set[int | None]()
    for event in Ledger(marsexp.home / "ledger.db").events("default"):
        state = replay([event], state)
        if event.kind == "started":
            running.add(event.trial)
        elif event.kind in ("finished", "failed"):
            running.remove(event.trial)
            assert all(state.now <= state.trials[number or 0].ends for number in running)


def test_each_epoch_was_trained_once(searched: tuple[Marsexp, dict[str, Any]]) -> None:
    marsexp, _ = searched
    ledger = Ledger(marsexp.home / "ledger.db")
    for trial in trials_of(marsexp):
        records = ledger.epochs("default", trial.number)
        assert [record["epoch"] for record in records] == list(range(1, trial.epochs + 1))
        assert all(one["finished_ms"] <= other["finished_ms"] for one, other in pairwise(records))


def test_what_fails_late_is_named_and_the_search_goes_on(searched: tuple[Marsexp, dict[str, Any]]) -> None:
    marsexp, document = searched
    failed = [trial for trial in trials_of(marsexp) if trial.state is TrialState.FAILED]
    assert failed, "none of those that would fail was taken up again"
    for trial in failed:
        assert trial.values["optimizer.learning_rate"] != GOOD
        assert trial.epochs == 1
        assert "epoch 2" in trial.reason
    assert document["trials"][0]["values"]["optimizer.learning_rate"] == GOOD


def test_a_search_of_so_many_seconds_keeps_to_them_and_completes_one(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    done = marsexp(
        *("search", "--budget", "25s", "--space", "space.toml", "--data", "tiles.npz", "--name", "short", "--json"),
        *("--min-epochs", "1", "--max-epochs", "4"),
    )
    assert done.status == 0, done.stderr
    trials = done.json()["trials"]
    assert trials[0]["state"] == "completed"
    assert len(trials) > 1
    state = replay(Ledger(marsexp.home / "ledger.db").events("short"))
    last = max(trial.duration_s for trial in state.trials)
    assert state.active_s < 25 + last, "nothing was begun that the limit had no room for"
