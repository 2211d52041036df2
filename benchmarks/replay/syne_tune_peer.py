"""Syne Tune as itself: its promotion ASHA, in a process of its own, since it needs other library versions than ours."""

import weakref
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property

from benchmarks.processes import Side, side
from benchmarks.replay.account import Account
from benchmarks.replay.policies import RUNGS, Progress
from marsseg.search.simulation import Curve


class SyneTuneAsha:
    """A policy; see `benchmarks.sides.syne_tune`. Its process starts with the first search and ends with this object.

    Args:
        python: A Python that has Syne Tune.
    """

    def __init__(self, python: str) -> None:
        self._python = python
        self._processes = ExitStack()
        weakref.finalize(self, self._processes.close)

    def __call__(self, curves: Sequence[Curve], limit: float, seed: int) -> Iterable[Progress]:
        """A search until there is nothing left to start or to promote, or up to the limit."""
        question = {**asdict(RUNGS), "curves": [curve.scores for curve in curves], "seed": seed}
        account = Account(curves, limit)
        all(account.train(number, epoch) for number, epoch in self._side.ask(question))
        return account.progress

    @cached_property
    def _side(self) -> Side:
        return self._processes.enter_context(side("syne_tune", python=self._python))
