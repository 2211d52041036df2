"""Keras Tuner as itself: its own Hyperband tuner; a trial reads its configuration's curve where it would train."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import keras
import keras_tuner

from benchmarks.replay.account import Account
from benchmarks.replay.policies import RUNGS, Progress
from marsseg.search.simulation import Curve

FIRST_BRACKET = 27
_OBJECTIVE = "val_score"
# TensorFlow's own in-memory folder: seven small files per trial would take ten times as long as all decisions.
_FOLDER = "ram://replay"


def keras_tuner_hyperband(curves: Sequence[Curve], limit: float, seed: int) -> Iterable[Progress]:
    """A search of `keras_tuner.Hyperband` with its defaults, except for the epochs and the factor.

    It starts with one epoch of `FIRST_BRACKET` configurations: these two numbers alone set its brackets, whatever a
    search may cost. The search is over when it asks for more configurations than there are.

    A trial continues from the epochs of the trial that it is promoted from, and only the difference is paid for. In
    reality it would continue from the weights of that trial's best epoch and without the optimizer's state, which no
    curve records.
    """
    account = Account(curves, limit)
    # The values drawn do not matter, only that no two trials draw the same.
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("configuration", 0, 1)
    tuner = _CurveReader(
        curves,
        account,
        objective=keras_tuner.Objective(_OBJECTIVE, "max"),
        max_epochs=RUNGS.max_epochs,
        factor=RUNGS.reduction_factor,
        hyperparameters=hyperparameters,
        # 0 would mean a random seed.
        seed=seed + 1,
        directory=_FOLDER,
        overwrite=True,
    )
    with suppress(_OverError):
        tuner.search(verbose=0)
    return account.progress


class _OverError(keras_tuner.errors.FatalError):  # type: ignore[misc]  # ships no types
    """The limit is reached, or there are no more configurations; any other error would only fail a trial."""


class _CurveReader(keras_tuner.Hyperband):  # type: ignore[misc]  # ships no types
    """Maps each trial to a configuration in the order: the k-th trial that is not a promotion gets the k-th."""

    def __init__(self, curves: Sequence[Curve], account: Account, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._curves = curves
        self._account = account
        self._numbers: dict[str, int] = {}

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> Any:
        """The history that `fit` would return."""
        values = trial.hyperparameters.values
        if "tuner/trial_id" in values:
            number = self._numbers[values["tuner/trial_id"]]
        else:
            number = len(set(self._numbers.values()))
        self._numbers[trial.trial_id] = number
        before, until = values["tuner/initial_epoch"], values["tuner/epochs"]
        if number == len(self._curves) or not self._account.train(number, until):
            raise _OverError
        history = keras.callbacks.History()
        history.epoch = list(range(before, until))
        history.history = {_OBJECTIVE: list(self._curves[number].scores[before:until])}
        return history
