"""Laws that every engine's samplers obey, the spaces they are tested in, and how each sampler is built."""

import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from marsseg.config import ExperimentConfig
from marsseg.search.engines import build_proposer
from marsseg.search.proposer import Observation, Proposer, proposal_seed
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

UNET = load_space(Path(__file__).parents[2] / "search_spaces" / "unet.toml")
# Every kind of domain and a nested condition; the paths are not config fields, which engines do not check.
MIXED = Space(
    "mixed",
    {},
    (
        Parameter("int", IntParameter(-3, 3)),
        Parameter("int_step", IntParameter(0, 64, step=16)),
        Parameter("int_log", IntParameter(1, 128, log=True)),
        Parameter("float", FloatParameter(-1.0, 1.0)),
        Parameter("float_step", FloatParameter(0.0, 1.0, step=0.25)),
        # Not exact in binary, so that a plain division would lose the last step.
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


@lru_cache
def search_through(build: Build, name: str, num_proposals: int) -> list[dict[str, Any]]:
    """Proposals, each made with the 15 before it as observations, one in five of them still running."""
    space = {"unet": UNET, "mixed": MIXED}[name]
    noise = random.Random(0)
    observations: list[Observation] = []
    for number in range(num_proposals):
        values = build(space).propose(observations[-15:], proposal_seed(7, number))
        observations.append(Observation(values, None if number % 5 == 4 else noise.random()))
    return [dict(observation.values) for observation in observations]


class ProposerLaws:
    """The laws for every engine; a subclass says how its sampler is built."""

    num_proposals = 200
    enough_to_see_all = 200
    sees_all_below_conditions = True

    @pytest.fixture
    def build(self) -> Build:
        raise NotImplementedError

    def search(self, build: Build, space: Space) -> list[dict[str, Any]]:
        return search_through(build, space.name, self.num_proposals)

    @pytest.mark.parametrize("space", [UNET, MIXED], ids=lambda space: space.name)
    def test_proposals_stay_in_the_space_with_its_types_and_without_inactive_values(
        self, build: Build, space: Space
    ) -> None:
        for values in self.search(build, space):
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
        present = ["optimizer.weight_decay" in values for values in self.search(build, UNET)]
        assert any(present)
        assert not all(present)

    def test_each_proposal_is_a_valid_config(self, build: Build) -> None:
        base = ExperimentConfig().with_values(UNET.fixed)
        hashes = {base.with_values(values).config_hash() for values in self.search(build, UNET)}
        assert len(hashes) > 0.75 * self.num_proposals

    def test_same_seed_and_observations_give_the_same_proposal(self, build: Build) -> None:
        observations = [Observation(values, index / 30) for index, values in enumerate(self.search(build, UNET)[:30])]
        first = build(UNET).propose(observations, 11)
        assert build(UNET).propose(list(observations), 11) == first
        others = [build(UNET).propose(observations, seed) for seed in range(12, 17)]
        assert any(other != first for other in others)

    def test_a_proposer_keeps_nothing_from_one_proposal_to_the_next(self, build: Build) -> None:
        used = build(UNET)
        observations = [Observation(values, 0.5) for values in self.search(build, UNET)[:12]]
        for seed in range(3):
            used.propose(observations, seed)
        assert used.propose(observations, 9) == build(UNET).propose(observations, 9)

    def test_survives_no_observations_running_ones_alone_and_equal_scores(self, build: Build) -> None:
        proposals = self.search(build, UNET)[:20]
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
    """Additional laws for a sampler that models scores."""

    def test_good_observations_draw_proposals_near_them(self, build: Build) -> None:
        def score(values: Mapping[str, Any]) -> float:
            return float(values["model.num_blocks"] == 5) + float(values["optimizer.name"] == "adam")

        observations = [Observation(values, score(values)) for values in search_through(build_random, UNET.name, 40)]
        proposals = [build(UNET).propose(observations, seed) for seed in range(4)]
        mean = sum(map(score, proposals)) / len(proposals)
        assert mean > sum(observation.score or 0.0 for observation in observations) / len(observations) + 0.3


class RandomLaws:
    """Additional laws for a sampler that draws at random."""

    def test_looks_at_no_observation(self, build: Build) -> None:
        observations = [Observation(values, 1.0) for values in search_through(build_random, UNET.name, 10)]
        assert build(UNET).propose(observations, 5) == build(UNET).propose([], 5)
