"""From a config to its network: the one place that knows which model family is built how."""

import keras

from marsseg.config import ExperimentConfig
from marsseg.models.unet import build_unet
from marsseg.training.precision import apply_precision


def build_network(config: ExperimentConfig, data_shape: tuple[int, int], portable: bool = False) -> keras.Model:
    """The config's network, with initial weights.

    Args:
        config: Which network and precision.
        data_shape: (height, width) of the images.
        portable: Uses only Keras' own layers, in float32.

    Returns:
        A model that returns logits.
    """
    # Names begin anew; memory is freed by whoever lets go of a network.
    keras.backend.clear_session(free_memory=False)
    apply_precision("float32" if portable else config.training.precision)
    return build_unet(config.model, (*data_shape, 1), config.data.num_classes, config.seed, portable)
