"""Optuna's samplers by name, each built so that it can start afresh for every proposal.

Only TPE models parameters that are active under a condition. The others model the parameters that every trial has, and
are told these once: to find out by themselves they would compare all trials with each other, for each trial told.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_limits

# Optuna's default of 50 would draw a whole search of 40 at random; TPE and the GP start with 10.
_POPULATION_SIZE = 10

Distributions = Mapping[str, BaseDistribution]

# These record each trial's generation, and have to be asked for a trial before they are told its score.
WITH_GENERATIONS = ("cmaes", "nsga2")


def build_sampler(name: str, always_active: Distributions, seed: int) -> BaseSampler:
    """A sampler without history.

    Args:
        name: One of Optuna's samplers in `SAMPLERS`.
        always_active: The parameters that every trial has.
        seed: Random seed.

    Returns:
        The sampler.
    """
    varying = {path: domain for path, domain in always_active.items() if not domain.single()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "gp":
                return GaussianProcess(varying, seed)
            case "cmaes":
                return CmaEs(varying, seed)
            case "nsga2":
                return Nsga2(varying, seed)
            case "random":
                return RandomSampler(seed=seed)
        # Without groups only parameters that every trial has are modelled.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class _OnTheAlwaysActive(BaseSampler):
    """Samples the parameters of `_together` jointly, and each other one independently."""

    _together: Distributions

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters of `_together`."""
        return dict(self._together)


class GaussianProcess(_OnTheAlwaysActive, GPSampler):
    """A Gaussian process and its expected improvement, from ten scores on; TPE draws conditional parameters.

    Args:
        always_active: The parameters that every trial has, with more than one value.
        seed: Random seed.
    """

    def __init__(self, always_active: Distributions, seed: int) -> None:
        super().__init__(seed=seed, independent_sampler=_one_by_one(seed), warn_independent_sampling=False)
        self._together = always_active

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The always active parameters' values; none before there are ten scores."""
        # PyTorch's threads can be limited only once it is imported.
        import torch  # noqa: F401  # wanted for its threads

        # One thread: sums must not depend on the machine, and for such small matrices more threads are slower.
        with threadpool_limits(1):
            return super().sample_relative(study, trial, search_space)


class CmaEs(_OnTheAlwaysActive, CmaEsSampler):
    """CMA-ES (Hansen, 2016, arXiv 1604.00772) on the numeric parameters that every trial has.

    It supports neither categorical nor conditional parameters: TPE draws those, each independently. In a space with few
    numeric parameters, TPE therefore does most of the search.

    Args:
        always_active: The parameters that every trial has, with more than one value.
        seed: Random seed.
    """

    def __init__(self, always_active: Distributions, seed: int) -> None:
        super().__init__(seed=seed, independent_sampler=_one_by_one(seed), warn_independent_sampling=False)
        choices = [path for path, domain in always_active.items() if isinstance(domain, CategoricalDistribution)]
        self._together = {path: domain for path, domain in always_active.items() if path not in choices}


class Nsga2(_OnTheAlwaysActive, NSGAIISampler):
    """NSGA-II (Deb et al., 2002) in generations of ten; the first generation is drawn at random.

    Children inherit the parameters that every trial has. Conditional parameters are drawn at random, as mutations are.

    Args:
        always_active: The parameters that every trial has, with more than one value.
        seed: Random seed.
    """

    def __init__(self, always_active: Distributions, seed: int) -> None:
        super().__init__(seed=seed, population_size=_POPULATION_SIZE)
        self._together = always_active


def _one_by_one(seed: int) -> TPESampler:
    return TPESampler(seed=seed, multivariate=False)
