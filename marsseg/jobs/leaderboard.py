"""The leaderboard of a search, read from the ledger alone, so that it is fast and does not depend on the store."""

import statistics
from collections.abc import Sequence
from typing import Any

from marsseg.errors import UsageError, nearest_name_hint
from marsseg.garbage import collecting_no_garbage
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.stored import latest_study, stored_settings
from marsseg.search.ledger import Ledger
from marsseg.search.state import SearchState, Trial, TrialState, ranked, replay

_AT_REST = {TrialState.RUNNING.value: TrialState.PAUSED.value}
_SORTABLE = ("best_val_mean_iou", "epochs", "best_epoch", "params", "duration_s", "trial")


@collecting_no_garbage()
def load_leaderboard(home: Home, search: str | None, sort: str = "best_val_mean_iou") -> dict[str, Any]:
    """The leaderboard document of a search, by default of the most recently started.

    Args:
        home: Where the ledger is.
        search: The search's name, or None.
        sort: `best_val_mean_iou`, highest first; or another column, lowest first; completed trials before the others.

    Returns:
        The document that `--json` prints.

    Raises:
        NotFoundError: If there is no such search.
        UsageError: If there is no such column.
    """
    ledger = Ledger(home.ledger)
    settings = stored_settings(ledger, search) if search else latest_study(ledger)
    sortable = dict.fromkeys((*_SORTABLE, *settings.sizes))
    if sort not in sortable:
        raise UsageError(
            f"--sort: expected one of {', '.join(sortable)}, found '{sort}'{nearest_name_hint(sort, sortable)}"
        )
    document = leaderboard_document(settings, replay(ledger.events(settings.name)))
    if not ledger.is_driven(settings.name):
        for row in document["trials"]:
            # Interrupted or killed: the next driver resumes it where it was.
            row["state"] = _AT_REST.get(row["state"], row["state"])
    if sort != _SORTABLE[0]:
        document["trials"].sort(key=lambda trial: (trial["state"] != "completed", trial[sort]))
    return document


def leaderboard_document(settings: StudySettings, state: SearchState) -> dict[str, Any]:
    """The leaderboard as plain values: completed trials first, then by `best_val_mean_iou`."""
    return {
        "search": settings.name,
        "search_run_id": state.run_id or None,
        "tracking_uri": settings.tracking_uri,
        "objectives": list(settings.objectives),
        "budget": settings.budget.trials or str(settings.budget),
        "epochs_planned": settings.epochs_planned,
        "epochs_spent": state.epochs_spent,
        "trials": _rows(settings, state),
        **({"recipes": _recipes(settings, state)} if settings.num_seeds > 1 else {}),
    }


def spread(scores: Sequence[float]) -> dict[str, float] | None:
    """Mean and standard deviation, which is 0 for a single score; None without any score."""
    if not scores:
        return None
    return {"mean": statistics.fmean(scores), "sd": statistics.stdev(scores) if len(scores) > 1 else 0.0}


def _recipes(settings: StudySettings, state: SearchState) -> list[dict[str, Any]]:
    """The scores of each recipe over its seeds, the best recipe first."""
    scores: dict[str, list[float]] = {recipe: [] for recipe in settings.configs}
    for trial in state.in_state(TrialState.COMPLETED):
        if trial.best_val_mean_iou is not None:
            scores[trial.values["recipe"]].append(trial.best_val_mean_iou)
    rows = [{"recipe": recipe, "seeds": len(of), "best_val_mean_iou": spread(of)} for recipe, of in scores.items()]
    return sorted(rows, key=lambda row: -(row["best_val_mean_iou"] or {"mean": -1.0})["mean"])


def _rows(settings: StudySettings, state: SearchState) -> list[dict[str, Any]]:
    # A proposal that still waits is not a trial yet.
    shown = [trial for trial in ranked(state) if trial.state is not TrialState.PROPOSED]
    rows = [_row(rank, trial) for rank, trial in enumerate(shown, start=1)]
    if settings.sizes:
        front = {trial.number for trial in state.front}
        for row, trial in zip(rows, shown, strict=True):
            # Like `params`, 0 while unknown.
            row |= {name: trial.sizes.get(name, 0) for name in settings.sizes}
            row["on_front"] = trial.number in front
    return rows


def _row(rank: int, trial: Trial) -> dict[str, Any]:
    return {
        "rank": rank,
        "trial": trial.number,
        "run_id": trial.run_id or None,
        "state": trial.state.value,
        "epochs": trial.epochs,
        "best_val_mean_iou": trial.best_val_mean_iou,
        "best_epoch": trial.best_epoch,
        "params": trial.params,
        "duration_s": round(trial.duration_s, 3),
        "reason": trial.reason,
        "values": dict(trial.values),
    }
