"""A U-Net in plain Keras: `keras.layers`, `compile`, `fit` and `evaluate`, by default in float32."""

import time

import keras
import numpy as np
from keras import layers

from benchmarks.sides.lines import tell, wait
from benchmarks.sides.settings import HEIGHT, NUM_CLASSES, WIDTH, Settings, from_command_line


def build_unet(filters: int, num_blocks: int, max_filters: int | None = None) -> keras.Model:
    """The same network as ours at its defaults, with a softmax at its end."""
    widths = [min(filters * 2**level, max_filters or filters * 2**level) for level in range(num_blocks + 1)]
    outputs = inputs = keras.Input((HEIGHT, WIDTH, 1))
    skips = []
    for width in widths[:-1]:
        outputs = _block(outputs, width)
        skips.append(outputs)
        outputs = layers.MaxPooling2D()(outputs)
    outputs = _block(outputs, widths[-1])
    for width in widths[-2::-1]:
        outputs = layers.Conv2DTranspose(width, 2, strides=2, use_bias=False)(outputs)
        outputs = _block(layers.Concatenate()([outputs, skips.pop()]), width)
    return keras.Model(inputs, layers.Conv2D(NUM_CLASSES, 1, activation="softmax", dtype="float32")(outputs))


def _block(outputs: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    for _ in range(2):
        outputs = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(outputs)
        outputs = layers.BatchNormalization()(outputs)
        outputs = layers.ReLU()(outputs)
    return outputs


class _Epochs(keras.callbacks.Callback):
    """Trains an epoch for every line."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        wait()
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        tell(self.params["steps"] * _SETTINGS.batch_size / (time.perf_counter() - self._start))


def _serve(settings: Settings) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (settings.num_images, HEIGHT, WIDTH, 1)).astype(np.float32) / np.float32(255)
    masks = rng.integers(0, NUM_CLASSES, (settings.num_images, HEIGHT, WIDTH), np.uint8)
    policy = "float32" if settings.peer_precision == "float32" else f"mixed_{settings.peer_precision}"
    keras.config.set_dtype_policy(policy)
    wait()
    tell({"name": f"Keras {keras.__version__}, {policy}"})
    if settings.task == "first_step":
        wait()
    start = time.perf_counter()
    model = build_unet(settings.filters, settings.num_blocks)
    match settings.task:
        case "train":
            model.compile("adam", "sparse_categorical_crossentropy")
            model.fit(images, masks, settings.batch_size, epochs=10**6, verbose=0, callbacks=[_Epochs()])
        case "first_step":
            model.compile("adam", "sparse_categorical_crossentropy")
            model.fit(images[: settings.batch_size], masks[: settings.batch_size], settings.batch_size, verbose=0)
            tell(time.perf_counter() - start)
        case "validate":
            mean_iou = keras.metrics.MeanIoU(NUM_CLASSES, sparse_y_pred=False)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=[mean_iou])
            while True:
                wait()
                start = time.perf_counter()
                model.evaluate(images, masks, verbose=0)
                tell(time.perf_counter() - start)


if __name__ == "__main__":
    _SETTINGS = from_command_line()
    _serve(_SETTINGS)
