"""docs/tracking.md compared with what a real search logs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from tests.conftest import Marsexp

PAGE = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def section(title: str) -> str:
    """The text below a heading, up to the next heading of the same level."""
    (found,) = re.findall(rf"^(#+) {title}\n(.*?)(?=^\1 |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return str(found[1])


def names_in_tables(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


@pytest.fixture(scope="module")
def client(finished_search: Marsexp) -> MlflowClient:
    return MlflowClient(f"sqlite:///{finished_search.home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def experiment(client: MlflowClient) -> Experiment:
    return client.get_experiment_by_name("marsexp")


@pytest.fixture(scope="module")
def runs(client: MlflowClient, experiment: Experiment) -> dict[str, list[Run]]:
    """The runs by kind."""
    by_kind: dict[str, list[Run]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        by_kind.setdefault(run.data.tags["marsexp.kind"], []).append(run)
    assert by_kind.keys() == {"search", "trial"}
    return by_kind


def test_metrics_are_those_of_the_page(runs: dict[str, list[Run]]) -> None:
    of_trials, _, of_searches = section("Metrics").partition("### Of a search or study")
    assert {name for run in runs["trial"] for name in run.data.metrics} == names_in_tables(of_trials)
    assert set(runs["search"][0].data.metrics) == names_in_tables(of_searches)


def test_tags_are_on_the_page(runs: dict[str, list[Run]]) -> None:
    known = names_in_tables(section("Tags"))
    ours = {
        name
        for run in (*runs["trial"], *runs["search"])
        for name in run.data.tags
        if name.startswith(("marsexp.", "mlflow."))
    }
    assert ours <= known
    # The other tags need failed trials, reruns, several objectives, a store that was lost, or a package in a checkout.
    only_elsewhere = {"reason", "reproduces", "rerun", "verdict", "on_front", "recorded_again"}
    assert known - ours <= {f"marsexp.{name}" for name in only_elsewhere} | {"mlflow.source.git.commit"}


def test_artifacts_are_on_the_page(client: MlflowClient, runs: dict[str, list[Run]]) -> None:
    def files(kind: str) -> set[str]:
        return {file.path for run in runs[kind] for file in client.list_artifacts(run.info.run_id)}

    of_trials, _, of_searches = section("Artifacts").partition("### Of a search or study")
    assert files("trial") | {"code.diff"} == names_in_tables(of_trials)
    assert files("search") | {"code.diff", "importances.png", "pareto.png"} == names_in_tables(of_searches)


def test_parameters_are_on_the_page(runs: dict[str, list[Run]]) -> None:
    named = set(re.findall(r"`([\w.]+)`", section("Parameters")))
    assert set(runs["search"][0].data.params) <= named
    of_trials = {"model.num_blocks", "optimizer.learning_rate", "training.precision", "seed"}
    assert of_trials <= named & set(runs["trial"][0].data.params)


def test_states_and_statuses_are_on_the_page(runs: dict[str, list[Run]]) -> None:
    for run in (*runs["trial"], *runs["search"]):
        assert f"| {run.info.status} |" in section("Runs")
        assert f"`{run.data.tags['marsexp.state']}`" in section("Tags")


def test_views_are_on_the_page(experiment: Experiment) -> None:
    text = section("Saved views")
    views = [tag.removeprefix("mlflow.sharedViewState.") for tag in experiment.tags if "sharedViewState" in tag]
    assert {view.replace("search-tiny", "search-<name>") for view in views} == names_in_tables(text)
    for view in views:
        scores = set(re.findall(r"metrics\.`([\w.]+)`", experiment.tags[f"mlflow.sharedViewState.{view}"]))
        assert len(scores) > 3
        assert all(f"`{score}`" in text for score in scores)
    assert "`mlflow.experimentKind`" in text


def test_dataset_and_model_are_as_the_page_says(runs: dict[str, list[Run]]) -> None:
    for run in (*runs["search"], *runs["trial"]):
        (dataset,) = run.inputs.dataset_inputs
        assert run.data.tags["marsexp.data_fingerprint"][:36] == dataset.dataset.digest
        assert [tag.value for tag in dataset.tags] == ["training"]
        completed = run.data.tags["marsexp.kind"] == "trial" and run.data.tags["marsexp.state"] == "completed"
        assert len(run.outputs.model_outputs) == int(completed)


def test_examples_print_the_leaderboard_and_load_its_model(
    finished_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    script = EXAMPLES[0].replace("mlruns/", "home/")
    assert script != EXAMPLES[0]
    script += EXAMPLES[1].replace("runs.loc[0,", "runs.loc[runs['tags.marsexp.state'].eq('completed').idxmax(),")
    done = subprocess.run(
        [sys.executable, "-c", script + "print(model.input_shape, model.output_shape)"],
        cwd=finished_search.folder,
        env=finished_search.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, *rows, history, shapes = done.stdout.splitlines()
    assert head.split() == ["trial", "state", "best_val_mean_iou", "num_blocks", "loss"]
    scored = [trial for trial in leaderboard["trials"] if trial["best_val_mean_iou"] is not None]
    scored.sort(key=lambda trial: -trial["best_val_mean_iou"])
    assert [int(row.split()[0]) for row in rows] == [trial["trial"] for trial in scored]
    assert history.count("(") == scored[0]["epochs"]
    assert shapes == "(None, 32, 64, 1) (None, 32, 64, 5)"


@pytest.mark.parametrize("condition", re.findall(r"^\| [^|]+ \| ``(.*?)`` \|$", PAGE, re.MULTILINE))
def test_filters_of_the_page_are_understood(client: MlflowClient, experiment: Experiment, condition: str) -> None:
    found = client.search_runs([experiment.experiment_id], condition.replace("rover", "tiny"))
    assert bool(found) == ("rover" in condition)
