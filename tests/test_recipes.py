"""The recipes and spaces that are shipped: one for each thing the report tried, all in reach of a search."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from marsseg.config import ExperimentConfig, load_recipe
from marsseg.search.engines import build_proposer
from marsseg.search.proposer import proposal_seed
from marsseg.search.space_file import load_space

ROOT = Path(__file__).parents[1]
RECIPES = {path.stem: path for path in sorted((ROOT / "experiments").glob("*.toml"))}
SPACES = {path.stem: path for path in sorted((ROOT / "search_spaces").glob("*.toml"))}
# One thing is changed of it, or nothing but sizes.
BASE = "depth_4"
FINAL = {"final_unet", "best_unet"}
# How large and how long, and where the report's own trainings differ from what ours do by default.
NO_CHOICE = {
    *("training.max_epochs", "training.early_stopping_patience", "training.weight_averaging"),
    *("model.max_filters", "schedule.patience", "schedule.hold_epochs", "schedule.warmup_epochs"),
}


def changes(name: str, since: ExperimentConfig) -> dict[str, Any]:
    before = since.flat()
    return {path: value for path, value in load_recipe(RECIPES[name]).flat().items() if before.get(path) != value}


def test_each_recipe_is_another_one() -> None:
    hashes = [load_recipe(path).config_hash() for path in RECIPES.values()]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - FINAL - {BASE}))
def test_a_recipe_changes_one_thing(name: str) -> None:
    groups = {path.split(".")[0] for path in changes(name, load_recipe(RECIPES[BASE]))}
    assert len(groups) == 1 or groups in (
        {"warmup", "loss", "optimizer"},  # two stages
        {"optimizer", "schedule"},  # Nadam with its schedule
        {"model", "loss"},  # the dual network with its loss
    )


def test_recipes_share_their_data_so_that_one_study_may_run_them() -> None:
    for group in ("data", "cleaning", "split", "seed"):
        assert len({repr(getattr(load_recipe(path), group)) for path in RECIPES.values()}) == 1


def options(space: Mapping[str, Any], path: str) -> list[Any]:
    parameter = space["parameters"][path]
    if parameter["kind"] == "bool":
        return [False, True]
    return parameter.get("options") or list(range(parameter["low"], parameter["high"] + 1))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_search_can_reach_every_choice(name: str) -> None:
    space = load_space(SPACES["report"]).document
    # A first stage is what it is by default, or there is none.
    for path, value in changes(name, ExperimentConfig.model_validate({"warmup": {"epochs": 0}})).items():
        if path in NO_CHOICE or path == "warmup":
            continue
        if path == "optimizer.learning_rate":
            assert space["parameters"][path]["low"] <= value <= space["parameters"][path]["high"]
        elif path != "warmup.epochs":
            assert value in options(space, path), path
        else:
            assert any(options(space, path))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_whatever_is_drawn_of_a_space_is_a_config(name: str) -> None:
    space = load_space(SPACES[name])
    proposer = build_proposer("optuna", "random", space)
    for number in range(100):
        values = {**space.fixed, **proposer.propose([], proposal_seed(0, number))}
        ExperimentConfig().with_values(values).model.check_image_fits(64, 128)
