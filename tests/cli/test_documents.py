"""The output of `--json`, validated against the schemas in docs/."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from marsseg.jobs.home import Home
from marsseg.jobs.leaderboard import load_leaderboard
from marsseg.search.ledger import Ledger
from tests.conftest import Marsexp

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("leaderboard", ("leaderboard", "tiny", "--json", "--top", "1")),
        ("show", ("show", "best", "--json")),
        ("evaluate", ("evaluate", "best", "--split", "test", "--json")),
    ],
)
def test_documents_follow_their_schemas(finished_search: Marsexp, name: str, arguments: tuple[str, ...]) -> None:
    jsonschema.validate(finished_search(*arguments).json(), schema(name))


def test_whole_leaderboard_follows_its_schema(leaderboard: dict[str, Any]) -> None:
    jsonschema.validate(leaderboard, schema("leaderboard"))


def test_leaderboard_for_people_and_as_csv(finished_search: Marsexp, leaderboard: dict[str, Any]) -> None:
    text = finished_search("leaderboard").stdout
    assert f"marsexp reproduce {leaderboard['trials'][0]['run_id']}" in text
    lines = finished_search("leaderboard", "--csv", "--sort", "params").stdout.splitlines()
    assert len(lines) == 1 + len(leaderboard["trials"])
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=False)) for line in lines[1:]]
    order = [(row["state"] != "completed", int(row["params"])) for row in rows]
    assert order == sorted(order)


def test_sorting_leaves_completed_trials_first(copied_search: Marsexp) -> None:
    home = Home(copied_search.home)
    ledger = Ledger(home.ledger)
    number = sum(event.kind == "proposed" for event in ledger.events("tiny"))
    with ledger.drive("tiny") as writer:
        writer.append("proposed", number, values={}, cost={})
        writer.append("rejected", number, reason="too large")
    for column in ("params", "duration_s", "best_epoch", "epochs"):
        states = [row["state"] for row in load_leaderboard(home, "tiny", column)["trials"]]
        assert states[0] == "completed"
        assert "rejected" in states
        assert states == sorted(states, key=lambda state: state != "completed")
