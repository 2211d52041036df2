"""What a search will cost: epochs, from simulated searches with the scheduler that will decide."""

import random
from collections.abc import Sequence

from marsseg.search.budget import Budget
from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.scheduler import Scheduler
from marsseg.search.simulation import Curve, simulate
from marsseg.search.state import Cost

_SIMULATIONS = 5
# Beyond this the cost grows in proportion.
_SIMULATED_BUDGET = 100


def expected_epochs(scheduler: Scheduler, budget: Budget, sizes: Sequence[str] = ()) -> int:
    """Epochs that a search spends on average if no trial fails or stops early; 0 where it has a limit in hours.

    The configurations come in random order and each keeps its place from rung to rung. Asynchronous promotion spends
    more than one in `reduction_factor` would: what was promoted early falls out of the top, and others follow.

    Args:
        scheduler: Decides.
        budget: What it may spend.
        sizes: What counts besides the score; each in random order too.

    Returns:
        The mean over some simulated searches; the same for the same arguments.
    """
    if budget.trials is None:
        return budget.epochs or 0
    if isinstance(scheduler, FreezeThaw):
        # It knows what it will spend, and simulating its decisions takes seconds.
        return scheduler.planned_epochs(budget.trials)
    simulated = min(budget.trials, _SIMULATED_BUDGET)
    spent = [_spent(scheduler, simulated, sizes, random.Random(seed)) for seed in range(_SIMULATIONS)]
    return round(sum(spent) / len(spent) * budget.trials / simulated)


def _spent(scheduler: Scheduler, budget: int, sizes: Sequence[str], luck: random.Random) -> int:
    def curve() -> Curve:
        scores = (luck.random(),) * scheduler.rungs.max_epochs
        return Curve(scores, Cost(1.0), sizes={name: luck.random() for name in sizes})

    curves = [curve() for _ in range(budget)]
    *_, last = simulate(scheduler, curves, budget)
    return last.state.epochs_spent
