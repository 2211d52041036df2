"""Optuna's samplers obey the laws."""

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
    # It soon settles on the parent's value with the best noise; children of its other values are rarely active.
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
    # Ten parents soon share most values; a lost value returns only by mutation, which is rare.
    enough_to_see_all = 400

    @pytest.fixture
    def build(self) -> Build:
        return build_nsga2


class TestRandom(ProposerLaws, RandomLaws):
    @pytest.fixture
    def build(self) -> Build:
        return build_random
