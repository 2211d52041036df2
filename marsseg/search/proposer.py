"""Proposers: they suggest what a search tries next, from what they are told about the trials so far.

Proposal n is a function of the ledger, the search's seed and n: a proposer holds no state between two proposals.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from marsseg.search.scheduler import Rungs
from marsseg.search.space import Value
from marsseg.search.state import SearchState, Trial, TrialState

_MIN_TRIALS_AT_RUNG = 5
# The lowest value of the metric that trials are compared by.
_LOWEST = 0.0


@dataclass(frozen=True)
class Observation:
    """What a proposer may know about a trial.

    Args:
        values: The values that vary, by dotted path.
        score: How good it is, higher is better; None while it waits or is running without a score.
        failed: Whether it failed or was rejected; its score is then made up.
        sizes: The other objectives, lower is better; as many for each trial, none where the score alone counts.
    """

    values: Mapping[str, Value]
    score: float | None
    failed: bool = False
    sizes: tuple[float, ...] = ()


class Proposer(Protocol):
    """Suggests configurations from results."""

    def propose(self, observations: Sequence[Observation], seed: int) -> dict[str, Value]:
        """The next configuration.

        Args:
            observations: All trials so far, in the order of their numbers.
            seed: Random seed.

        Returns:
            Values of the active parameters by dotted path; the same for the same arguments.
        """


def proposal_seed(search_seed: int, number: int) -> int:
    """The seed of proposal `number`, in [0, 2³¹)."""
    digest = hashlib.sha256(f"proposal:{search_seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def observe(state: SearchState, rungs: Rungs, sizes: Sequence[str] = ()) -> list[Observation]:
    """What the sampler sees of a search's trials.

    Scores of different rungs are not comparable: a network is better after more epochs. All scores are told at the
    highest rung that at least five trials have reached; the score of a trial that was paused below it is its own rung's
    score plus the average gain from there of the trials that continued. So a paused leader stays ahead of the trials
    that it led, and the poor ones are still known. Failed and rejected trials are told with the worst score known, or
    samplers would propose them again and again; rejected duplicates are not told at all.

    Sizes are told as logarithms, since they span orders of magnitude; failed and rejected trials get the worst.

    Args:
        state: The state that the ledger adds up to.
        rungs: The epochs at which trials are compared.
        sizes: Names of the objectives besides the score.

    Returns:
        One observation per trial.
    """
    trials = [trial for trial in state.trials if trial.scores or trial.state is TrialState.RUNNING]
    reached = {level: [trial for trial in trials if trial.reached(level)] for level in rungs.levels}
    common = max(
        (level for level in rungs.levels if len(reached[level]) >= _MIN_TRIALS_AT_RUNG), default=rungs.levels[0]
    )

    @cache
    def gain(level: int) -> float:
        gains = [trial.score_at(common) - trial.score_at(level) for trial in reached[common]]
        return sum(gains) / len(gains) if gains else 0.0

    def score(trial: Trial) -> float | None:
        epoch = min(len(trial.scores), common)
        return trial.score_at(epoch) + gain(epoch) if epoch else None

    scores = {trial.number: score(trial) for trial in trials if trial.state is not TrialState.FAILED}
    worst = min((known for known in scores.values() if known is not None), default=_LOWEST)
    logs = {number: tuple(math.log(state.trials[number].sizes[name]) for name in sizes) for number in scores}
    largest = tuple(map(max, zip(*logs.values(), strict=True))) or (0.0,) * len(sizes)
    observations, seen = [], set()
    for trial in state.trials:
        failed = trial.state in (TrialState.FAILED, TrialState.REJECTED)
        values = frozenset(trial.values.items())
        if not (trial.state is TrialState.REJECTED and values in seen):
            told = worst if failed else scores.get(trial.number)
            observations.append(Observation(trial.values, told, failed, logs.get(trial.number, largest)))
        seen.add(values)
    return observations
