"""The trainer of every trial of `marsexp search`, for a search of your own: same config, same bits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData, remembered_data
from marsseg.training.callback import Callback
from marsseg.training.runtime import configure_runtime, import_tensorflow_quietly, resolve_auto

import_tensorflow_quietly(whole=True)

# TensorFlow comes with these.
import keras  # noqa: E402  # quietly first

from marsseg.training.checkpoint import Checkpoint  # noqa: E402  # likewise
from marsseg.training.trainer import EpochRecord, Training, TrainResult  # noqa: E402  # likewise

OnEpoch = Callable[[EpochRecord], None]


@contextmanager
def keras_settings_kept() -> Iterator[None]:
    """Puts the caller's settings of Keras back at the end; a function can be decorated with this."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    data_format = keras.config.image_data_format()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(data_format)


@keras_settings_kept()
def train(config: ExperimentConfig, on_epoch: OnEpoch | None = None) -> TrainResult:
    """Trains a config to its last epoch, in this process.

    Args:
        config: Decides everything; `auto` becomes the value that suits this machine.
        on_epoch: Called after every epoch; any exception from it ends the training.

    Returns:
        The history, the best epoch, and the network with that epoch's weights.

    Raises:
        MarsexpError: If the data cannot be trained on, the network does not fit it, or the training fails.
    """
    config, data = set_up(config)
    callbacks = [] if on_epoch is None else [_Teller(on_epoch)]
    return Training(config, data).run(config.training.max_epochs, callbacks)


def set_up(config: ExperimentConfig) -> tuple[ExperimentConfig, PreparedData]:
    """Fixes the settings that must be fixed before TensorFlow computes anything, and loads the data.

    Args:
        config: May hold `auto`.

    Returns:
        The config without `auto`, and its data.

    Raises:
        TrainingError: If this process already computes with another number of threads.
        MarsexpError: If the data cannot be trained on.
    """
    config = resolve_auto(config)
    configure_runtime(config.training.threads)
    return config, remembered_data(config)


class _Teller(Callback):
    def __init__(self, on_epoch: OnEpoch) -> None:
        self._on_epoch = on_epoch

    def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
        self._on_epoch(record)
