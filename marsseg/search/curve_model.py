"""Predictions of learning curves: one Gaussian process over all trials and epochs of a search."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel
from threadpoolctl import ThreadpoolController

from marsseg.search.state import Trial

Array = NDArray[np.float64]

# A curve in units of the search's own scale: it starts near 0.2 and has gained 1 by the end of full training.
_FIRST = 0.2
# Standard deviations, in units of `_UNIT` times that gain.
_LEVEL, _OWN, _OWN_GAIN, _WIGGLE = 0.8, 0.3, 1.5, 0.4
_UNIT = 0.8
_WIGGLE_LENGTH = 0.25
# The share of the differences between configurations that their values explain, and the squared length scale of that.
_EXPLAINED, _SQUARED_LENGTH = 0.6, 2.0
_NOISE, _LEAST_NOISE, _RESIDUALS_FOR_NOISE = 0.3, 0.05, 10
_ALL_EPOCHS_UP_TO, _SPACING = 4, 1.3
# Numbers whose range spans at least this factor are compared by their logarithms.
_WIDE = 8.0


class CurveModel:
    """A Gaussian process of scores over (configuration, epoch), as in freeze-thaw Bayesian optimisation.

    After Swersky et al., 2014 (arXiv 1406.3896), with another kernel: curves are smooth in the logarithm of the epoch,
    share a level and a gain, and differ by both; similar configurations differ less. The prior's scale is taken from
    the scores seen, its noise from their jitter.

    Args:
        trials: All trials whose curves are observed or predicted.
        max_epochs: Epochs of full training.
    """

    def __init__(self, trials: Sequence[Trial], max_epochs: int) -> None:
        self._max_epochs = max_epochs
        self._features = dict(zip((t.number for t in trials), featurize([t.values for t in trials]), strict=True))
        told = [trial for trial in trials if trial.scores]
        points = [(trial, epoch) for trial in told for epoch in _told_epochs(len(trial.scores))]
        self._told = self._rows([(trial.number, epoch) for trial, epoch in points])
        self._scores = np.array([trial.scores[epoch - 1] for trial, epoch in points])
        typical = _typical(self._told)
        self._gain = float(self._scores @ typical / (typical @ typical)) or 1.0
        self._noise = _jitter(told, self._gain * _UNIT)
        self._fit()

    def predict(self, points: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """The expected scores, without the jitter of single epochs.

        Args:
            points: Pairs of trial and epoch.

        Returns:
            Mean and standard deviation, each of shape (points,).
        """
        rows = self._rows(points)
        with _threads().limit(limits=1):
            mean, deviation = self._process.predict(rows, return_std=True)
        scale = abs(self._gain) * _UNIT
        return mean * self._gain * _UNIT + self._gain * _typical(rows), deviation * scale

    def condition_on_predictions(self, points: Sequence[tuple[int, int]]) -> None:
        """Conditions on its own predicted mean at these points (Kriging believer), for trials still running.

        Args:
            points: Pairs of trial and epoch.
        """
        expected, _ = self.predict(points)
        self._told = np.concatenate([self._told, self._rows(points)])
        self._scores = np.concatenate([self._scores, expected])
        self._fit()

    def _fit(self) -> None:
        # Scikit-learn's own search for kernel hyperparameters would take seconds at each decision.
        self._process = GaussianProcessRegressor(_CurveKernel(), alpha=self._noise**2, optimizer=None)
        # One thread: sums must not depend on the machine, and for such small matrices more threads are slower.
        with _threads().limit(limits=1):
            self._process.fit(self._told, (self._scores / self._gain - _typical(self._told)) / _UNIT)

    def _rows(self, points: Sequence[tuple[int, int]]) -> Array:
        """Rows of trial number, progress towards full training on a logarithmic scale, and features."""
        scale = math.log(max(2, self._max_epochs))
        return np.array([[trial, math.log(epoch) / scale, *self._features[trial]] for trial, epoch in points])


class _CurveKernel(Kernel):  # type: ignore[misc]  # ships no types
    """The covariance of two points of two curves; see the constants for its terms."""

    def __init__(self) -> None:
        """Takes no arguments; scikit-learn requires a signature."""

    def __call__(self, rows: Array, others: Array | None = None, eval_gradient: bool = False) -> Array:
        others = rows if others is None else others
        same = rows[:, :1] == others[:, 0]
        gain = rows[:, 1:2] * others[:, 1]
        squared = cdist(rows[:, 2:], others[:, 2:], "sqeuclidean")
        alike = _EXPLAINED * np.exp(-squared / (2 * _SQUARED_LENGTH)) + (1 - _EXPLAINED) * same
        near = np.exp(-np.abs(rows[:, 1:2] - others[:, 1]) / _WIGGLE_LENGTH)
        common = _LEVEL**2 * (1 + gain)
        covariance: Array = common + (_OWN**2 + _OWN_GAIN**2 * gain) * alike + _WIGGLE**2 * same * near
        return covariance

    def diag(self, rows: Array) -> Array:
        """The variance of each point."""
        gain = rows[:, 1] ** 2
        variance: Array = _LEVEL**2 * (1 + gain) + _OWN**2 + _OWN_GAIN**2 * gain + _WIGGLE**2
        return variance

    def is_stationary(self) -> bool:
        """No: curves fan out."""
        return False


@cache
def _threads() -> ThreadpoolController:
    # Created once: finding out which libraries are loaded takes longer than a prediction.
    return ThreadpoolController()


def featurize(configurations: Sequence[Mapping[str, Any]]) -> Array:
    """Configurations as numbers, so that two values of a parameter are at most 1 apart.

    Args:
        configurations: Values by name; inactive parameters are absent.

    Returns:
        Shape (configurations, features): a number takes one feature, and further ones where it may be absent; any other
        parameter takes one for each of its values.
    """
    columns: list[list[float]] = []
    for name in sorted({name for values in configurations for name in values}):
        found = [values.get(name) for values in configurations]
        numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
        if numbers and min(numbers) < max(numbers):
            columns.append(_scaled(found, min(numbers), max(numbers)))
            found = [value is None for value in found]
        options = sorted({str(value) for value in found})
        if len(options) > 1:
            columns += [[math.sqrt(0.5) * (str(value) == option) for value in found] for option in options]
    return np.array(columns).T if columns else np.zeros((len(configurations), 0))


def _scaled(values: Sequence[Any], low: float, high: float) -> list[float]:
    scale = math.log if low > 0 and high / low >= _WIDE else float
    return [0.5 if value is None else (scale(value) - scale(low)) / (scale(high) - scale(low)) for value in values]


def _typical(rows: Array) -> Array:
    curve: Array = _FIRST + rows[:, 1]
    return curve


def _told_epochs(epochs: int) -> list[int]:
    """The first and the last epochs, and ever sparser ones between them."""
    told = [epoch for epoch in range(1, epochs + 1) if epoch <= _ALL_EPOCHS_UP_TO or epoch > epochs - 3]
    epoch = float(_ALL_EPOCHS_UP_TO)
    while (epoch := epoch * _SPACING) < epochs - 3:
        told.append(round(epoch))
    return sorted(set(told))


def _jitter(trials: Sequence[Trial], unit: float) -> float:
    """The standard deviation of single epochs about their neighbours' mean, in this unit."""
    residuals = [
        abs(before / 2 - score + after / 2)
        for trial in trials
        for before, score, after in zip(trial.scores[2:], trial.scores[3:], trial.scores[4:], strict=False)
    ]
    if len(residuals) < _RESIDUALS_FOR_NOISE or not unit:
        return _NOISE
    # The median absolute value of a normal variable is 0.6745 deviations; a residual has 1.5 times the variance.
    return max(_LEAST_NOISE, float(np.median(residuals)) / 0.6745 / math.sqrt(1.5) / abs(unit))
