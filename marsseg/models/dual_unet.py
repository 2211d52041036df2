"""Two U-Nets, one for the whole image and one for detail, and convolutions that merge both into one segmentation."""

import keras
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.blocks import BlockStyle, conv_block
from marsseg.models.unet import encode_decode, head, mask_background

NAME = "dual_unet"
# Logits of the branches, at full size, which the loss sees besides the final ones.
FINE_LOGITS, GLOBAL_LOGITS = "fine_logits", "global_logits"
# Makes the global branch's dropout masks differ from the fine branch's.
_GLOBAL_SEED = 100


def build_dual_unet(
    config: UNetConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int = 0,
    portable: bool = False,
) -> keras.Model:
    """A dual U-Net: a global branch on the image at half size, a fine branch at full size, and their refinement.

    The branches' logits, the global ones upsampled, are concatenated and go through one more block. Arguments, result
    and errors are those of `build_unet`.
    """
    height, width, _ = image_shape
    config.check_image_fits(height, width)
    keras.utils.set_random_seed(seed)
    fine_style, global_style = (BlockStyle(config, number, portable) for number in (seed, seed + _GLOBAL_SEED))

    inputs = keras.Input(image_shape, name="image")
    fine = head(encode_decode(inputs, config.num_blocks, fine_style, "fine_"), num_classes, FINE_LOGITS)
    half = layers.AveragePooling2D(2, name="global_view")(inputs)
    coarse = head(encode_decode(half, config.global_blocks, global_style, "global_"), num_classes, "global_half_logits")
    coarse = layers.UpSampling2D(dtype="float32", name=GLOBAL_LOGITS)(coarse)
    outputs = layers.Concatenate(name="refine_concat")([fine, coarse])
    outputs = conv_block(outputs, config.filters_at(0), fine_style, "refine")
    return keras.Model(inputs, mask_background(head(outputs, num_classes, "logits"), config), name=NAME)
