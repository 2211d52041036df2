"""Baselines that need no library: fewer full training runs, or a few epochs of all before the best train in full."""

from collections.abc import Iterable, Sequence

from benchmarks.replay.account import Account
from benchmarks.replay.curves import MAX_EPOCHS
from benchmarks.replay.policies import Policy, Progress
from marsseg.search.simulation import Curve
from marsseg.search.state import score_at


def simple_peers() -> dict[str, Policy]:
    """Random search with fewer full training runs, and `r epochs then top k` for k = 1 and 2, by name."""
    return {"fewer full trainings": fewer_full_trainings, "top 1": top(1), "top 2": top(2)}


def fewer_full_trainings(curves: Sequence[Curve], limit: float, seed: int) -> Iterable[Progress]:
    """Trains one configuration after the other in full; the last one as far as the limit goes."""
    account = Account(curves, limit)
    all(account.train(number, MAX_EPOCHS) for number in range(len(curves)))
    return account.progress


def top(number: int) -> Policy:
    """Every configuration for r epochs, then the k best in full, the best first.

    They are compared by the mean of their last three epochs. r is the largest number of epochs with which the whole
    search fits the limit. It is found with hindsight, separately for each search: anyone who had to choose it
    beforehand could only do worse. Where not even one epoch of all fits, it is one epoch of as many as fit.

    Args:
        number: k.
    """

    def policy(curves: Sequence[Curve], limit: float, seed: int) -> Iterable[Progress]:
        plans = [(len(curves), epochs) for epochs in range(MAX_EPOCHS, 0, -1)]
        plans += [(size, 1) for size in range(len(curves) - 1, 0, -1)]
        for size, epochs in plans:
            account = Account(curves, limit)
            if _train(account, curves[:size], epochs, number):
                break
        return account.progress

    return policy


def _train(account: Account, curves: Sequence[Curve], epochs: int, number: int) -> bool:
    """Whether the whole search fits."""

    def score(place: int) -> float:
        return score_at(curves[place].scores, epochs)

    places = range(len(curves))
    if not all(account.train(place, epochs) for place in places):
        return False
    best = sorted(places, key=score, reverse=True)[:number]
    return all(account.train(place, MAX_EPOCHS) for place in best)
