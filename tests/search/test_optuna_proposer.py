"""Optuna's samplers keep the laws."""

import pytest

from tests.search.proposer_laws import (
    Build,
    ModelLaws,
    ProposerLaws,
    RandomLaws,
    build_cmaes,
    build_gp,
    build_nsga2,
    build_random,
    build_tpe,
)


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
