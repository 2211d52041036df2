"""The examples of docs/libraries.md, each run unchanged in its own process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from marsseg.cli.app import app
from tests.cli.command_lines import parse_example

PAGE = (Path(__file__).parents[2] / "docs" / "libraries.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(code: str, folder: Path) -> str:
    (folder / "example.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:__main__", "example.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def optuna_example() -> str:
    return next(code for code in EXAMPLES if "suggest_config" in code)


@pytest.fixture
def keras_tuner_example() -> str:
    return next(code for code in EXAMPLES if "SpaceHyperModel" in code)


def test_every_example_has_its_test() -> None:
    assert len(EXAMPLES) == 2
    (command,) = re.findall(r"^\$ (marsexp .*)$", PAGE, flags=re.MULTILINE)
    assert parse_example(app, command).params["optuna"] == "sqlite:///study.db"


def test_an_optuna_objective(optuna_example: str, tmp_path: Path) -> None:
    report = """
import json
trials = [(t.state.name, t.params, t.value, t.intermediate_values, t.user_attrs) for t in study.trials]
again = train(suggest_config(optuna.trial.FixedTrial(study.best_params), "smoke", TINY))
print(json.dumps([trials, again.weights_sha256["best"]]))
"""
    trials, weights = json.loads(run(optuna_example + report, tmp_path).splitlines()[-1])
    assert [state for state, *_ in trials] == ["COMPLETE"] * 3
    for _, params, value, scores, _ in trials:
        assert {"model.num_blocks", "loss.terms", "optimizer.learning_rate"} <= set(params)
        assert ("optimizer.weight_decay" in params) == (params["optimizer.name"] == "adamw")
        assert list(scores) == ["1", "2"]
        assert value == max(scores.values())
    best = max(trials, key=lambda trial: trial[2])
    assert weights == best[4]["weights_sha256"]


def test_a_keras_tuner_hypermodel(keras_tuner_example: str, tmp_path: Path) -> None:
    report = """
import json
import keras
import numpy as np
from marsseg.libraries.training import set_up, train
config, data = set_up(hypermodel.config(best))
images, masks = data.validation
labels = np.argmax(model.predict(images, verbose=0), -1)
again = train(config)
built = hypermodel.build(best)
history = built.fit(*data.train, batch_size=8, epochs=4, verbose=0).history["loss"]
class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True
stopped = hypermodel.fit(best, built, callbacks=[Stop()])
try:
    hypermodel.fit(best, built, *data.train)
except keras_tuner.errors.FatalValueError as error:
    refusal = str(error)
kept = SpaceHyperModel("smoke", TINY, checkpoints="kept")
class Count(keras.callbacks.Callback):
    epochs = []
    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
kept.fit(best, built, epochs=1, callbacks=[Count()])
promoted = kept.fit(best, built, epochs=2, initial_epoch=1, callbacks=[Count()])
trials = tuner.oracle.get_best_trials(2)
print(json.dumps({
    "stopped": [stopped, again.history[0].metrics],
    "refusal": refusal,
    "promoted": [Count.epochs, promoted],
    "trials": [[t.status, t.score, t.hyperparameters.values] for t in trials],
    "alike": float((labels == again.evaluator.predict_labels(images)).mean()),
    "again": again.history[again.best_epoch - 1].metrics["val_mean_iou"],
    "plain": [type(built.optimizer).__name__, config.optimizer.name, history],
}))
"""
    found = json.loads(run(keras_tuner_example + report, tmp_path).splitlines()[-1])
    assert [status for status, _, _ in found["trials"]] == ["COMPLETED"] * 2
    for _, score, values in found["trials"]:
        assert 0 < score <= 1
        assert ("optimizer.weight_decay" in values) == (values["optimizer.name"] == "adamw")
    # Training the config gives the tuner's score, and labels every pixel as the saved weights do.
    assert found["again"] == found["trials"][0][1]
    assert found["alike"] == 1
    stopped, first_epoch = found["stopped"]
    assert stopped == first_epoch
    # A promoted trial trains the remaining epochs from its checkpoint, and ends as uninterrupted training does.
    epochs, promoted = found["promoted"]
    assert epochs == [0, 1]
    assert promoted["val_mean_iou"] == found["again"]
    assert found["refusal"].startswith("tuner.search: expected epochs and callbacks, found 2 positional")
    optimizer, name, losses = found["plain"]
    assert optimizer.lower() == name
    assert losses[-1] < losses[0]
