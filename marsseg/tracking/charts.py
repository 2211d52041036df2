"""The charts of a saved view, which the UI draws when the table of runs is switched to charts.

MLflow's own page has one card per metric, in alphabetical order. A view brings its own cards and sections; the UI adds
cards for the other metrics, to the section with the name that it expects.
"""

from collections.abc import Sequence
from typing import Any

_SCORE = "best_val_mean_iou"
_MAX_AXES = 10
_MAIN = "marsexp"
# The UI puts the cards that it generates into the section with this name.
_GENERATED = "Model metrics"


def chart_state(choices: Sequence[str]) -> dict[str, Any]:
    """The part of a view's state that describes its charts.

    Args:
        choices: Hyperparameters on the axes of the parallel coordinates; the UI drops every run that lacks any of them.

    Returns:
        Values under the UI's own keys.
    """
    return {
        "compareRunCharts": [
            _line("val_mean_iou"),
            _bar(_SCORE),
            _parallel(choices[:_MAX_AXES]),
            _scatter("params"),
            _scatter("duration_s"),
            _line("loss"),
        ],
        "compareRunSections": [
            _section(_MAIN, "Which trial wins, and why", display=True),
            _section("generated", _GENERATED, display=False),
        ],
        # Otherwise the UI sorts sections by name.
        "isAccordionReordered": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _section(uuid: str, name: str, *, display: bool) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": display,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        "columns": 2,
        "cardHeight": 380,
    }


def _card(kind: str, subject: str, **values: Any) -> dict[str, Any]:
    return {
        "uuid": f"{_MAIN}-{kind}-{subject}",
        "type": kind,
        "metricSectionId": _MAIN,
        "deleted": False,
        # The UI may change a generated card of the same metric to another kind.
        "isGenerated": False,
        **values,
    }


def _line(metric: str) -> dict[str, Any]:
    return _card(
        "LINE",
        metric,
        metricKey=metric,
        selectedMetricKeys=[metric],
        xAxisKey="step",
        useGlobalXaxisKey=False,
        xAxisScaleType="linear",
        scaleType="linear",
        yAxisKey="metric",
        yAxisExpressions=[],
        range={},
        lineSmoothness=0,
        useGlobalLineSmoothing=True,
        selectedXAxisMetricKey="",
        ignoreOutliers=False,
    )


def _bar(metric: str) -> dict[str, Any]:
    return _card("BAR", metric, metricKey=metric, runsCountToCompare=20)


def _scatter(metric: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": metric, "type": "METRIC"}, "yaxis": {"key": _SCORE, "type": "METRIC"}}
    return _card("SCATTER", metric, runsCountToCompare=100, **axes)


def _parallel(choices: Sequence[str]) -> dict[str, Any]:
    return _card(
        "PARALLEL",
        "choices",
        selectedParams=list(choices),
        selectedMetrics=[_SCORE],
        # Not only the best twenty: stopped trials show what does not work.
        showAllRuns=True,
        runsCountToCompare=100,
    )
