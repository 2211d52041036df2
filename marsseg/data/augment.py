"""Random augmentation of a batch, the same for image and mask, determined by a stateless seed alone.

Labels are moved or copied, never interpolated, so that no mask gains a label that occurs nowhere in the batch. Each
augmentation draws from its own random stream: turning one on does not change the others.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from marsseg.config import AugmentationConfig
from marsseg.data.rare import Objects

Batch = tuple[tf.Tensor, tf.Tensor]

_MOVE, _CUTMIX, _LIGHT, _CUTOUT = range(1, 5)
# Share of the shorter side; the paper cuts a square of this share from an image of 32 pixels.
_CUTOUT_SIDE = 0.5
# Smallest and largest scale of a pasted crop.
_SCALES = (0.75, 1.5)


def augment(images: tf.Tensor, masks: tf.Tensor, config: AugmentationConfig, seed: tf.Tensor) -> Batch:
    """Applies every augmentation that is turned on in a config.

    Args:
        images: Values in [0, 1], shape (batch, height, width, channels).
        masks: Labels, shape (batch, height, width).
        config: Which augmentations to apply, and their strengths.
        seed: Two integers that determine all random draws.

    Returns:
        Images and masks of the same shapes.
    """
    if config.flips:
        images, masks = random_flips(images, masks, seed)
    if config.translation or config.rotation:
        images, masks = random_shift_and_rotation(
            images, masks, config.translation, config.rotation, _stream(seed, _MOVE)
        )
    if config.cutmix:
        images, masks = cutmix(images, masks, config.cutmix, _stream(seed, _CUTMIX))
    if config.contrast or config.brightness:
        images = random_contrast_and_brightness(images, config.contrast, config.brightness, _stream(seed, _LIGHT))
    if config.cutout:
        images = cutout(images, config.cutout, _stream(seed, _CUTOUT))
    return images, masks


def random_flips(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor) -> Batch:
    """Flips each image and its mask left-right and top-bottom, each with probability 1/2.

    Args:
        images: Shape (batch, height, width, channels).
        masks: Shape (batch, height, width).
        seed: Two integers that determine which images are flipped.

    Returns:
        Images and masks of the same shapes.
    """
    chosen = tf.random.stateless_uniform([2, tf.shape(images)[0]], seed) < 0.5
    for axis, flipped in ((2, chosen[0]), (1, chosen[1])):
        images = tf.where(flipped[:, None, None, None], tf.reverse(images, [axis]), images)
        masks = tf.where(flipped[:, None, None], tf.reverse(masks, [axis]), masks)
    return images, masks


def random_shift_and_rotation(
    images: tf.Tensor, masks: tf.Tensor, translation: float, rotation: float, seed: tf.Tensor
) -> Batch:
    """Rotates each image and its mask about the centre and shifts them; gaps are filled as by `warp`.

    Args:
        images: Shape (batch, height, width, channels).
        masks: Shape (batch, height, width).
        translation: Largest shift, as a share of each side.
        rotation: Largest rotation, in degrees.
        seed: Two integers that determine shifts and rotations.

    Returns:
        Images and masks of the same shapes; pixels interpolated bilinearly, labels taken from the nearest pixel.
    """
    height, width = images.shape[1:3]
    angle, down, right = tf.unstack(tf.random.stateless_uniform([3, tf.shape(images)[0]], seed, -1.0, 1.0))
    angle *= math.radians(rotation)
    centre = tf.constant([(height - 1) / 2, (width - 1) / 2], tf.float32)
    shift = tf.stack([down * translation * height, right * translation * width], -1)
    matrices = _affine(tf.cos(angle), tf.sin(angle), source=centre, target=centre + shift)
    return warp(images, matrices, "BILINEAR"), warp(masks[..., None], matrices, "NEAREST")[..., 0]


def cutmix(images: tf.Tensor, masks: tf.Tensor, probability: float, seed: tf.Tensor) -> Batch:
    """CutMix (Yun et al., 2019, arXiv 1905.04899): pastes a patch of another image of the batch, with its mask.

    The patch has the image's aspect ratio; its share of the image's area is uniform from 0 to 1, and so is its
    position. It is clipped at the border. Differs from the paper: each image gets its own patch, and labels are copied
    per pixel.

    Args:
        images: Shape (batch, height, width, channels).
        masks: Shape (batch, height, width).
        probability: Probability that an image gets a patch.
        seed: Two integers that determine which images get a patch, from which image, and where.

    Returns:
        Images and masks of the same shapes.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    luck = tf.random.stateless_uniform([4, count], seed)
    # A cycle through all images: in a plain permutation some would be their own partners.
    order = tf.random.experimental.stateless_shuffle(tf.range(count), _stream(seed, 0))
    partners = tf.gather(tf.roll(order, 1, 0), tf.math.invert_permutation(order))
    sides = tf.sqrt(luck[1])
    inside = rectangles((height, width), luck[2] * height, luck[3] * width, sides * height, sides * width)
    inside &= (luck[0] < probability)[:, None, None]
    return (
        tf.where(inside[..., None], tf.gather(images, partners), images),
        tf.where(inside, tf.gather(masks, partners), masks),
    )


def random_contrast_and_brightness(images: tf.Tensor, contrast: float, brightness: float, seed: tf.Tensor) -> tf.Tensor:
    """Scales each image's values about their mean, adds a constant, and clips to [0, 1].

    Args:
        images: Values in [0, 1], shape (batch, height, width, channels).
        contrast: The factor is uniform from 1 − contrast to 1 + contrast.
        brightness: The constant is uniform from −brightness to brightness.
        seed: Two integers that determine both.

    Returns:
        The same shape.
    """
    luck = tf.random.stateless_uniform([2, tf.shape(images)[0], 1, 1, 1], seed, -1.0, 1.0)
    mean = tf.reduce_mean(images, [1, 2, 3], keepdims=True)
    return tf.clip_by_value((images - mean) * (1 + contrast * luck[0]) + mean + brightness * luck[1], 0.0, 1.0)


