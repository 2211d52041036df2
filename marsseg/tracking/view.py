"""How the MLflow UI shows the experiment: as a leaderboard, with scores and choices as columns, the best run first.

The stock table shows no metric and no parameter. A saved view, kept as a tag of the experiment, brings its own columns,
filter and order; opening it by its key is the only address that keeps them.
"""

import json
import time
from collections.abc import Sequence
from urllib.parse import quote

_VIEW_TAG = "mlflow.sharedViewState."
_SCORES = ("best_val_mean_iou", "epochs", "params", "duration_s")
_CHOICES = (
    "model.num_blocks",
    "model.base_filters",
    "model.se",
    "loss.terms",
    "optimizer.name",
    "optimizer.learning_rate",
)
ALL_RUNS = "leaderboard"


def experiment_tags() -> dict[str, str]:
    """Tags that the experiment is created with."""
    # Runs of whole searches have no such score: what was trained remains.
    every_training = "metrics.`best_val_mean_iou` >= 0"
    return {
        "mlflow.experimentKind": "custom_model_development",
        **_view(ALL_RUNS, every_training, _CHOICES),
    }


def search_view_tags(search: str, choices: Sequence[str]) -> dict[str, str]:
    """Tags that add a view of one search's trials.

    Args:
        search: The search's name.
        choices: The fields that vary, by dotted path.

    Returns:
        Tags of the experiment.
    """
    its_trials = f"tags.`marsexp.search` = '{search}' AND metrics.`best_val_mean_iou` >= 0"
    return _view(f"search-{search}", its_trials, choices)


def view_address(server: str, experiment_id: str, view: str = ALL_RUNS) -> str:
    """The address that opens a view.

    Args:
        server: As `http://127.0.0.1:5000`.
        experiment_id: The experiment's.
        view: `search-` and a search's name, or the view of all runs.

    Returns:
        An address; any further sorting or filtering in it would make the UI ignore the view.
    """
    key = quote(view, safe="")
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def _view(name: str, filter_string: str, choices: Sequence[str]) -> dict[str, str]:
    columns = [f"metrics.`{score}`" for score in _SCORES] + [f"params.`{choice}`" for choice in choices]
    state = {
        "searchFilter": filter_string,
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
    }
    view = {"name": name, "createdAt": time.time_ns() // 1_000_000, "state": json.dumps(state)}
    return {f"{_VIEW_TAG}{name}": json.dumps(view)}
