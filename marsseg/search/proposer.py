"""Proposers: what a search tries next, and what they are told of what it has tried.

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
# Of the metric that trials are compared by.
_LOWEST = 0.0


@dataclass(frozen=True)
class Observation:
    """What a proposer may know of a trial.

    Args:
        values: The values that vary, by dotted path.
        score: How good it is, higher is better; None while it waits or is running without a score.
        failed: Whether it has come to nothing; its score then is made up.
        sizes: What counts besides, lower is better; as many for each trial, none where the score alone counts.
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
            seed: Decides whatever is random.

        Returns:
            Values of the active parameters by dotted path; the same for the same arguments.
        """


def proposal_seed(search_seed: int, number: int) -> int:
    """The seed of proposal `number`, in [0, 2³¹)."""
    digest = hashlib.sha256(f"proposal:{search_seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def observe(state: SearchState, rungs: Rungs, sizes: Sequence[str] = ()) -> list[Observation]:
    """What the sampler sees of a search's trials.

    Scores of different rungs do not compare: a network is better after more epochs. All are told at the level of the
    highest rung that at least five trials have reached; a trial that was paused below it is told its own rung's score
    plus what the trials that went on have gained from there on average. So a paused leader stays ahead of those that it
    led, and the poor ones are still known. What failed or was rejected is told as the worst score known: samplers would
    propose it again and again. Not so what was the same as another.

    Sizes are told by their logarithm, since they span orders of magnitude; of what failed or was rejected, the worst.

    Args:
        state: What the ledger adds up to.
        rungs: Where trials are compared.
        sizes: What counts besides the score, by name.

    Returns:
        One observation a trial.
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
