"""Recorded learning curves, and draws of them: the searches that are replayed."""

import json
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marsseg.search.simulation import Curve
from marsseg.search.state import Cost, score_at

METRIC = "val_mean_iou_foreground"
MAX_EPOCHS = 27
# For curves without a modelled cost: the cost of building a network, in epochs.
_START_EPOCHS = 1.5


def load_curves(path: Path) -> list[Curve]:
    """Curves from a file that `marsexp search --record` wrote; only those of full training runs.

    Args:
        path: One configuration per line, as JSON.
    """
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [_parse(document) for document in documents if len(document["history"]) >= MAX_EPOCHS]


def _parse(document: Mapping[str, Any]) -> Curve:
    history = document["history"][:MAX_EPOCHS]
    epoch = statistics.median(record["epoch_s"] for record in history)
    modelled = document.get("cost", {"epoch": epoch, "start": _START_EPOCHS * epoch})
    # A seed is chance, not a hyperparameter.
    values = {name: value for name, value in document["config"].items() if name != "seed"}
    return Curve(tuple(record[METRIC] for record in history), Cost(**modelled), values)


def final_score(curve: Curve) -> float:
    """The score after full training: the mean of the last three epochs, so that one lucky epoch does not win."""
    return score_at(curve.scores, len(curve.scores))


def draws(curves: Sequence[Curve], number: int) -> Iterator[list[Curve]]:
    """Searches: two thirds of the curves, at most 40, in random order.

    Args:
        curves: The curves to draw from.
        number: The number of searches.
    """
    size = min(40, len(curves) * 2 // 3)
    for seed in range(number):
        yield random.Random(seed).sample(curves, size)
