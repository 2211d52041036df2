"""A search with two objectives, from the command line to the tracking store."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import Marsexp, make_marsexp, write_tiles

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
SEARCH = ("search", "--space", "space.toml", "--data", "tiles.npz", "--max-epochs", "2", "--json")
SEARCH += ("--workers", "1")
OBJECTIVES = ("--objective", "params", "--objective", "val_mean_iou")


def check_schema(document: dict[str, Any], name: str) -> None:
    jsonschema.validate(document, json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))


def front_by_definition(document: dict[str, Any]) -> set[int]:
    completed = [trial for trial in document["trials"] if trial["state"] == "completed"]
    points = {trial["trial"]: (trial["best_val_mean_iou"], -trial["params"]) for trial in completed}
    return {
        number
        for number, (score, size) in points.items()
        if not any((a >= score and b >= size) and (a, b) != (score, size) for a, b in points.values())
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Marsexp, dict[str, Any], dict[str, Any]]:
    """The command in a folder where a search of three trials ended and was extended to five, and both documents."""
    marsexp = make_marsexp(tmp_path_factory.mktemp("two"))
    write_tiles(marsexp.folder / "tiles.npz")
    first = marsexp(*SEARCH, *OBJECTIVES, "--budget", "3", "--name", "two")
    assert first.status == 0, first.stderr
    extended = marsexp("search", "--resume", "two", "--budget", "5", "--json")
    assert extended.status == 0, extended.stderr
    return marsexp, first.json(), extended.json()


def test_documents_name_objectives_and_front(two: tuple[Marsexp, dict[str, Any], dict[str, Any]]) -> None:
    _, *documents = two
    for document, budget in zip(documents, (3, 5), strict=True):
        check_schema(document, "leaderboard")
        assert document["objectives"] == ["val_mean_iou", "params"]
        assert len([trial for trial in document["trials"] if trial["state"] != "rejected"]) == budget
        front = {trial["trial"] for trial in document["trials"] if trial["on_front"]}
        assert front == front_by_definition(document)
        assert document["trials"][0]["trial"] in front, "the winner"


def test_what_was_decided_by_stands_in_the_ledger_and_is_right(
    two: tuple[Marsexp, dict[str, Any], dict[str, Any]],
) -> None:
    from marsseg.search.ledger import Ledger

    events = Ledger(two[0].home / "ledger.db").events("two")
    counted = {event.trial: event.payload["sizes"] for event in events if event.kind == "proposed"}
    trained = {event.trial: event.payload["params"] for event in events if event.kind == "finished"}
    assert trained
    assert all(counted[trial] == {"params": params} for trial, params in trained.items())


def test_the_tracking_store_shows_the_front(two: tuple[Marsexp, dict[str, Any], dict[str, Any]]) -> None:
    from marsseg.tracking.store import open_store

    marsexp, _, document = two
    store = open_store(marsexp.home)
    files = {file.path for file in store.client.list_artifacts(document["search_run_id"])}
    assert "pareto.png" in files
    for on_front in (True, False):
        runs = store.client.search_runs([store.experiment_id], f"tags.`marsexp.on_front` = '{str(on_front).lower()}'")
        completed = [trial for trial in document["trials"] if trial["state"] == "completed"]
        expected = {trial["run_id"] for trial in completed if trial["on_front"] is on_front}
        assert {run.info.run_id for run in runs} == expected
    assert "on the Pareto front" in store.client.get_run(document["search_run_id"]).data.tags["mlflow.note.content"]


def test_leaderboard_for_people_marks_the_front(two: tuple[Marsexp, dict[str, Any], dict[str, Any]]) -> None:
    marsexp, _, document = two
    title, head, *lines = marsexp("leaderboard", "two").stdout.splitlines()
    count = sum(trial["on_front"] for trial in document["trials"])
    assert title.endswith(f"; {count} on the Pareto front")
    assert "on_front" in head
    assert sum(" true " in line for line in lines) == count


def test_the_plan_names_objectives_and_nothing_is_written_down(
    two: tuple[Marsexp, dict[str, Any], dict[str, Any]],
) -> None:
    marsexp = two[0]
    planned = marsexp(*SEARCH, *OBJECTIVES, "--budget", "3", "--name", "planned", "--dry-run")
    assert planned.status == 0, planned.stderr
    check_schema(planned.json(), "plan")
    assert planned.json()["objectives"] == ["val_mean_iou", "params"]
    assert marsexp("leaderboard", "planned").status == 1
