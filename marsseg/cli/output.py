"""How commands print their results on stdout."""

import json
from collections.abc import Mapping
from typing import Any


def print_json(document: Mapping[str, Any]) -> None:
    """Prints one JSON document."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_leaderboard(document: Mapping[str, Any], top: int | None) -> None:
    """Prints a leaderboard, and how its winner is trained again."""
    from marsseg.report.leaderboard import render_text

    print(render_text(document, top), end="")
    winner = next((trial for trial in document["trials"] if trial["state"] == "completed"), None)
    if winner is None:
        print("no trial was completed")
    elif winner["run_id"]:
        print(f"\ntrain the winner again and compare:  marsexp reproduce {winner['run_id']}")
        print("look at all of them:                 marsexp ui")
