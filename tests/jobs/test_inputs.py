"""Which data a command means."""

from pathlib import Path

import pytest

from marsseg.errors import UsageError
from marsseg.jobs.search import SearchOptions, _plan
from marsseg.jobs.train import _load_recipes
from marsseg.search.budget import Budget
from tests.conftest import TINY_SPACE


def test_data_that_a_recipe_names_come_before_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARSEXP_DATA", "environment.npz")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.toml").write_text("seed = 1", encoding="utf-8")
    (tmp_path / "synthetic.toml").write_text('data.source = "synthetic"', encoding="utf-8")

    def source(recipe: str, data: str | None = None, **values: str) -> str:
        (config,) = _load_recipes([recipe], data, {f"data.{name}": value for name, value in values.items()}).values()
        return config.data.source

    assert source("plain.toml") == source("plain.toml", "environment.npz") == str(tmp_path / "environment.npz")
    assert source("plain.toml", source="synthetic") == source("synthetic.toml") == "synthetic"
    assert source("synthetic.toml", source="mine.npz") == source("synthetic.toml", "mine.npz")
    with pytest.raises(UsageError, match="both name the data"):
        source("plain.toml", "mine.npz", source="other.npz")


def test_data_that_a_space_names_are_found_beside_it_and_come_before_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARSEXP_DATA", "environment.npz")
    monkeypatch.chdir(tmp_path)

    def source(fixed: str, data: str | None = None) -> str:
        (tmp_path / "spaces").mkdir(exist_ok=True)
        space = TINY_SPACE.replace("[fixed]", f"[fixed]\n{fixed}")
        (tmp_path / "spaces" / "space.toml").write_text(space, encoding="utf-8")
        return _plan(SearchOptions(Budget(trials=1), "spaces/space.toml", data))[1].data.source

    assert source("") == str(tmp_path / "environment.npz")
    assert source('"data.source" = "tiles.npz"') == str(tmp_path / "spaces" / "tiles.npz")
    assert source('"data.source" = "synthetic"') == "synthetic"
    assert source('"data.source" = "synthetic"', "tiles.npz") == str(tmp_path / "tiles.npz")
