"""Ours: `Training` and `Evaluator` as every trial runs them, on tiles like the peers' tiles."""

import time

import numpy as np

from benchmarks.sides.lines import tell, wait
from benchmarks.sides.settings import HEIGHT, NUM_CLASSES, WIDTH, Settings, from_command_line
from marsseg.config import ExperimentConfig
from marsseg.data.prepare import Fingerprint, PreparedData
from marsseg.data.split import Split
from marsseg.models.operations import count_operations
from marsseg.training.callback import Callback
from marsseg.training.checkpoint import Checkpoint
from marsseg.training.network import build_network
from marsseg.training.runtime import configure_runtime, resolve_auto
from marsseg.training.step import Evaluator
from marsseg.training.trainer import EpochRecord, Training

_VALIDATION_IMAGES = 8
_ALL_AUGMENTATION = {
    "augmentation.flips": True,
    "augmentation.translation": 0.1,
    "augmentation.rotation": 10.0,
    "augmentation.contrast": 0.2,
    "augmentation.brightness": 0.1,
    "augmentation.cutmix": 0.5,
    "augmentation.cutout": 0.5,
    "augmentation.paste_rare": 0.5,
}


class _Epochs(Callback):
    """Trains an epoch for every line; answers images per second, and the share of its time spent waiting for them."""

    def on_epoch(self, record: EpochRecord, checkpoint: Checkpoint) -> None:
        tell([record.images_per_second, record.input_wait_s / record.train_s])
        wait()


class _FirstStep(Callback):
    """Ends the process after a step."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def on_step(self, seconds: float) -> None:
        tell(time.perf_counter() - self._start)
        wait()


def config_of(settings: Settings) -> ExperimentConfig:
    """The config that our side trains."""
    values = {
        "model.num_blocks": settings.num_blocks,
        "model.base_filters": settings.filters,
        "model.max_filters": settings.filters * 2**settings.num_blocks,
        "training.batch_size": settings.batch_size,
        "training.max_epochs": 10**6,
        "training.precision": settings.precision,
        "training.threads": settings.threads,
        **(_ALL_AUGMENTATION if settings.augmented else {}),
    }
    return resolve_auto(ExperimentConfig().with_values(values))


def data_of(num_images: int) -> PreparedData:
    """Images to train on, and a few for validation."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images + _VALIDATION_IMAGES, HEIGHT, WIDTH)).astype(np.float32) / np.float32(255)
    masks = rng.integers(0, NUM_CLASSES, images.shape, np.uint8)
    indices = np.arange(len(images))
    split = Split(indices[:num_images], indices[num_images:], indices[:0])
    return PreparedData(images, masks, split, {}, NUM_CLASSES, "random", Fingerprint("", "", "", "", ""))


def matmul_gflop_per_s(precision: str, size: int = 2048, repeats: int = 10) -> float:
    """The best rate of a multiplication of square matrices in this precision."""
    import tensorflow as tf  # only here, since marsseg has settings to make before TensorFlow's import

    matrix = tf.cast(np.random.default_rng(0).random((size, size)), precision)
    multiply = tf.function(lambda: tf.reduce_max(tf.matmul(matrix, matrix)[0]))
    float(multiply())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        float(multiply())
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def _serve(settings: Settings) -> None:
    config = config_of(settings)
    precision = config.training.precision
    configure_runtime(settings.threads)
    data = data_of(settings.num_images)
    match settings.task:
        case "train":
            flops = count_operations(config.model, (HEIGHT, WIDTH), NUM_CLASSES).flops
            peak = matmul_gflop_per_s(precision)
            wait()
            tell({"name": precision, "gflop_per_image": flops / 1e9, "peak_gflop_per_s": peak})
            wait()
            Training(config, data).run(10**6, [_Epochs()])
        case "first_step":
            wait()
            tell({"name": precision})
            wait()
            clock = _FirstStep()
            Training(config, data).run(1, [clock])
        case "validate":
            wait()
            tell({"name": precision})
            images, masks = data.train
            evaluator = Evaluator(build_network(config, (HEIGHT, WIDTH)), len(images))
            while True:
                wait()
                start = time.perf_counter()
                evaluator.confusion_matrix(images, masks)
                tell(time.perf_counter() - start)


if __name__ == "__main__":
    _serve(from_command_line())
