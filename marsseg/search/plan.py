"""The expected cost of a search, from simulated searches with the scheduler that will decide."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from marsseg.search.scheduler import Scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost

_SIMULATIONS = 5
# Beyond this budget the cost grows in proportion.
_SIMULATED_BUDGET = 40
# Curves rise with the logarithm of the epoch, from this share of their final score, some early and some late, and
# jitter: after a third of the epochs their order is as close to their final order as that of recorded curves.
_FIRST, _LATENESS, _JITTER = 0.3, 1.0, 0.02


@dataclass(frozen=True)
class Plan:
    """The expected spending of a study.

    Args:
        epochs: Epochs of all trials together.
        segments: Number of times that a worker takes up a trial other than the one it trained last.
        cost: Modelled cost of the epochs alone.
    """

    epochs: float = 0.0
    segments: float = 0.0
    cost: float = 0.0

    def scaled(self, factor: float) -> "Plan":
        """The plan with every amount multiplied by a factor."""
        return Plan(self.epochs * factor, self.segments * factor, self.cost * factor)


def expected_plan(scheduler: Scheduler, trials: int, costs: Sequence[Cost], sizes: Sequence[str] = ()) -> Plan:
    """The average spending of a search in which no trial fails or stops early.

    The configurations come in random order. Asynchronous promotion spends more than promoting one in
    `reduction_factor` would: trials promoted early fall out of the top, and others follow; and a scheduler that
    considers costs trains cheap configurations longer.

    Args:
        scheduler: The scheduler that will decide.
        trials: Configurations that it may start.
        costs: Costs of configurations of the space; at least one.
        sizes: Names of the objectives besides the score; each in random order too.

    Returns:
        The mean over some simulated searches; the same for the same arguments.
    """
    simulated = min(trials, _SIMULATED_BUDGET)
    plans = [_simulated(scheduler, simulated, costs, sizes, random.Random(seed)) for seed in range(_SIMULATIONS)]
    mean = Plan(*(fmean(amounts) for amounts in zip(*(vars(plan).values() for plan in plans), strict=True)))
    return mean.scaled(trials / simulated)


def _simulated(
    scheduler: Scheduler, trials: int, costs: Sequence[Cost], sizes: Sequence[str], luck: random.Random
) -> Plan:
    full = scheduler.rungs.max_epochs
    shape = [_FIRST + (1 - _FIRST) * math.log(epoch) / math.log(max(2, full)) for epoch in range(1, full + 1)]

    def curve() -> Curve:
        quality, lateness = luck.random(), math.exp(luck.gauss(0, _LATENESS))
        scores = tuple(quality * part**lateness + luck.gauss(0, _JITTER) for part in shape)
        return Curve(scores, luck.choice(costs), sizes={name: luck.random() for name in sizes})

    *_, last = simulate(scheduler, [curve() for _ in range(trials)], trials)
    ended = last.state.trials
    cost = sum(trial.epochs * trial.cost.epoch for trial in ended)
    return Plan(last.state.epochs_spent, sum(trial.starts for trial in ended), cost)
