"""How commands print their results on stdout."""

from collections.abc import Mapping
from typing import Any

_MAX_FAILED = 10


def print_json(document: Mapping[str, Any]) -> None:
    """Prints one JSON document."""
    from marsseg.plain_json import write_json

    print(write_json(document))


def print_leaderboard(document: Mapping[str, Any], top: int | None) -> None:
    """Prints a leaderboard, and the command that retrains its winner."""
    from marsseg.report.leaderboard import confirmation_lines, render_recipes, render_text

    print(render_text(document, top), end="")
    print(render_recipes(document, top), end="")
    _print_failed_below(document, top)
    completed = [trial for trial in document["trials"] if trial["state"] == "completed"]
    if not completed:
        print("no trial was completed")
        return
    for line in confirmation_lines(document.get("confirmed", [])):
        print(line)
    winner = min(completed, key=lambda trial: int(trial["rank"]))
    if winner["run_id"]:
        store = f" --tracking-uri {document['tracking_uri']}" if document["tracking_uri"] else ""
        print(f"\ntrain the winner again and compare:  marsexp reproduce {winner['run_id']}{store}")
        print(f"look at all of them:                 marsexp ui{store}")


def print_plan(document: Mapping[str, Any]) -> None:
    """Prints what a search would do and cost."""
    from marsseg.report.leaderboard import render_plan

    print(render_plan(document), end="")


def _print_failed_below(document: Mapping[str, Any], top: int | None) -> None:
    """Names the failed trials that are below the rows shown."""
    below = [] if top is None else document["trials"][top:]
    failed = [trial for trial in below if trial["state"] == "failed"]
    for trial in failed[:_MAX_FAILED]:
        print(f"trial {trial['trial']} failed: {trial['reason']}")
    if len(failed) > _MAX_FAILED:
        print(f"and {len(failed) - _MAX_FAILED} more failed; see: marsexp leaderboard {document['search']}")


def exit_status(document: Mapping[str, Any]) -> int:
    """0 if a trial was completed, 1 otherwise."""
    return 0 if any(trial["state"] == "completed" for trial in document["trials"]) else 1
