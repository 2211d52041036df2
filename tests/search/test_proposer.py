"""Proposers: laws that every engine keeps, and what a proposer is told of a search."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.search.engines import SAMPLERS, build_proposer
from marsseg.search.keras_tuner_proposer import KerasTunerProposer
from marsseg.search.proposer import Observation, Proposer, observe, proposal_seed
from marsseg.search.scheduler import Rungs
from marsseg.search.space import (
    BoolParameter,
    ChoiceParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    Space,
    Value,
)
from marsseg.search.space_file import load_space
from marsseg.search.state import SearchState, Trial, TrialState

UNET = load_space(Path(__file__).parents[2] / "search_spaces" / "unet.toml")
# Every kind of domain and a condition below a condition; no field of the config, the engines do not look.
MIXED = Space(
    "mixed",
    {},
    (
        Parameter("int", IntParameter(-3, 3)),
        Parameter("int_step", IntParameter(0, 64, step=16)),
        Parameter("int_log", IntParameter(1, 128, log=True)),
        Parameter("float", FloatParameter(-1.0, 1.0)),
        Parameter("float_step", FloatParameter(0.0, 1.0, step=0.25)),
        # Not exact in binary, where a division loses the last step.
        Parameter("float_tenths", FloatParameter(0.0, 0.5, step=0.1)),
        Parameter("float_log", FloatParameter(1e-6, 1.0, log=True)),
        Parameter("bool", BoolParameter()),
        Parameter("ints", ChoiceParameter((8, 32, 16)), {"bool": (True,)}),
        Parameter("floats", ChoiceParameter((0.5, 1.0, 2.0)), {"ints": (8, 16)}),
        Parameter("texts", ChoiceParameter(("a", "b", "none"))),
        Parameter("bools", ChoiceParameter((True, False))),
        Parameter("only", ChoiceParameter((4,))),
    ),
)
RUNGS = Rungs(3, 27, 3)
Build = Callable[[Space], Proposer]


def check_in_space(values: Mapping[str, Value], space: Space) -> None:
    active = [parameter.path for parameter in space.parameters if parameter.is_active(values)]
    assert list(values) == active
    for path, value in values.items():
        domain = space.by_path[path].domain
        if isinstance(domain, ChoiceParameter | BoolParameter):
            assert (type(value), value) in [(type(option), option) for option in domain.bounds()]
        else:
            assert type(value) is type(domain.low)
            assert domain.low <= value <= domain.high
            if domain.step is not None:
                assert (value - domain.low) / domain.step == pytest.approx(round((value - domain.low) / domain.step))


def search_200(build: Build, space: Space) -> list[dict[str, Any]]:
    """200 proposals, each with the 15 before it as observations, one of five still running."""
    return search_through(build, space.name, 200)


@lru_cache
def search_through(build: Build, name: str, num_proposals: int) -> list[dict[str, Any]]:
    space = {"unet": UNET, "mixed": MIXED}[name]
    noise = random.Random(0)
    observations: list[Observation] = []
    for number in range(num_proposals):
        values = build(space).propose(observations[-15:], proposal_seed(7, number))
        observations.append(Observation(values, None if number % 5 == 4 else noise.random()))
    return [dict(observation.values) for observation in observations]


class ProposerLaws:
    """What every engine owes; a subclass says how it is built."""

    enough_to_see_all = 200
    sees_all_below_conditions = True

    @pytest.fixture
    def build(self) -> Build:
        raise NotImplementedError

    @pytest.mark.parametrize("space", [UNET, MIXED], ids=lambda space: space.name)
    def test_proposals_stay_in_the_space_with_its_types_and_without_inactive_values(
        self, build: Build, space: Space
    ) -> None:
        for values in search_200(build, space):
            check_in_space(values, space)

    @pytest.mark.parametrize("space", [UNET, MIXED], ids=lambda space: space.name)
    def test_every_choice_is_seen(self, build: Build, space: Space) -> None:
        proposals = search_through(build, space.name, self.enough_to_see_all)
        for parameter in space.parameters:
            if parameter.when and not self.sees_all_below_conditions:
                continue
            seen = {values[parameter.path] for values in proposals if parameter.path in values}
            if isinstance(parameter.domain, ChoiceParameter | BoolParameter):
                assert seen == set(parameter.domain.bounds()), parameter.path
            elif parameter.domain.step is not None and not parameter.domain.log:
                steps = (parameter.domain.high - parameter.domain.low) / parameter.domain.step
                assert len(seen) == round(steps) + 1, parameter.path

    def test_conditional_values_come_and_go(self, build: Build) -> None:
        present = ["optimizer.weight_decay" in values for values in search_200(build, UNET)]
        assert any(present)
        assert not all(present)

    def test_each_proposal_is_a_valid_config(self, build: Build) -> None:
        base = ExperimentConfig().with_values(UNET.fixed)
        hashes = {base.with_values(values).config_hash() for values in search_200(build, UNET)}
        assert len(hashes) > 150

    def test_same_seed_and_observations_give_the_same_proposal(self, build: Build) -> None:
        observations = [Observation(values, index / 30) for index, values in enumerate(search_200(build, UNET)[:30])]
        first = build(UNET).propose(observations, 11)
        assert build(UNET).propose(list(observations), 11) == first
        others = [build(UNET).propose(observations, seed) for seed in range(12, 17)]
        assert any(other != first for other in others)

    def test_a_proposer_keeps_nothing_from_one_proposal_to_the_next(self, build: Build) -> None:
        used = build(UNET)
        observations = [Observation(values, 0.5) for values in search_200(build, UNET)[:12]]
        for seed in range(3):
            used.propose(observations, seed)
        assert used.propose(observations, 9) == build(UNET).propose(observations, 9)

    def test_survives_no_observations_running_ones_alone_and_equal_scores(self, build: Build) -> None:
        proposals = search_200(build, UNET)[:20]
        for scores in ([], [None] * 20, [0.0] * 20, [None, -1.0, 2.5] * 5):
            observations = [Observation(values, score) for values, score in zip(proposals, scores, strict=False)]
            check_in_space(build(UNET).propose(observations, 3), UNET)

    def test_pinned_parameters_keep_their_value(self, build: Build) -> None:
        pinned = UNET.pinned({"optimizer.name": "adam", "model.num_blocks": 4})
        values = build(pinned).propose([], 1)
        check_in_space(values, pinned)
        assert (values["optimizer.name"], values["model.num_blocks"]) == ("adam", 4)

    def test_a_pinned_child_is_always_there(self, build: Build) -> None:
        pinned = UNET.pinned({"optimizer.weight_decay": 1e-3, "model.predict_background": False})
        for seed in range(8):
            values = build(pinned).propose([], seed)
            check_in_space(values, pinned)
            assert (values["optimizer.name"], values["optimizer.weight_decay"]) == ("adamw", 1e-3)
            assert (values["loss.background_weight"], values["model.predict_background"]) == (0.0, False)


def build_tpe(space: Space) -> Proposer:
    return build_proposer("optuna", "tpe", space)


def build_random(space: Space) -> Proposer:
    return build_proposer("optuna", "random", space)


def build_bayesian(space: Space) -> Proposer:
    return build_proposer("keras-tuner", "bayesian", space)


def build_keras_tuner_random(space: Space) -> Proposer:
    return build_proposer("keras-tuner", "random", space)


def build_gp(space: Space) -> Proposer:
    return build_proposer("optuna", "gp", space)


def build_cmaes(space: Space) -> Proposer:
    return build_proposer("optuna", "cmaes", space)


def build_nsga2(space: Space) -> Proposer:
    return build_proposer("optuna", "nsga2", space)


class ModelLaws:
    """What a sampler that models scores owes besides."""

    def test_good_observations_draw_proposals_near_them(self, build: Build) -> None:
        def score(values: Mapping[str, Any]) -> float:
            return float(values["model.num_blocks"] == 5) + float(values["optimizer.name"] == "adam")

        observations = [Observation(values, score(values)) for values in search_200(build_random, UNET)[:40]]
        proposals = [build(UNET).propose(observations, seed) for seed in range(8)]
        mean = sum(map(score, proposals)) / len(proposals)
        assert mean > sum(observation.score or 0.0 for observation in observations) / len(observations) + 0.3


class RandomLaws:
    """What a sampler that draws at random owes besides."""

    def test_looks_at_no_observation(self, build: Build) -> None:
        observations = [Observation(values, 1.0) for values in search_200(build_random, UNET)[:10]]
        assert build(UNET).propose(observations, 5) == build(UNET).propose([], 5)


class TestTpe(ProposerLaws, ModelLaws):
    @pytest.fixture
    def build(self) -> Build:
        return build_tpe


class TestGaussianProcess(ProposerLaws, ModelLaws):
    # It soon settles on the value of a parent for which the noise is best; other values' children are rarely there.
    sees_all_below_conditions = False

    @pytest.fixture
    def build(self) -> Build:
        pytest.importorskip("torch", reason="the extra 'gp' is not installed")
        return build_gp


class TestCmaEs(ProposerLaws, ModelLaws):
    @pytest.fixture
    def build(self) -> Build:
        return build_cmaes


class TestNsga2(ProposerLaws, ModelLaws):
    # Ten parents soon have most in common; what they lack comes back by a mutation in fourteen.
    enough_to_see_all = 400

    @pytest.fixture
    def build(self) -> Build:
        return build_nsga2


class TestRandom(ProposerLaws, RandomLaws):
    @pytest.fixture
    def build(self) -> Build:
        return build_random


class TestBayesian(ProposerLaws, ModelLaws):
    @pytest.fixture
    def build(self) -> Build:
        return build_bayesian

    def test_the_fast_gaussian_process_predicts_what_the_librarys_does(self) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor

        from marsseg.search.keras_tuner_proposer import _GaussianProcess

        luck = np.random.default_rng(0)
        points, elsewhere = luck.random((20, 6)), luck.random((50, 6))
        scores = points.sum(axis=1)
        oracle = KerasTunerProposer(UNET, "bayesian")._build_oracle(1)
        assert isinstance(oracle.gpr, _GaussianProcess)
        fast = oracle.gpr.fit(points, scores)
        library = GaussianProcessRegressor(**fast.get_params(deep=False)).fit(points, scores)
        mean, deviation = library.predict(elsewhere, return_std=True)
        np.testing.assert_allclose(fast.predict(elsewhere, return_std=True), (mean, deviation), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(fast.predict(elsewhere), mean, rtol=1e-7, atol=1e-9)


class TestKerasTunerRandom(ProposerLaws, RandomLaws):
    @pytest.fixture
    def build(self) -> Build:
        return build_keras_tuner_random


def test_all_samplers_have_their_laws() -> None:
    assert SAMPLERS == {"optuna": ("tpe", "gp", "cmaes", "nsga2", "random"), "keras-tuner": ("bayesian", "random")}


def test_proposal_seeds_differ_by_search_and_number() -> None:
    seeds = {proposal_seed(search, number) for search in range(20) for number in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**31 for seed in seeds)


def trial(number: int, scores: dict[int, float], state: TrialState = TrialState.PAUSED) -> Trial:
    """Its scores by rung; each holds from the rung before."""
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
    """Points and their scores by rung: twelve far from the leader, the better of them trained on; then the leader.

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
    # What observing saves from: scores of different rungs side by side, and a good trial that counts as a bad one.
    assert distance["its last score"] > distance["as observed"] + 0.2
    assert distance["as running"] > distance["as observed"] + 0.1
