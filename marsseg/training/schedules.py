"""The learning rate of a stage's next epoch, a pure function of the scores so far."""

import math
from collections.abc import Sequence

from marsseg.config import ScheduleConfig


def next_learning_rate(schedule: ScheduleConfig, initial: float, num_epochs: int, scores: Sequence[float]) -> float:
    """The learning rate of the next epoch of a stage.

    With e epochs finished of E, the initial rate r, `factor` f, `hold_epochs` h, `climb_epochs` w and
    `min_learning_rate` m:

    `plateau`: r, multiplied by f each time `patience` epochs have passed since the best score or the last reduction,
    down to m.

    `exponential`: r for h epochs, then multiplied by f before each epoch: max(m, r·f^max(0, e − h + 1)).

    `cosine` (Loshchilov & Hutter, 2016, arXiv 1608.03983): m + (r − m)·(1 + cos(π·(e − w)/(E − w)))/2, so that the
    epoch after the last would have m; before that, w epochs of linear warm-up, r·(e + 1)/(w + 1) (Goyal et al., 2017,
    arXiv 1706.02677).

    An initial rate below m stays as it is.

    Args:
        schedule: The schedule's config.
        initial: The stage's first learning rate, or the one that the warm-up ends at.
        num_epochs: Epochs of the stage, if nothing ends it early.
        scores: `val_mean_iou` of each finished epoch of the stage, in order.

    Returns:
        A learning rate.
    """
    lowest = min(schedule.min_learning_rate, initial)
    match schedule.name:
        case "constant":
            return initial
        case "plateau":
            return max(lowest, initial * schedule.factor ** _plateaus(scores, schedule.patience))
        case "exponential":
            return max(lowest, initial * schedule.factor ** max(0, len(scores) - schedule.hold_epochs + 1))
        case "cosine":
            return _cosine(schedule, initial, lowest, num_epochs, len(scores))


def _plateaus(scores: Sequence[float], patience: int) -> int:
    """How often `patience` epochs have passed without a new best score."""
    best, waited, plateaus = float("-inf"), 0, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
            continue
        waited += 1
        if waited >= patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def _cosine(schedule: ScheduleConfig, initial: float, lowest: float, num_epochs: int, finished: int) -> float:
    climb = schedule.climb_epochs
    if finished < climb:
        return initial * (finished + 1) / (climb + 1)
    share = (finished - climb) / (num_epochs - climb)
    return lowest + (initial - lowest) * (1 + math.cos(math.pi * share)) / 2
