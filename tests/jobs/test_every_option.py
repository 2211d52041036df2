"""Every option of network, loss and training at once: runs that are interrupted end in the same bits.

One recipe has a U-Net of three blocks, the last of which see few pixels; the other a dual U-Net in two stages.
"""

import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig, load_recipe
from marsseg.jobs.trial_report import MODEL_FILE
from marsseg.training.callback import Callback
from marsseg.training.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from tests.conftest import Marsexp

RECIPE = """
seed = 5

[split]
validation_images = 4
test_images = 2

[model]
num_blocks = 3
base_filters = 4
max_filters = 8
se = "encoder"
se_reduction_ratio = 2
cbam = "skip"
cbam_reduction_ratio = 2
attention_gates = true
stn = true
dilation = "both"
dilation_rates = "1,2,4"
dropout = 0.1
predict_background = false

[augmentation]
flips = true
translation = 0.1
rotation = 10.0
contrast = 0.2
brightness = 0.1
cutmix = 0.5
cutout = 0.5
repeat_rare = 1
paste_rare = 0.5

[loss]
terms = "focal+dice"
class_weights = "log"
background_weight = 0.0

[optimizer]
name = "adamw"
learning_rate = 0.01
weight_decay = 1e-3

[schedule]
name = "plateau"
patience = 1

[training]
batch_size = 8
max_epochs = 4
threads = 1
precision = "bfloat16"
weight_averaging = true
"""
DUAL = """
seed = 3

[split]
validation_images = 4
test_images = 2

[model]
family = "dual_unet"
num_blocks = 2
global_blocks = 2
base_filters = 4
residual = true
dropout = 0.1

[warmup]
epochs = 2

[warmup.loss]
terms = "cross_entropy"

[warmup.optimizer]
name = "adam"
learning_rate = 1e-2

[warmup.schedule]
name = "cosine"
climb_epochs = 1

[loss]
terms = "lovasz_softmax+focal_tversky"
fine_output_weight = 0.7

[optimizer]
name = "nadam"
learning_rate = 5e-3

[schedule]
name = "exponential"
hold_epochs = 1

[training]
batch_size = 8
max_epochs = 4
threads = 1
precision = "float32"
"""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set file of 30 tiles of 16x32, which three blocks downsample to 2x4."""
    from marsseg.data.synthetic import generate_terrain

    terrain = generate_terrain(30, 16, 32, 0)
    path = tmp_path_factory.mktemp("data") / "tiles.npz"
    np.savez(path, training_set=np.stack([terrain.images, terrain.masks], axis=1))
    return path


class Recorder(Callback):
    """Writes each epoch's checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch(self, record: Any, checkpoint: Checkpoint) -> None:
        save_checkpoint(self.folder, checkpoint)


def test_dual_network_in_two_stages_cut_within_and_between_them_ends_in_the_same_bits(
    tiles: Path, tmp_path: Path, tensorflow_runtime: int
) -> None:
    import keras

    from marsseg.data.prepare import prepare_data
    from marsseg.jobs.trial_report import write_trial_report
    from marsseg.training.trainer import Training

    (tmp_path / "recipe.toml").write_text(DUAL, encoding="utf-8")
    config: ExperimentConfig = load_recipe(tmp_path / "recipe.toml").with_values(
        {"data.source": str(tiles), "training.threads": tensorflow_runtime}
    )
    data = prepare_data(config)
    whole = Training(config, data).run(4)
    write_trial_report(tmp_path / "artifacts", config, data, whole)
    for before, until in pairwise((0, 1, 2, 4)):
        start = load_latest_checkpoint(tmp_path / "checkpoints")
        assert (start.epoch if start else 0) == before
        cut = Training(config, data, start).run(until, [Recorder(tmp_path / "checkpoints")])
    assert cut.weights_sha256 == whole.weights_sha256
    assert [record.metrics for record in cut.history] == [record.metrics for record in whole.history]
    np.testing.assert_array_equal(cut.best_confusion, whole.best_confusion)
    rates = [record.learning_rate for record in whole.history]
    assert rates == [record.learning_rate for record in cut.history]
    assert rates == pytest.approx([5e-3, 1e-2, 5e-3, 2.5e-3]), "half the way up, up; then the second stage's, and half"

    images = np.random.default_rng(0).random((2, 16, 32, 1), np.float32)
    expected = whole.model.predict(images, verbose=0)
    saved = keras.saving.load_model(tmp_path / MODEL_FILE)
    np.testing.assert_allclose(saved.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-4)
    assert np.ptp(expected) > 0.1


def checkpoints(home: Path) -> set[Path]:
    return set(home.rglob("epoch-*.safetensors"))


def test_the_command_killed_and_gone_on_with_is_reproduced_to_the_bit(marsexp: Marsexp, tiles: Path) -> None:
    (marsexp.folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    process = subprocess.Popen(
        marsexp.command("train", "recipe.toml", "--data", str(tiles), "--name", "killed"),
        cwd=marsexp.folder,
        env=marsexp.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 180
    try:
        while not checkpoints(marsexp.home) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        # The command and its worker share a process group.
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    reached = [int(path.name.split("-")[1]) for path in checkpoints(marsexp.home)]
    assert 1 <= max(reached) < 4
    resumed = marsexp("train", "--resume", "killed", "--json")
    assert resumed.status == 0, resumed.stderr
    (trial,) = resumed.json()["trials"]
    assert trial["epochs"] == 4
    reproduced = marsexp("reproduce", trial["run_id"], "--json")
    assert reproduced.status == 0, reproduced.stdout + reproduced.stderr
    document = reproduced.json()
    assert document["verdict"] == "identical"
    assert document["max_metric_difference"] == 0
    assert document["weights_sha256"]["original"] == document["weights_sha256"]["rerun"]
    assert set(document["weights_sha256"]["rerun"]) == {"final", "best"}
