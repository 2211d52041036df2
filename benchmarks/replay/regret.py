"""The value of a policy's training at each limit: the regret of the checkpoint that it would hand over."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from benchmarks.replay.account import Account
from benchmarks.replay.curves import MAX_EPOCHS, final_score
from benchmarks.replay.policies import Progress
from marsseg.search.simulation import Curve


def full_cost(curves: Sequence[Curve]) -> float:
    """The cost of training all of them in full, each in one go."""
    return sum(MAX_EPOCHS * curve.cost.epoch + curve.cost.start for curve in curves)


def regrets(curves: Sequence[Curve], progress: Iterable[Progress], limits: Sequence[float]) -> list[float]:
    """The regret at each limit: the best configuration's score after full training, minus the score handed over.

    Args:
        curves: In the order of the search.
        progress: The segments trained, in order. A segment that would pass a limit is cut off there.
        limits: The costs that may be spent.

    Returns:
        One regret per limit.
    """
    account = Account(curves, max(limits))
    all(account.train(number, until) for number, until in progress)
    best = max(map(final_score, curves))
    return [best - account.score_for(limit) for limit in limits]


@dataclass(frozen=True)
class Band:
    """A mean and its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Band":
        """The band of at least two figures, taken as independent: draws of curves are so only given the curves."""
        mean, error = statistics.fmean(figures), statistics.stdev(figures) / len(figures) ** 0.5
        half = float(stats.t.ppf(0.975, len(figures) - 1)) * error
        return cls(mean, mean - half, mean + half)
