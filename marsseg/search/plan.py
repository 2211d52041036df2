"""What a search will cost: epochs, from simulated searches with the scheduler that will decide."""

import random

from marsseg.search.budget import Budget
from marsseg.search.scheduler import Scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost

_SIMULATIONS = 5
# Beyond this the cost grows in proportion.
_SIMULATED_BUDGET = 100


def expected_epochs(scheduler: Scheduler, budget: Budget) -> int:
    """Epochs that a search spends on average if no trial fails or stops early; 0 where it has a limit in hours.

    The configurations come in random order and each keeps its place from rung to rung. Asynchronous promotion spends
    more than one in `reduction_factor` would: what was promoted early falls out of the top, and others follow.

    Args:
        scheduler: Decides.
        budget: What it may spend.

    Returns:
        The mean over some simulated searches; the same for the same arguments.
    """
    if budget.trials is None:
        return budget.epochs or 0
    simulated = min(budget.trials, _SIMULATED_BUDGET)
    spent = [_spent(scheduler, simulated, random.Random(seed)) for seed in range(_SIMULATIONS)]
    return round(sum(spent) / len(spent) * budget.trials / simulated)


def _spent(scheduler: Scheduler, budget: int, luck: random.Random) -> int:
    curves = [Curve((luck.random(),) * scheduler.rungs.max_epochs, Cost(1.0)) for _ in range(budget)]
    *_, last = simulate(scheduler, curves, budget)
    return last.state.epochs_spent
