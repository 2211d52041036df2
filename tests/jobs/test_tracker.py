"""The tracker of a resumed search: it sends the store what it lacks, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marsseg.data.prepare import prepare_data
from marsseg.errors import UsageError
from marsseg.jobs.candidates import BASE, build_candidates
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.stored import load_settings
from marsseg.jobs.study import create_study
from marsseg.jobs.tracker import StudyTracker
from marsseg.search.ledger import Ledger
from marsseg.search.state import replay
from marsseg.tracking.recorder import Recorder
from marsseg.tracking.store import open_store
from tests.conftest import Marsexp


class CountingRecorder(Recorder):
    """Notes the runs whose states are sent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: list[str] = []

    def set_tags(self, run_id: str, tags: Any) -> None:
        self.sent.append(run_id)
        super().set_tags(run_id, tags)


def catch_up(home: Path) -> list[str]:
    """The IDs of the runs whose states a new driver sends before it continues."""
    ledger, recorder = Ledger(home / "ledger.db"), CountingRecorder(open_store(home))
    settings = StudySettings.from_dict(ledger.settings("tiny"))
    candidates = build_candidates(settings)
    with ledger.drive("tiny") as writer:
        StudyTracker(
            settings,
            config_of=lambda trial: candidates.config(trial.values),
            ledger=ledger,
            writer=writer,
            home=Home(home),
            open_recorder=lambda: recorder,
            profile={},
        ).catch_up(replay(ledger.events("tiny")))
    return recorder.sent


@pytest.mark.parametrize(
    ("tag", "value"), [("marsexp.state", "running"), ("marsexp.epochs", "0"), (None, "RUNNING")], ids=str
)
def test_only_a_trial_that_the_store_does_not_have_as_it_is_gets_sent(
    copied_search: Marsexp, leaderboard: dict[str, Any], tag: str | None, value: str
) -> None:
    assert catch_up(copied_search.home) == []
    lacking = leaderboard["trials"][1]["run_id"]
    client = open_store(copied_search.home).client
    before = client.get_run(lacking)
    if tag is None:
        client.update_run(lacking, value)
    else:
        client.set_tag(lacking, tag, value)
    assert catch_up(copied_search.home) == [lacking]
    after = client.get_run(lacking)
    assert after.data.tags == before.data.tags
    assert after.info.status == before.info.status


def test_a_run_that_was_deleted_stays_so_unless_there_is_more_to_send(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    client = open_store(copied_search.home).client
    whole, lacking = (trial["run_id"] for trial in leaderboard["trials"][:2])
    client.set_tag(lacking, "marsexp.state", "running")
    for run_id in (whole, lacking):
        client.delete_run(run_id)
    assert catch_up(copied_search.home) == [lacking]
    assert [client.get_run(run_id).info.lifecycle_stage for run_id in (whole, lacking)] == ["deleted", "active"]


def test_a_store_that_was_lost_is_filled_again_from_the_ledger(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    (copied_search.home / "mlflow.db").unlink()
    assert len(set(catch_up(copied_search.home))) == 5
    state = replay(Ledger(copied_search.home / "ledger.db").events("tiny"))
    client = open_store(copied_search.home).client
    for trial in leaderboard["trials"]:
        if trial["state"] == "rejected":
            continue
        run_id = state.trials[trial["trial"]].run_id
        assert run_id != trial["run_id"]
        run = client.get_run(run_id)
        assert run.data.metrics["best_val_mean_iou"] == trial["best_val_mean_iou"]
        assert len(client.get_metric_history(run_id, "val_mean_iou")) == trial["epochs"]
        assert run.data.tags["marsexp.recorded_again"] == "true"


def test_the_search_s_own_run_comes_back_with_its_trials_below_it(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    client = open_store(copied_search.home).client
    client.delete_run(leaderboard["search_run_id"])
    catch_up(copied_search.home)
    assert client.get_run(leaderboard["search_run_id"]).info.lifecycle_stage == "active"


def test_an_experiment_that_was_deleted_comes_back_for_who_records_not_for_who_reads(copied_search: Marsexp) -> None:
    store = open_store(copied_search.home)
    store.client.delete_experiment(store.experiment_id)
    again = open_store(copied_search.home)
    assert again.experiment_id == store.experiment_id
    assert store.client.get_experiment(store.experiment_id).lifecycle_stage == "deleted"
    Recorder(again)
    assert store.client.get_experiment(store.experiment_id).lifecycle_stage == "active"


def test_a_search_goes_on_with_another_server_where_its_own_has_moved(copied_search: Marsexp) -> None:
    uri = f"sqlite:///{copied_search.folder / 'elsewhere.db'}"
    done = copied_search("search", "--resume", "tiny", "--tracking-uri", uri, "--json")
    assert done.status == 0, done.stderr
    assert done.json()["tracking_uri"] == uri
    store = open_store(copied_search.home, uri)
    assert len(store.client.search_runs([store.experiment_id])) == 6


def test_a_name_that_somebody_else_has_taken_on_the_server_is_refused(copied_search: Marsexp, tmp_path: Path) -> None:
    server = f"sqlite:///{tmp_path / 'shared.db'}"
    Recorder(open_store(copied_search.home, server)).add_search_view("rover", ["model.num_blocks"])
    home = Home(copied_search.home)
    settings = replace(load_settings(home, "tiny", "search"), name="rover", tracking_uri=server)
    with pytest.raises(UsageError, match=r"'rover' exists already on sqlite:.*shared\.db; choose another --name"):
        create_study(home, settings, prepare_data(settings.config(BASE)))
    assert Ledger(home.ledger).names() == ["tiny"]
