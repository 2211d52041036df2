"""Configs as people write them: recipe files, their bases, and `path=value`."""

from pathlib import Path
from typing import Any

import pytest

from marsseg.config import ExperimentConfig, load_recipe, parse_assignment
from marsseg.errors import ConfigError


def test_unknown_key_of_a_recipe_is_named_with_its_file_and_the_nearest_name(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[warmup]\nepochs = 2\n[warmup.optimizer]\nlearning_rat = 1.0\n")
    with pytest.raises(ConfigError) as refused:
        load_recipe(recipe)
    assert str(refused.value) == (
        f"{recipe}: unknown key 'warmup.optimizer.learning_rat'; did you mean 'learning_rate'?"
    )


@pytest.mark.parametrize("content", [b"seed = ", b"seed = 1\nseed = 2", b"\xff\xfe"])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_bytes(content)
    with pytest.raises(ConfigError, match="expected TOML"):
        load_recipe(recipe)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate", 1e-4),
        (" training.max_epochs = 3 ", "training.max_epochs", 3),
        ("augmentation.flips=true", "augmentation.flips", True),
        ("optimizer.name=adamw", "optimizer.name", "adamw"),
        ('optimizer.name="adamw"', "optimizer.name", "adamw"),
        ("loss.terms=0.5*cross_entropy+dice", "loss.terms", "0.5*cross_entropy+dice"),
        ("loss.terms={dice = 2}", "loss.terms", {"dice": 2}),
        ("data.source=/a=b.npz", "data.source", "/a=b.npz"),
        ("data.source=", "data.source", ""),
    ],
)
def test_assignments_are_read_as_toml_else_as_text(text: str, path: str, value: Any) -> None:
    read = parse_assignment(text)
    assert read == (path, value)
    assert type(read[1]) is type(value)


@pytest.mark.parametrize("text", ["optimizer.name", "=1", "  =1"])
def test_assignment_without_path_or_sign_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected path=value"):
        parse_assignment(text)


def test_a_recipe_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[model]\nnum_blocks = 3\nbase_filters = 8\n[loss]\nterms = { dice = 1.0 }\n")
    (tmp_path / "own.toml").write_text(
        'base = "base"\n[model]\nbase_filters = 4\n[loss]\nterms = { focal = 2.0 }\n[schedule]\nname = "plateau"\n'
    )
    config = load_recipe(tmp_path / "own.toml")
    values = {"model.num_blocks": 3, "model.base_filters": 4, "loss.terms": "2*focal", "schedule.name": "plateau"}
    assert config == ExperimentConfig().with_values(values)


def test_a_base_that_is_not_there_or_has_a_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('base = "absent"\n')
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_recipe(tmp_path / "own.toml")
    (tmp_path / "absent.toml").write_text('base = "own"\n')
    with pytest.raises(ConfigError, match=r"own\.toml: expected a base without a base of its own, found absent\.toml"):
        load_recipe(tmp_path / "own.toml")


@pytest.mark.parametrize("base", ['"sub/base"', '"../base"', "3"])
def test_a_base_elsewhere_is_refused(tmp_path: Path, base: str) -> None:
    (tmp_path / "own.toml").write_text(f"base = {base}\n")
    with pytest.raises(ConfigError, match="expected base = the name of a recipe in the same folder"):
        load_recipe(tmp_path / "own.toml")


def test_lists_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(f"seed = {'[' * 5000}{']' * 5000}\n")
    with pytest.raises(ConfigError, match=r"own\.toml: expected TOML, found tables or lists nested too deeply"):
        load_recipe(tmp_path / "own.toml")
