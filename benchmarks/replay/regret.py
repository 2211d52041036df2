"""What a policy's training is worth at each price: the regret of what it would hand over."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from benchmarks.replay.curves import MAX_EPOCHS, final_score
from benchmarks.replay.policies import Progress
from marsseg.search.simulation import Curve
from marsseg.search.state import score_at


def full_cost(curves: Sequence[Curve]) -> float:
    """What training all of them in full takes, each in one go."""
    return sum(MAX_EPOCHS * curve.cost.epoch + curve.cost.start for curve in curves)


def regrets(curves: Sequence[Curve], progress: Iterable[Progress], limits: Sequence[float]) -> list[float]:
    """The regret at each of some prices.

    What is handed over is the checkpoint of the highest score, the mean of its last three epochs; its regret is what
    the best configuration scores after full training, minus that. Nothing trained yet counts as a score of 0.

    Args:
        curves: In the order of the search.
        progress: What is trained, in order. A segment that would pass a limit is cut off there.
        limits: Prices, ascending.

    Returns:
        One regret a limit.
    """
    best = max(map(final_score, curves))
    epochs = [0] * len(curves)
    scores = [0.0] * len(curves)
    found: list[float] = []
    cost, last = 0.0, None
    for number, until in progress:
        curve = curves[number]
        cost += curve.cost.start if number != last else 0.0
        last = number
        for epoch in range(epochs[number] + 1, until + 1):
            cost += curve.cost.epoch
            while len(found) < len(limits) and cost > limits[len(found)] * (1 + 1e-9):
                found.append(best - max(scores))
            epochs[number] = epoch
            scores[number] = score_at(curve.scores, epoch)
        if len(found) == len(limits):
            break
    return found + [best - max(scores)] * (len(limits) - len(found))


@dataclass(frozen=True)
class Band:
    """A mean and its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Band":
        """The band of some independent figures, of which there must be two."""
        mean, error = statistics.fmean(figures), statistics.stdev(figures) / len(figures) ** 0.5
        half = float(stats.t.ppf(0.975, len(figures) - 1)) * error
        return cls(mean, mean - half, mean + half)
