"""For a Keras Tuner tuner of your own: a hypermodel whose trials marsexp's trainer trains.

Half of the fields that a space varies are not part of a compiled model: batch size, augmentation, precision, schedule.
Under Keras' own `fit` those would have no effect, although the tuner believes them to matter. So `fit` is the trainer
of `marsexp search`, and `build` still returns a compiled model, for users who want the network and its loss in Keras'
terms.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig, OptimizerConfig
from marsseg.libraries.spaces import open_space

# The first import loads TensorFlow quietly; the others would not.
from marsseg.libraries.training import keras_settings_kept, set_up  # isort: skip
import keras
import keras_tuner
import tensorflow as tf

from marsseg.data.tiles import pixels_per_class
from marsseg.losses import Loss, build_loss
from marsseg.search.keras_tuner_proposer import declare_space, read_values
from marsseg.search.space import Space
from marsseg.training.callback import Callback
from marsseg.training.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from marsseg.training.network import build_network
from marsseg.training.trainer import EpochRecord, Training


class SpaceHyperModel(keras_tuner.HyperModel):
    """A search space for any of Keras Tuner's tuners; the objective is `val_mean_iou`, to be maximised.

    Successive-halving tuners promote a trial with its weights alone, without the optimizer's state. With a folder for
    checkpoints the trial resumes as if it had never been paused, otherwise it is trained from its first epoch: the
    same bits.

    Args:
        space: A space, the path of a space file, or the name of a shipped space, such as `cpu`.
        values: Values of other config fields by dotted path, as for `--set`; a parameter among them does not vary.
        checkpoints: A folder in which each config gets a subfolder; None to keep no checkpoints.
        name: The hypermodel's name in Keras Tuner.
        tunable: As in Keras Tuner.

    Raises:
        NotFoundError: If there is no such space.
        SpaceError: If the space is not valid, or a value is not allowed for its parameter.
        ConfigError: If a value is not allowed.
    """

    def __init__(
        self,
        space: Space | str | Path,
        values: Mapping[str, Any] | None = None,
        checkpoints: str | Path | None = None,
        name: str | None = None,
        tunable: bool = True,
    ) -> None:
        super().__init__(name, tunable)
        self._space, self._base = open_space(space, values or {})
        self._checkpoints = None if checkpoints is None else Path(checkpoints)

    def declare_hyperparameters(self, hp: Any) -> None:
        """Adds the space's parameters at once, so that no model is built to find the conditional ones."""
        declare_space(hp, self._space)

    def config(self, hp: Any) -> ExperimentConfig:
        """The experiment config of these hyperparameters.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            The config; fields set to `auto` stay `auto`.

        Raises:
            ConfigError: If values do not go together.
        """
        declared = {parameter.name for parameter in hp.space}
        if not declared.issuperset(self._space.by_path):
            self.declare_hyperparameters(hp)
        return self._base.with_values(read_values(hp, self._space))

    @keras_settings_kept()
    def build(self, hp: Any) -> keras.Model:
        """The network, compiled with the loss and optimizer of the config's main stage.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            A model from images (batch, height, width, 1) in [0, 1] to logits (batch, height, width, num_classes); its
            loss takes labels (batch, height, width), and for a dual U-Net sees the final output alone.
        """
        config, data = set_up(self.config(hp))
        model = build_network(config, data.images.shape[1:3])
        pixels = pixels_per_class(data.train.masks, config.data.num_classes)
        model.compile(optimizer=_build_optimizer(config.optimizer), loss=_on_labels(build_loss(config.loss, pixels)))
        return model

    @keras_settings_kept()
    def fit(
        self,
        hp: Any,
        model: keras.Model,
        *args: Any,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Trains the config on the data set that it names, and leaves the best epoch's weights in the model.

        Args:
            hp: A `keras_tuner.HyperParameters`.
            model: The model that `build` returned.
            *args: Must be empty; the config names the data set.
            epochs: The largest number of epochs; by default and at most the config's `training.max_epochs`.
            callbacks: Told of each epoch's metrics, with the best weights so far in the model; they may stop
                the training.
            **kwargs: `initial_epoch`, above 0 for a trial that resumes from its checkpoint; `verbose`, without effect.

        Returns:
            The metrics of the best epoch, `val_mean_iou` among them.

        Raises:
            FatalValueError: If it gets any other argument, such as data.
        """
        unknown = sorted(set(kwargs) - {"verbose", "initial_epoch"})
        if args or unknown:
            found = ", ".join(unknown) or f"{len(args)} positional"
            raise keras_tuner.errors.FatalValueError(
                f"tuner.search: expected epochs and callbacks, found {found}; the config names the data, as in "
                'values={"data.source": "tiles.npz"}'
            )
        config, data = set_up(self.config(hp))
        epochs = min(epochs or config.training.max_epochs, config.training.max_epochs)
        folder = self._checkpoints / config.config_hash() if self._checkpoints else None
        start = load_latest_checkpoint(folder) if folder and kwargs.get("initial_epoch") else None
        training = Training(config, data, start if start is not None and start.epoch < epochs else None)
        return _fit(model, training, epochs, callbacks, folder)


def _fit(
    model: keras.Model,
    training: Training,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    folder: Path | None,
) -> dict[str, float]:
    told = keras.callbacks.CallbackList(list(callbacks), model=model)
    model.stop_training = False
    told.on_train_begin()
    while True:
        result = training.run(training.epoch + 1, [_Forwarding(model, told, folder)])
        if training.epoch >= epochs or training.stopped_early or model.stop_training:
            break
    told.on_train_end()
    return result.history[result.best_epoch - 1].metrics


class _Forwarding(Callback):
    """Reports our trainer's epochs to Keras' callbacks, and keeps checkpoints if there is a folder for them."""

    def __init__(self, model: keras.Model, told: keras.callbacks.CallbackList, folder: Path | None) -> None:
        self._model = model
        self._told = told
        self._folder = folder

    def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
        if self._folder is not None:
            save_checkpoint(self._folder, checkpoint)
        self._model.set_weights(list(checkpoint.group("best").values()))
        # Keras counts from 0.
        self._told.on_epoch_begin(record.epoch - 1)
        self._told.on_epoch_end(record.epoch - 1, dict(record.metrics))


def _build_optimizer(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Keras' own optimizer for a config."""
    common = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None}
    match config.name:
        case "adam":
            return keras.optimizers.Adam(**common)
        case "adamw":
            return keras.optimizers.AdamW(**{**common, "weight_decay": config.weight_decay})
        case "nadam":
            return keras.optimizers.Nadam(**common)
    return keras.optimizers.SGD(momentum=config.momentum, **common)


def _on_labels(loss: Loss) -> Loss:
    def total(y_true: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        # Keras passes labels as floating-point numbers.
        return loss(tf.cast(y_true, tf.int32), logits)

    return total
