"""What a search will cost: epochs, from simulated searches with the scheduler that will decide."""

import random
from dataclasses import replace

from marsseg.search.scheduler import RunSegment, Scheduler, StartTrial
from marsseg.search.state import SearchState, Trial, TrialState

_SIMULATIONS = 5
# Beyond this the cost grows in proportion.
_SIMULATED_BUDGET = 100


def expected_epochs(scheduler: Scheduler, budget: int) -> int:
    """Epochs that a search spends on average if no trial fails or stops early.

    The configurations come in random order and each keeps its place from rung to rung. Asynchronous promotion spends
    more than one in `reduction_factor` would: what was promoted early falls out of the top, and others follow.

    Args:
        scheduler: Decides.
        budget: Configurations to start.

    Returns:
        The mean over some simulated searches; the same for the same arguments.
    """
    simulated = min(budget, _SIMULATED_BUDGET)
    spent = [_simulate(scheduler, simulated, random.Random(seed)) for seed in range(_SIMULATIONS)]
    return round(sum(spent) / len(spent) * budget / simulated)


def _simulate(scheduler: Scheduler, budget: int, luck: random.Random) -> int:
    trials: list[Trial] = []
    qualities: list[float] = []
    while True:
        match scheduler.decide(SearchState(tuple(trials)), budget):
            case StartTrial(until):
                qualities.append(luck.random())
                trials.append(_after_segment(Trial(len(trials), {}), until, qualities[-1], scheduler))
            case RunSegment(number, until):
                trials[number] = _after_segment(trials[number], until, qualities[number], scheduler)
            case _:
                return sum(trial.epochs for trial in trials)


def _after_segment(trial: Trial, until: int, quality: float, scheduler: Scheduler) -> Trial:
    state = TrialState.COMPLETED if until == scheduler.rungs.max_epochs else TrialState.PAUSED
    return replace(trial, state=state, epochs=until, rung_scores={**trial.rung_scores, until: quality})
