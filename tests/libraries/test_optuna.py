"""A config from an Optuna trial, however its space is given."""

from pathlib import Path

import optuna
import pytest

from marsseg.errors import ConfigError, NotFoundError, SpaceError
from marsseg.libraries.optuna import suggest_config
from marsseg.search.space_file import load_space

UNET = Path(__file__).parents[2] / "search_spaces" / "unet.toml"


def new_trial(seed: int = 0) -> optuna.Trial:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


def test_a_name_a_path_and_a_space_give_the_same() -> None:
    configs = [suggest_config(new_trial(), space) for space in ("unet", UNET, str(UNET), load_space(UNET))]
    assert len({config.config_hash() for config in configs}) == 1
    assert configs[0].training.max_epochs == 27
    assert configs[0].model.max_filters == 512


def test_the_trial_knows_what_the_config_holds() -> None:
    for seed in range(20):
        trial = new_trial(seed)
        flat = suggest_config(trial, "unet").flat()
        assert {path: flat[path] for path in trial.params} == trial.params
        assert ("optimizer.weight_decay" in trial.params) == (flat["optimizer.name"] == "adamw")


def test_values_beside_the_space_are_set_and_parameters_among_them_do_not_vary() -> None:
    values = {"training.max_epochs": 5, "optimizer.weight_decay": 1e-3, "data.source": "tiles.npz"}
    flats = [suggest_config(new_trial(seed), "unet", values).flat() for seed in range(10)]
    assert all(flat | values == flat for flat in flats)
    assert {flat["optimizer.name"] for flat in flats} == {"adamw"}
    assert len({flat["model.num_blocks"] for flat in flats}) > 1


def test_a_value_may_be_allowed_only_with_the_epochs_beside_it() -> None:
    values = {"training.max_epochs": 100, "warmup.epochs": 40}
    assert suggest_config(new_trial(), "report", values).flat()["warmup.epochs"] == 40


@pytest.mark.parametrize(
    ("space", "values", "error", "words"),
    [
        ("unett", {}, NotFoundError, "did you mean 'unet'"),
        ("unet", {"model.blocks": 3}, ConfigError, "num_blocks"),
        ("unet", {"model.num_blocks": 99}, SpaceError, "model.num_blocks"),
        ("unet", {"optimizer.name": "sgd", "optimizer.weight_decay": 1e-3}, SpaceError, "has an effect only where"),
    ],
)
def test_what_cannot_be(space: str, values: dict[str, object], error: type[Exception], words: str) -> None:
    trial = new_trial()
    with pytest.raises(error, match=words):
        suggest_config(trial, space, values)
    assert trial.params == {}
