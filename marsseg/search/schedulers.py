"""The schedulers by name."""

from collections.abc import Callable, Mapping

from marsseg.search.budget import Budget, Limited
from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.scheduler import Rungs, Scheduler
from marsseg.search.stopping import FullTraining, MedianStopping
from marsseg.search.successive_halving import Asha, Hyperband, TopK

SCHEDULERS: Mapping[str, Callable[[Rungs], Scheduler]] = {
    "freeze-thaw": FreezeThaw,
    "asha": Asha,
    "hyperband": Hyperband,
    "median": MedianStopping,
    "topk": TopK,
    "none": FullTraining,
}

# Schedulers that take several objectives; the others consider the score alone.
SCHEDULERS_OF_SEVERAL_OBJECTIVES = ("asha", "hyperband", "topk", "none")


def default_scheduler(num_objectives: int) -> str:
    """The name of the scheduler that did best on recorded curves, among those that take this many objectives.

    Args:
        num_objectives: At least 1.
    """
    return "freeze-thaw" if num_objectives == 1 else "asha"


def build_scheduler(name: str, rungs: Rungs, budget: Budget, workers: int) -> Scheduler:
    """A scheduler that keeps within a budget.

    Args:
        name: One of `SCHEDULERS`.
        rungs: The epochs at which trials are compared.
        budget: What the search may spend.
        workers: Number of trials that train at a time.
    """
    if budget.trials is not None:
        return SCHEDULERS[name](rungs)
    # Freeze-thaw alone plans ahead, and counts time as that of all workers together.
    limit = budget.epochs or (budget.seconds or 0.0) * workers
    scheduler = FreezeThaw(rungs, limit) if name == "freeze-thaw" else SCHEDULERS[name](rungs)
    return Limited(scheduler, budget)
