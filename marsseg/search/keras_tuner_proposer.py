"""Keras Tuner's oracles as proposers.

An oracle is rebuilt for each proposal and filled from the ledger: neither its files, which a kill can leave
inconsistent with each other, nor its locks are ever used.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras_tuner
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from threadpoolctl import threadpool_limits

from marsseg.search.proposer import Observation
from marsseg.search.space import (
    BoolParameter,
    ChoiceParameter,
    Domain,
    FloatParameter,
    IntParameter,
    Parameter,
    Space,
    Value,
)

# As many as Optuna's TPE draws at random; Keras Tuner's default of three per parameter would outlast a search of 40.
_INITIAL_POINTS = 10
_OBJECTIVE = "score"


@dataclass(frozen=True)
class KerasTunerProposer:
    """Suggests configurations with one of Keras Tuner's oracles.

    Args:
        space: The search space.
        sampler: `bayesian` (a Gaussian process and its upper confidence bound) or `random`.
    """

    space: Space
    sampler: str = "bayesian"

    def propose(self, observations: Sequence[Observation], seed: int) -> dict[str, Value]:
        """The next configuration, a function of the arguments alone."""
        oracle = self._build_oracle(seed)
        # One thread: sums must not depend on the machine, and for such small matrices more threads are slower.
        with warnings.catch_warnings(), threadpool_limits(1):
            # Scores that no hyperparameter explains push a length scale to its bound.
            warnings.simplefilter("ignore", ConvergenceWarning)
            _tell(oracle, observations)
            values = oracle.populate_space("next")["values"]
        return {path: _within(self.space.by_path[path].domain, value) for path, value in values.items()}

    def _build_oracle(self, seed: int) -> Any:
        common = {
            "objective": keras_tuner.Objective(_OBJECTIVE, "max"),
            "hyperparameters": build_hyperparameters(self.space),
            # 0 would mean a random seed.
            "seed": seed + 1,
        }
        if self.sampler == "random":
            return keras_tuner.oracles.RandomSearchOracle(**common)
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(num_initial_points=_INITIAL_POINTS, **common)
        if oracle.gpr.kernel == _GaussianProcess.known_kernel:
            oracle.gpr = _GaussianProcess(**oracle.gpr.get_params(deep=False))
        return oracle


class _GaussianProcess(GaussianProcessRegressor):  # type: ignore[misc]  # ships no types
    """Scikit-learn's regressor with the same predictions, computed faster.

    The oracle asks for one point at a time, ten thousand times per proposal, and nearly all of that time would go into
    checking the arguments.
    """

    known_kernel = Matern(nu=2.5)

    def predict(self, points: NDArray[np.float64], return_std: bool = False) -> Any:
        """Mean, and standard deviation where wanted, at points of shape (n, parameters)."""
        if not hasattr(self, "alpha_"):
            return super().predict(points, return_std=return_std)
        distance = cdist(points, self.X_train_) * (math.sqrt(5) / self.kernel_.length_scale)
        covariance = (1 + distance + distance**2 / 3) * np.exp(-distance)
        mean = self._y_train_std * (covariance @ self.alpha_) + self._y_train_mean
        if not return_std:
            return mean
        explained = solve_triangular(self.L_, covariance.T, lower=True, check_finite=False)
        variance = np.maximum(1 - (explained**2).sum(axis=0), 0)
        return mean, self._y_train_std * np.sqrt(variance)


def build_hyperparameters(space: Space) -> Any:
    """A space as Keras Tuner's hyperparameters, with its conditions and without values.

    Args:
        space: The search space.

    Returns:
        A `keras_tuner.HyperParameters`.
    """
    hyperparameters = keras_tuner.HyperParameters()
    declare_space(hyperparameters, space)
    hyperparameters.values = {}
    return hyperparameters


def declare_space(hyperparameters: Any, space: Space) -> None:
    """Adds a space's parameters, with its conditions and Keras Tuner's default values.

    Args:
        hyperparameters: A `keras_tuner.HyperParameters`.
        space: The search space.
    """
    for parameter in space.parameters:
        with ExitStack() as scopes:
            for parent, allowed in _conditions(space, parameter):
                scopes.enter_context(hyperparameters.conditional_scope(parent, list(allowed)))
            _register(hyperparameters, parameter)


def read_values(hyperparameters: Any, space: Space) -> dict[str, Value]:
    """The values of a space's active parameters by dotted path.

    Args:
        hyperparameters: A `keras_tuner.HyperParameters` that the space was declared to.
        space: The search space.
    """
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if parameter.is_active(values):
            values[parameter.path] = _within(parameter.domain, hyperparameters.get(parameter.path))
    return values


def _conditions(space: Space, parameter: Parameter) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """A parameter's conditions, each after those of its parent: a scope is known only inside its parent's scope."""
    for parent, allowed in parameter.when.items():
        yield from _conditions(space, space.by_path[parent])
        yield parent, allowed


def _register(hyperparameters: Any, parameter: Parameter) -> None:
    path = parameter.path
    match parameter.domain:
        case IntParameter(low, high, step, log):
            hyperparameters.Int(path, low, high, **({"sampling": "log"} if log else {"step": step}))
        case FloatParameter(low, high, None, log):
            hyperparameters.Float(path, low, high, sampling="log" if log else "linear")
        case FloatParameter(low, high, float(step)):
            # Keras Tuner's own steps lose the last value wherever the division is not exact.
            values = [min(low + index * step, high) for index in range(round((high - low) / step) + 1)]
            hyperparameters.Choice(path, values, ordered=True)
        case ChoiceParameter(options) if isinstance(options[0], bool):
            # Keras Tuner's Choice would turn them into 0 and 1.
            if len(options) == 1:
                hyperparameters.Fixed(path, options[0])
            else:
                hyperparameters.Boolean(path)
        case ChoiceParameter(options):
            hyperparameters.Choice(path, list(options), ordered=False)
        case BoolParameter():
            hyperparameters.Boolean(path)


def _tell(oracle: Any, observations: Sequence[Observation]) -> None:
    """Puts trials into an oracle as if it had proposed them itself."""
    running = []
    for number, observation in enumerate(observations):
        hyperparameters = oracle.hyperparameters.copy()
        hyperparameters.values = dict(observation.values)
        trial = keras_tuner.engine.trial.Trial(hyperparameters, trial_id=str(number))
        if observation.score is None:
            running.append(trial)
        else:
            trial.score, trial.status = observation.score, "COMPLETED"
            oracle.trials[trial.trial_id] = trial
    if running and hasattr(oracle, "gpr") and len(oracle.trials) >= _INITIAL_POINTS:
        # It guesses running trials' scores before it fits; an oracle that lived on would still have its last fit.
        oracle.gpr.fit(*oracle._vectorize_trials())
    for trial in running:
        oracle.trials[trial.trial_id] = oracle.ongoing_trials[trial.trial_id] = trial


def _within(domain: Domain, value: Any) -> Value:
    """A plain value within its bounds: at the upper end of a logarithmic scale Keras Tuner rounds beyond them."""
    if isinstance(domain, IntParameter | FloatParameter):
        value = min(max(value, domain.low), domain.high)
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain
