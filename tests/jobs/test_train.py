"""Recipes trained from the command line, as one study."""

from pathlib import Path

import numpy as np
import pytest

from marsseg.config import load_recipe
from marsseg.jobs.shipped import find_recipes
from marsseg.search.ledger import Ledger
from tests.conftest import Marsexp, write_tiles

TINY = """
seed = {seed}

[model]
num_blocks = 2
base_filters = 4

[training]
max_epochs = {max_epochs}
batch_size = 8
precision = "float32"
"""


def test_recipes_are_one_study_with_seeds_of_their_own(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    (marsexp.folder / "recipes").mkdir()
    (marsexp.folder / "recipes" / "short.toml").write_text(TINY.format(seed=0, max_epochs=1), encoding="utf-8")
    (marsexp.folder / "recipes" / "long.toml").write_text(TINY.format(seed=7, max_epochs=2), encoding="utf-8")
    done = marsexp("train", "recipes", "--data", "tiles.npz", "--seeds", "2", "--name", "both", "--json")
    assert done.status == 0, done.stderr
    trials = sorted(done.json()["trials"], key=lambda trial: int(trial["trial"]))
    assert [(trial["values"]["recipe"], trial["values"]["seed"], trial["epochs"]) for trial in trials] == [
        ("long", 7, 2),
        ("long", 8, 2),
        ("short", 0, 1),
        ("short", 1, 1),
    ]
    assert {trial["state"] for trial in trials} == {"completed"}
    recipes = {row["recipe"]: row for row in done.json()["recipes"]}
    for recipe, row in recipes.items():
        scores = [trial["best_val_mean_iou"] for trial in trials if trial["values"]["recipe"] == recipe]
        assert row["best_val_mean_iou"] == pytest.approx({"mean": np.mean(scores), "sd": np.std(scores, ddof=1)})
        assert row["seeds"] == 2
    assert recipes.keys() == {"long", "short"}
    again = marsexp("train", "--resume", "both", "--json")
    assert again.json() == done.json()


def test_a_training_that_has_nothing_to_paste_says_so(marsexp: Marsexp) -> None:
    path = write_tiles(marsexp.folder / "tiles.npz")
    with np.load(path) as file:
        pairs = file["training_set"]
    # One pixel of the rarest class in each image.
    pairs[:, 1] = 1
    pairs[:, 1, 0, 0] = 4
    np.savez(path, training_set=pairs)
    (marsexp.folder / "tiny.toml").write_text(TINY.format(seed=0, max_epochs=1), encoding="utf-8")
    settings = ("--set", "augmentation.paste_rare=0.5", "--set", "cleaning.remove_outliers=false")
    done = marsexp("train", "tiny.toml", "--data", "tiles.npz", *settings)
    assert done.status == 0, done.stderr
    assert "nothing to paste: no object of the rarest class is large enough (paste_rare of tiny)\n" in done.stderr


def test_training_that_fails_says_why_and_exits_with_1(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    (marsexp.folder / "tiny.toml").write_text(TINY.format(seed=0, max_epochs=1), encoding="utf-8")
    done = marsexp("train", "tiny.toml", "--data", "tiles.npz", "--set", "optimizer.learning_rate=1e38", "--json")
    assert done.status == 1
    (trial,) = done.json()["trials"]
    assert trial["state"] == "failed"
    assert "became" in trial["reason"]
    assert "epoch 1" in trial["reason"]


def test_shipped_recipes_are_found_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (final,) = find_recipes("final_unet")
    assert find_recipes("experiments/final_unet.toml") == [final]
    assert final in find_recipes("experiments")
    assert len(find_recipes("experiments/")) == len(list(final.parent.glob("*.toml"))) > 40
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.toml").write_text("", encoding="utf-8")
    assert [path.name for path in find_recipes("experiments")] == ["mine.toml"]


def test_data_that_a_recipe_names_is_found_beside_it_from_elsewhere_too(marsexp: Marsexp) -> None:
    recipes = marsexp.folder / "recipes"
    recipes.mkdir()
    write_tiles(recipes / "tiles.npz")
    recipe = f'{TINY.format(seed=0, max_epochs=1)}\n[data]\nsource = "tiles.npz"\n'
    (recipes / "tiny.toml").write_text(recipe, encoding="utf-8")
    done = marsexp("train", "recipes/tiny.toml", "--name", "mine", "--json")
    assert done.status == 0, done.stderr
    stored = Ledger(marsexp.home / "ledger.db").settings("mine")["configs"]["tiny"]["data"]["source"]
    assert stored == str(recipes / "tiles.npz")
    absent = marsexp("train", "recipes/tiny.toml", "--set", "data.source=tiles.npz")
    assert absent.status == 1
    assert str(marsexp.folder / "tiles.npz") in absent.stderr


def test_shipped_recipe_is_the_reports_final_model() -> None:
    config = load_recipe(*find_recipes("final_unet"))
    assert (config.model.num_blocks, config.model.upsampling) == (4, "conv2d_transpose")
    assert dict(config.loss.terms) == {"dice": 1.0}
    assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.weight_decay) == (
        "adamw",
        1e-3,
        1e-4,
    )
    assert (config.training.batch_size, config.schedule.name, config.augmentation.flips) == (16, "plateau", True)
    assert config.training.early_stopping_patience is not None
