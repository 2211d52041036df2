"""The type of a policy, and our own policies."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.replay.curves import MAX_EPOCHS
from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.scheduler import Rungs
from marsseg.search.schedulers import SCHEDULERS
from marsseg.search.simulation import Curve, simulate

# A configuration's index in the order of the search, and the epoch that its training has reached.
Progress = tuple[int, int]
# Takes the configurations in their order, the cost that it may spend, and a seed; yields the progress, in order.
Policy = Callable[[Sequence[Curve], float, int], Iterable[Progress]]

RUNGS = Rungs(3, MAX_EPOCHS, 3)


def ours() -> dict[str, Policy]:
    """Our schedulers by name."""
    return {name: _policy(name) for name in SCHEDULERS if name != "none"}


def _policy(name: str) -> Policy:
    def policy(curves: Sequence[Curve], limit: float, seed: int) -> Iterator[Progress]:
        scheduler = FreezeThaw(RUNGS, limit) if name == "freeze-thaw" else SCHEDULERS[name](RUNGS)
        for moment in simulate(scheduler, curves, len(curves)):
            number = moment.state.last_trained
            if number is not None:
                yield number, moment.state.trials[number].epochs

    return policy
