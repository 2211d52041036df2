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

# Those that take several objectives; the others look at the score alone.
SCHEDULERS_OF_SEVERAL_OBJECTIVES = ("asha", "hyperband", "topk", "none")


def default_scheduler(num_objectives: int) -> str:
    """The name of the one that has done best on recorded curves, of those that take so many objectives.

    Args:
        num_objectives: From 1.
    """
    return "freeze-thaw" if num_objectives == 1 else "asha"


def build_scheduler(name: str, rungs: Rungs, budget: Budget, workers: int) -> Scheduler:
    """A scheduler that keeps a budget.

    Args:
        name: One of `SCHEDULERS`.
        rungs: Where trials are compared.
        budget: What the search may spend.
        workers: Trials at a time.
    """
    if budget.trials is not None:
        return SCHEDULERS[name](rungs)
    # It alone looks ahead; of time, to that of all workers together.
    limit = budget.epochs or (budget.seconds or 0.0) * workers
    scheduler = FreezeThaw(rungs, limit) if name == "freeze-thaw" else SCHEDULERS[name](rungs)
    return Limited(scheduler, budget)