def cutout(images: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Cutout (DeVries & Taylor, 2017, arXiv 1708.04552): a square is filled; its labels stay.

    Differs from the paper: the square is filled with the mean of its image, not of the data set.

    Args:
        images: Shape (batch, height, width, channels).
        probability: Probability that an image loses a square, half as long as its shorter side and clipped at the
            border.
        seed: Two integers that determine which images lose a square, and where.

    Returns:
        The same shape.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    luck = tf.random.stateless_uniform([3, count], seed)
    side = tf.fill([count], _CUTOUT_SIDE * min(height, width))
    inside = rectangles((height, width), luck[1] * height, luck[2] * width, side, side)
    inside &= (luck[0] < probability)[:, None, None]
    return tf.where(inside[..., None], tf.reduce_mean(images, [1, 2, 3], keepdims=True), images)


def paste_objects(
    images: tf.Tensor,
    masks: tf.Tensor,
    load: Callable[[tf.Tensor], Batch],
    objects: Objects,
    probability: float,
    seed: tf.Tensor,
) -> Batch:
    """Pastes a crop around an object into images, with its mask.

    The crop keeps its aspect ratio; its scale is uniform from 0.75 to 1.5 and its position uniform. It is clipped at
    the border. Where the crop is background (unlabelled), the image stays unchanged.

    Args:
        images: Values in [0, 1], shape (batch, height, width, channels).
        masks: Labels, shape (batch, height, width).
        load: Returns the images and masks at the given indices, of the same types as above.
        objects: Objects that may be pasted; at least one.
        probability: Probability that an image gets an object.
        seed: Two integers that determine which images get an object, which object, its scale and its position.

    Returns:
        Images and masks of the same shapes; pixels interpolated bilinearly, labels taken from the nearest pixel.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    luck = tf.random.stateless_uniform([5, count], seed)
    chosen = tf.cast(luck[0] * len(objects.image), tf.int32)
    index, from_row, from_column, box_height, box_width = (tf.gather(column, chosen) for column in objects)
    scale = _SCALES[0] + (_SCALES[1] - _SCALES[0]) * luck[1]
    row, column = luck[2] * height, luck[3] * width
    # Pixels are numbered by their centres.
    matrices = scaled_about(scale, tf.stack([from_row, from_column], -1) - 0.5, tf.stack([row, column], -1) - 0.5)
    donors, donor_masks = load(index)
    crops = warp(donors, matrices, "BILINEAR")
    crop_masks = warp(donor_masks[..., None], matrices, "NEAREST")[..., 0]
    inside = rectangles((height, width), row, column, scale * box_height, scale * box_width)
    inside &= (luck[4] < probability)[:, None, None] & (crop_masks > 0)
    return tf.where(inside[..., None], crops, images), tf.where(inside, crop_masks, masks)


def rectangles(
    shape: tuple[int, int], rows: tf.Tensor, columns: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor
) -> tf.Tensor:
    """Which pixels lie inside a rectangle; each image has its own rectangle.

    Args:
        shape: (height, width) of the images.
        rows: Centres from the upper border, in pixels, shape (batch,).
        columns: Centres from the left border, in pixels, shape (batch,).
        heights: In pixels, shape (batch,).
        widths: In pixels, shape (batch,).

    Returns:
        Booleans, shape (batch, height, width): whether a pixel's centre lies inside.
    """
    down = tf.abs(tf.range(shape[0], dtype=tf.float32) + 0.5 - rows[:, None]) < heights[:, None] / 2
    along = tf.abs(tf.range(shape[1], dtype=tf.float32) + 0.5 - columns[:, None]) < widths[:, None] / 2
    return down[:, :, None] & along[:, None, :]


def scaled_about(scale: tf.Tensor, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Matrices for `warp` that scale an image about one pixel and move that pixel to another position.

    Args:
        scale: Magnification, shape (batch,).
        source: (row, column) of the pixel in the input, shape (batch, 2).
        target: (row, column) of the same pixel in the output, shape (batch, 2).

    Returns:
        Shape (batch, 8).
    """
    return _affine(1 / scale, tf.zeros_like(scale), source, target)


def warp(images: tf.Tensor, matrices: tf.Tensor, interpolation: str) -> tf.Tensor:
    """Applies affine transforms; gaps are filled by mirroring at the border, the outermost pixel included.

    Args:
        images: Shape (batch, height, width, channels).
        matrices: Transform from output to input coordinates, shape (batch, 8).
        interpolation: `NEAREST` or `BILINEAR`.

    Returns:
        The same shape and type.
    """
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrices,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="REFLECT",
    )
    return tf.ensure_shape(moved, images.shape)


def _stream(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _affine(along: tf.Tensor, across: tf.Tensor, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Pixel t + d of the result comes from pixel s + (along·d_row − across·d_column, across·d_row + along·d_column)."""
    row, column = tf.unstack(target, axis=-1)
    from_row, from_column = tf.unstack(tf.broadcast_to(source, tf.shape(target)), axis=-1)
    zero = tf.zeros_like(along)
    # x is the column, y the row; the last two entries are the perspective terms.
    return tf.stack(
        [
            *(along, across, from_column - along * column - across * row),
            *(-across, along, from_row + across * column - along * row),
            *(zero, zero),
        ],
        -1,
    )
