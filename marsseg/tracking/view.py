"""How the MLflow UI shows the experiment: a leaderboard with scores and hyperparameters as columns, best run first.

The stock table shows neither metrics nor parameters. A saved view, kept as a tag of the experiment, brings its own
columns, filter, order and charts; only an address with the view's key keeps them.
"""

import colorsys
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from marsseg.tracking.charts import chart_state

_VIEW_TAG = "mlflow.sharedViewState."
_SCORES = ("best_val_mean_iou", "epochs", "params", "duration_s")
# The fields a reader looks for first; a view shows those of them that vary, then all others that vary.
_PREFERRED = (
    *("model.num_blocks", "model.base_filters", "model.upsampling", "model.se", "model.cbam", "model.stn"),
    *("model.dilation", "model.attention_gates", "loss.terms", "loss.background_weight", "model.predict_background"),
    *("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay", "training.batch_size"),
    "augmentation.flips",
)
# Every run has had these since the first version, as the axes of a parallel plot require.
_ALWAYS_THERE = (
    *("model.num_blocks", "model.base_filters", "model.se"),
    *("loss.terms", "optimizer.name", "optimizer.learning_rate"),
)
_GROUPS = ("model.", "loss.", "optimizer.", "schedule.", "augmentation.", "training.", "warmup.", "cleaning.")
_MAX_CHOICES = 20
_GOLDEN_RATIO = 0.618034
# Columns are wide enough for the title; values of `loss.terms` are longer, as sums of names.
_LETTER_PX, _PADDING_PX, _MIN_PX, _MAX_PX = 7, 36, 90, 190
_WIDER_PX = {"loss.terms": 165}
ALL_RUNS = "leaderboard"


def experiment_tags(choices: Sequence[str] = ()) -> dict[str, str]:
    """Tags that the experiment is created with, and that update its view of all runs.

    Args:
        choices: The hyperparameters that vary; if empty (not known yet), those that are often searched.

    Returns:
        Tags of the experiment.
    """
    # Runs of whole searches lack this score, so only runs that were trained remain.
    every_trained_run = "metrics.`best_val_mean_iou` >= 0"
    return {
        "mlflow.experimentKind": "custom_model_development",
        **_view(ALL_RUNS, every_trained_run, choices or _PREFERRED, choices or _ALWAYS_THERE),
    }


def search_view_tags(search: str, choices: Sequence[str]) -> dict[str, str]:
    """Tags that add a view of one search's trials.

    Args:
        search: The search's name.
        choices: The hyperparameters that vary, as dotted paths.

    Returns:
        Tags of the experiment.
    """
    its_trials = f"tags.`marsexp.search` = '{search}' AND metrics.`best_val_mean_iou` >= 0"
    ordered = _preferred_first(choices)
    return _view(search_view(search), its_trials, ordered, ordered)


def search_view(search: str) -> str:
    """The name of the view of a search's trials."""
    return f"search-{search}"


def viewed_searches(tags: Iterable[str]) -> list[str]:
    """The searches that have a view of their own.

    Args:
        tags: Names of the experiment's tags.

    Returns:
        Names of the searches, sorted.
    """
    prefix = f"{_VIEW_TAG}{search_view('')}"
    return sorted(tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix))


def varying_choices(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """The hyperparameters in which runs differ.

    Args:
        runs: The params of each run.

    Returns:
        Dotted paths that all runs have, those that are often searched first.
    """
    if not runs:
        return []
    shared = set.intersection(*(set(params) for params in runs))
    varying = [path for path in runs[0] if path in shared and len({params[path] for params in runs}) > 1]
    return _preferred_first([path for path in varying if path.startswith(_GROUPS)])[:_MAX_CHOICES]


def view_address(server: str, experiment_id: str, view: str = ALL_RUNS) -> str:
    """The address that opens a view.

    Args:
        server: For example `http://127.0.0.1:5000`.
        experiment_id: The experiment's ID.
        view: A search's view, or the view of all runs.

    Returns:
        An address; any sorting or filtering added to it would make the UI ignore the view. With
        `&compareRunsMode=CHART` appended, it opens the view's charts.
    """
    return f"{server}/{view_link(experiment_id, view)}"


def view_link(experiment_id: str, view: str = ALL_RUNS) -> str:
    """The same address without the server, for a link on one of the UI's own pages."""
    key = quote(view, safe="")
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def run_color(number: int) -> str:
    """A trial's colour in charts, as `#rrggbb`; trials with neighbouring numbers never look alike.

    The UI would hash the run's ID to one of a few colours, so that often two of six trials would share one.
    """
    hue, lightness = number * _GOLDEN_RATIO % 1.0, (0.42, 0.58, 0.33)[number % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.65))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _preferred_first(choices: Sequence[str]) -> list[str]:
    return [path for path in _PREFERRED if path in choices] + [path for path in choices if path not in _PREFERRED]


def _view(name: str, filter_string: str, choices: Sequence[str], axes: Sequence[str]) -> dict[str, str]:
    titles = {f"metrics.`{score}`": score for score in _SCORES} | {f"params.`{path}`": path for path in choices}
    columns = list(titles)
    state: dict[str, Any] = {
        "searchFilter": filter_string,
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _width(title) for column, title in titles.items()},
        **chart_state(axes),
    }
    view = {"name": name, "createdAt": time.time_ns() // 1_000_000, "state": json.dumps(state)}
    return {f"{_VIEW_TAG}{name}": json.dumps(view)}


def _width(title: str) -> int:
    return _WIDER_PX.get(title, min(_MAX_PX, max(_MIN_PX, _PADDING_PX + _LETTER_PX * len(title))))
