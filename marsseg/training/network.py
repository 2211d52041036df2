"""From a config to its network and loss: the one place that knows the model families."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import ExperimentConfig, LossConfig
from marsseg.losses import Loss, build_loss
from marsseg.models import dual_unet
from marsseg.models.unet import build_unet
from marsseg.training.precision import apply_precision
from marsseg.training.runtime import this_machine

_BUILDERS = {"unet": build_unet, dual_unet.NAME: dual_unet.build_dual_unet}
# Layers whose outputs the loss sees besides the network's own.
_AUXILIARY_OUTPUTS = {dual_unet.NAME: (dual_unet.FINE_LOGITS, dual_unet.GLOBAL_LOGITS)}


def build_network(config: ExperimentConfig, data_shape: tuple[int, int], portable: bool = False) -> keras.Model:
    """The config's network, with initial weights.

    Args:
        config: Sets the network and precision.
        data_shape: (height, width) of the images.
        portable: Uses only Keras' own layers, in float32.

    Returns:
        A model that returns logits.
    """
    # Layer names start again; memory is freed by the code that drops a network.
    keras.backend.clear_session(free_memory=False)
    # Whatever the user's keras.json says.
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    apply_precision("float32" if portable else config.training.precision, this_machine())
    build = _BUILDERS[config.model.family]
    return build(config.model, (*data_shape, 1), config.data.num_classes, config.seed, portable)


def with_auxiliary_outputs(model: keras.Model) -> keras.Model:
    """The network as it is trained: the same layers, with all outputs that the loss sees.

    Args:
        model: As `build_network` returns it.

    Returns:
        The model itself where it has no further outputs, otherwise one that returns a list, its own output first.
    """
    names = _AUXILIARY_OUTPUTS.get(model.name, ())
    return (
        keras.Model(model.input, [model.output, *(model.get_layer(name).output for name in names)]) if names else model
    )


def build_network_loss(config: ExperimentConfig, loss: LossConfig, pixels_per_class: NDArray[np.int64]) -> Loss:
    """The loss of a config's network, over all outputs that `with_auxiliary_outputs` gives it.

    A dual U-Net has cross-entropy on the global branch, and the stage's loss on the fine branch and the final output.

    Args:
        config: Sets the network.
        loss: The stage's loss.
        pixels_per_class: Counts over the training split, shape (num_classes,).

    Returns:
        A function (y_true, outputs) → scalar in float32.
    """
    final = build_loss(loss, pixels_per_class)
    if config.model.family != dual_unet.NAME:
        return final
    coarse = build_loss(loss.model_copy(update={"terms": (("cross_entropy", 1.0),)}), pixels_per_class)

    def total(y_true: tf.Tensor, outputs: list[tf.Tensor]) -> tf.Tensor:
        final_logits, fine_logits, global_logits = outputs
        return (
            final(y_true, final_logits)
            + loss.fine_output_weight * final(y_true, fine_logits)
            + loss.global_output_weight * coarse(y_true, global_logits)
        )

    return total
