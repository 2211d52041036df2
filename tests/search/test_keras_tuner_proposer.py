"""Keras Tuner's oracles obey the laws; the faster Gaussian process predicts the same as the library's."""

import numpy as np
import pytest

from marsseg.search.keras_tuner_proposer import KerasTunerProposer
from tests.search.proposer_laws import (
    UNET,
    Build,
    ModelLaws,
    ProposerLaws,
    RandomLaws,
    build_bayesian,
    build_keras_tuner_random,
)


class TestBayesian(ProposerLaws, ModelLaws):
    # Each proposal takes a fifth of a second; 23 were enough to see all values.
    num_proposals = 30
    enough_to_see_all = 30

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
