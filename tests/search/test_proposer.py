"""Proposers: every one has its laws, and what a proposer is told about a search."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from marsseg.search.engines import SAMPLERS
from marsseg.search.proposer import Observation, observe, proposal_seed
from marsseg.search.scheduler import Rungs
from marsseg.search.space import FloatParameter, Parameter, Space
from marsseg.search.state import SearchState, Trial, TrialState
from tests.search.proposer_laws import Build, build_bayesian, build_tpe

RUNGS = Rungs(3, 27, 3)


def test_all_samplers_have_their_laws() -> None:
    assert SAMPLERS == {"optuna": ("tpe", "gp", "cmaes", "nsga2", "random"), "keras-tuner": ("bayesian", "random")}


def test_proposal_seeds_differ_by_search_and_number() -> None:
    seeds = {proposal_seed(search, number) for search in range(20) for number in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**31 for seed in seeds)


def trial(number: int, scores: dict[int, float], state: TrialState = TrialState.PAUSED) -> Trial:
    """A trial with these scores by rung; each score also holds for the epochs since the rung before."""
    flat = [scores[min(level for level in scores if level >= epoch)] for epoch in range(1, max(scores, default=0) + 1)]
    return Trial(number, {"n": number}, state, epochs=len(flat), scores=tuple(flat))


def observed(*trials: Trial) -> dict[Any, float | None]:
    return {observation.values["n"]: observation.score for observation in observe(SearchState(trials), RUNGS)}


def test_what_waits_or_runs_is_told_without_score_and_what_failed_or_was_rejected_as_the_worst() -> None:
    assert observed(
        trial(0, {3: 0.5}),
        trial(1, {}, TrialState.RUNNING),
        trial(2, {}, TrialState.FAILED),
        trial(3, {3: 0.4}, TrialState.FAILED),
        trial(4, {}, TrialState.REJECTED),
        trial(5, {}, TrialState.PROPOSED),
        trial(6, {3: 0.6}, TrialState.RUNNING),
        trial(0, {}, TrialState.REJECTED),
    ) == {0: 0.5, 1: None, 2: 0.5, 3: 0.5, 4: 0.5, 5: None, 6: 0.6}
    assert observed(trial(0, {}, TrialState.REJECTED)) == {0: 0.0}


def test_a_rung_counts_from_five_trials_on() -> None:
    four = [trial(number, {3: 0.1 * number, 9: 0.1 * number + 0.3}) for number in range(4)]
    assert observed(*four)[3] == pytest.approx(0.3)
    fifth = trial(4, {3: 0.4, 9: 0.7})
    assert observed(*four, fifth)[3] == pytest.approx(0.6)


def test_a_paused_leader_stays_ahead_of_those_it_led() -> None:
    promoted = [trial(number, {3: 0.1 * number, 9: 0.1 * number + 0.3}) for number in range(5)]
    scores = observed(*promoted, trial(5, {3: 0.45}), trial(6, {3: -0.2}))
    assert scores[5] == pytest.approx(0.75)
    assert max(scores, key=lambda number: scores[number] or 0.0) == 5
    assert min(scores, key=lambda number: scores[number] or 0.0) == 6


def test_a_trial_beyond_the_common_rung_is_told_at_it() -> None:
    rest = [trial(number, {3: 0.1}) for number in range(5)]
    assert observed(trial(9, {3: 0.2, 9: 0.6, 27: 0.9}, TrialState.COMPLETED), *rest)[9] == pytest.approx(0.2)


def test_a_trial_that_stopped_early_between_rungs_is_told_its_last_score_below_the_common_one() -> None:
    full = [trial(number, {3: 0.1, 9: 0.4, 27: 0.5}, TrialState.COMPLETED) for number in range(5)]
    early = trial(5, {3: 0.2, 9: 0.5, 14: 0.6}, TrialState.COMPLETED)
    assert observed(*full, early)[5] == pytest.approx(0.6)


def test_full_trainings_without_rungs_are_told_as_they_are() -> None:
    assert observed(*(trial(number, {27: 0.1 * number}, TrialState.COMPLETED) for number in range(3))) == {
        number: pytest.approx(0.1 * number) for number in range(3)
    }


PLANE = Space("plane", {}, (Parameter("x", FloatParameter(0.0, 1.0)), Parameter("y", FloatParameter(0.0, 1.0))))
LEADER = {"x": 0.85, "y": 0.85}


def search_with_a_paused_leader() -> tuple[list[dict[str, float]], list[dict[int, float]]]:
    """Points and their scores by rung: twelve far from the leader, the best of them promoted; then the leader.

    Every score grows towards the leader, and by 0.3 from rung to rung.
    """
    luck = random.Random(0)
    points = [{"x": luck.uniform(0.0, 0.6), "y": luck.uniform(0.0, 0.6)} for _ in range(12)] + [LEADER]
    first = [0.1 + 0.15 * (point["x"] + point["y"]) for point in points]
    promoted = sorted(range(12), key=lambda number: -first[number])[:5]
    return points, [{3: score} | ({9: score + 0.3} if n in promoted else {}) for n, score in enumerate(first)]


@pytest.mark.parametrize("build", [build_tpe, build_bayesian])
def test_a_paused_leader_does_not_push_the_next_proposals_away(build: Build) -> None:
    points, scores = search_with_a_paused_leader()
    trials = [replace(trial(n, by_rung), values=points[n]) for n, by_rung in enumerate(scores)]
    told = {
        "as observed": observe(SearchState(tuple(trials)), RUNGS),
        "not at all": observe(SearchState(tuple(trials[:-1])), RUNGS),
        "as running": [*observe(SearchState(tuple(trials[:-1])), RUNGS), Observation(LEADER, None)],
        "its last score": [Observation(points[n], by_rung[max(by_rung)]) for n, by_rung in enumerate(scores)],
    }
    distance = {}
    for how, observations in told.items():
        proposals = [build(PLANE).propose(observations, seed) for seed in range(6)]
        distance[how] = sum(math.dist((v["x"], v["y"]), (LEADER["x"], LEADER["y"])) for v in proposals) / 6
    assert distance["as observed"] <= distance["not at all"] + 0.02
    # What `observe` prevents: scores of different rungs side by side, and a good trial that counts as a bad one.
    assert distance["its last score"] > distance["as observed"] + 0.2
    assert distance["as running"] > distance["as observed"] + 0.1
