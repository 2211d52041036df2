"""The shipped recipes and search spaces: one recipe for each thing the report tried, all within reach of a search."""

import re
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
# The recipe that the others are compared with.
BASE = "depth_4"
FINAL = {"final_unet", "best_unet"}
# The length of training, and where the report's own runs differ from our defaults.
NO_CHOICE = {"training.max_epochs", "training.early_stopping_patience", "training.weight_averaging"}
# All other recipes change a single value.
SEVERAL = {
    "depth_5": {"model.num_blocks", "model.max_filters"},
    "dilated_bottleneck": {"model.dilation", "model.dilation_rates"},
    "dual_unet": {"model.family", "loss.terms"},
    "cosine": {"schedule.name", "schedule.climb_epochs"},
    "nadam_exponential": {"optimizer.name", *(f"schedule.{name}" for name in ("name", "factor", "hold_epochs"))},
    **{f"weight_decay_{name}": {"optimizer.name", "optimizer.weight_decay"} for name in ("1e3", "5e3", "1e4", "5e4")},
}


def changes(name: str, since: ExperimentConfig) -> dict[str, Any]:
    before = since.flat()
    return {path: value for path, value in load_recipe(RECIPES[name]).flat().items() if before.get(path) != value}


def test_what_all_of_it_comes_to_is_there() -> None:
    assert RECIPES.keys() >= FINAL


def test_each_recipe_is_another_one() -> None:
    hashes = [load_recipe(path).config_hash() for path in RECIPES.values()]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - FINAL - {BASE, "two_stages"}))
def test_a_recipe_changes_one_thing(name: str) -> None:
    changed = changes(name, load_recipe(RECIPES[BASE])).keys()
    assert changed == SEVERAL[name] if name in SEVERAL else len(changed) == 1


def test_two_stages_are_those_of_the_report() -> None:
    config, base = load_recipe(RECIPES["two_stages"]), load_recipe(RECIPES[BASE])
    assert config.warmup is not None
    assert (config.warmup.loss, config.warmup.optimizer) == (base.loss, base.optimizer)
    assert config == base.with_values(
        {
            "warmup": config.warmup.model_dump(mode="json"),
            "loss.terms": "focal_tversky",
            "optimizer.learning_rate": 5e-4,
        }
    )


def test_recipes_share_their_data_so_that_one_study_may_run_them() -> None:
    for group in ("data", "cleaning", "split", "seed"):
        assert len({repr(getattr(load_recipe(path), group)) for path in RECIPES.values()}) == 1


def options(space: Mapping[str, Any], path: str) -> list[Any]:
    parameter = space["parameters"][path]
    if parameter["kind"] == "bool":
        return [False, True]
    return parameter.get("options") or list(range(parameter["low"], parameter["high"] + 1))


def test_what_a_recipe_is_called_is_what_it_has() -> None:
    for size in (8, 32, 64):
        assert load_recipe(RECIPES[f"batch_{size}"]).training.batch_size == size
    for depth, bottleneck in ((3, 256), (4, 512), (5, 1024)):
        model = load_recipe(RECIPES[f"depth_{depth}"]).model
        assert (model.num_blocks, model.filters_at(depth)) == (depth, bottleneck)
    for power in (3, 4):
        for factor in (1, 5):
            optimizer = load_recipe(RECIPES[f"weight_decay_{factor}e{power}"]).optimizer
            assert (optimizer.name, optimizer.weight_decay) == ("adamw", factor * 10**-power)
    for block in ("se", "cbam"):
        for place in ("encoder", "skip", "bottleneck"):
            assert getattr(load_recipe(RECIPES[f"{block}_{place}"]).model, block) == place
    for losses in ("focal", "dice", "focal_tversky", "cross_entropy_and_dice", "lovasz"):
        terms = dict(load_recipe(RECIPES[f"loss_{losses}"]).loss.terms)
        assert set(terms) == {name.replace("lovasz", "lovasz_softmax") for name in losses.split("_and_")}


def test_the_page_about_the_report_names_every_recipe_in_its_map_and_in_its_table() -> None:
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    begun, ended = page.split("## What came of it")
    assert set(RECIPES) <= set(re.findall(r"`(\w+)`", begun))
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) ± [\d.]+ \| (\S+) \| [\d.]+ ± [\d.]+ \|$", ended, re.MULTILINE)
    scores = {name: float(score) for name, score, _ in rows}
    assert scores.keys() == RECIPES.keys()
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    for name, score, difference in rows:
        expected = "–" if name == BASE else f"{float(score) - scores[BASE]:+.3f}".replace("-", "−")
        assert difference == expected, name
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_search_can_reach_every_choice(name: str) -> None:
    loaded = load_space(SPACES["report"])
    space, recipe = loaded.document, load_recipe(RECIPES[name]).flat()
    # A first stage has its default values, except for its length.
    default = ExperimentConfig.model_validate({"warmup": {"epochs": 1}})
    for path, value in changes(name, default).items():
        if path in NO_CHOICE or path == "warmup":
            continue
        if path in loaded.by_path:
            assert loaded.by_path[path].is_active({"warmup.epochs": 0, **recipe}), path
        if path in space["fixed"]:
            assert value == space["fixed"][path]
        elif path == "optimizer.learning_rate":
            assert space["parameters"][path]["low"] <= value <= space["parameters"][path]["high"]
        else:
            assert value in options(space, path), path


@pytest.mark.parametrize("name", sorted(SPACES))
def test_whatever_is_drawn_of_a_space_is_a_config(name: str) -> None:
    space = load_space(SPACES[name])
    proposer = build_proposer("optuna", "random", space)
    for number in range(100):
        values = {**space.fixed, **proposer.propose([], proposal_seed(0, number))}
        ExperimentConfig().with_values(values).model.check_image_fits(64, 128)
