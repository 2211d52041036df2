"""What a search will cost: epochs, from simulated searches with the scheduler that will decide."""

import math
import random
from collections.abc import Sequence

from marsseg.search.budget import Budget
from marsseg.search.scheduler import Scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost

_SIMULATIONS = 5
# Beyond this the cost grows in proportion.
_SIMULATED_BUDGET = 40
# Curves rise with the logarithm of the epoch, from this share of what they come to.
_FIRST = 0.3


def expected_epochs(scheduler: Scheduler, budget: Budget, cost: Cost, sizes: Sequence[str] = ()) -> int:
    """Epochs that a search spends on average if no trial fails or stops early; 0 where it has a limit in hours.

    The configurations come in random order and each keeps its place from rung to rung. Asynchronous promotion spends
    more than one in `reduction_factor` would: what was promoted early falls out of the top, and others follow.

    Args:
        scheduler: Decides.
        budget: What it may spend.
        cost: What a configuration takes on average.
        sizes: What counts besides the score; each in random order too.

    Returns:
        The mean over some simulated searches; the same for the same arguments.
    """
    if budget.trials is None:
        return budget.epochs or 0
    simulated = min(budget.trials, _SIMULATED_BUDGET)
    spent = [_spent(scheduler, simulated, cost, sizes, random.Random(seed)) for seed in range(_SIMULATIONS)]
    return round(sum(spent) / len(spent) * budget.trials / simulated)


def _spent(scheduler: Scheduler, budget: int, cost: Cost, sizes: Sequence[str], luck: random.Random) -> int:
    full = scheduler.rungs.max_epochs
    shape = [_FIRST + (1 - _FIRST) * math.log(epoch) / math.log(max(2, full)) for epoch in range(1, full + 1)]

    def curve() -> Curve:
        quality = luck.random()
        return Curve(tuple(quality * part for part in shape), cost, sizes={name: luck.random() for name in sizes})

    curves = [curve() for _ in range(budget)]
    *_, last = simulate(scheduler, curves, budget)
    return last.state.epochs_spent
