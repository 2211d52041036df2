"""The experiment config: what it refuses, how it is hashed, and that it survives a round trip in TOML and JSON."""

import json
import tomllib
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marsseg.config import ExperimentConfig, changed_fields, parse_config
from marsseg.config.groups import LossName
from marsseg.errors import ConfigError

DEFAULT = ExperimentConfig()

# Fields may be added; a default never changes within a schema version, nor does the hash of a config.
DEFAULTS_OF_SCHEMA_VERSION_1 = {
    "schema_version": 1,
    "seed": 0,
    "data.source": "synthetic",
    "data.num_classes": 5,
    "data.train_limit": None,
    "data.synthetic_images": 600,
    "data.synthetic_seed": 0,
    "cleaning.remove_outliers": True,
    "split.validation_images": None,
    "split.test_images": None,
    "split.seed": 0,
    "model.family": "unet",
    "model.num_blocks": 4,
    "model.base_filters": 16,
    "model.max_filters": 512,
    "model.upsampling": "conv2d_transpose",
    "model.skip_connections": True,
    "model.se": "none",
    "model.se_reduction_ratio": 4,
    "model.cbam": "none",
    "model.cbam_reduction_ratio": 4,
    "model.attention_gates": False,
    "model.stn": False,
    "model.dilation": "none",
    "model.dilation_rates": "1,2",
    "model.residual": False,
    "model.global_blocks": 2,
    "model.normalization": "batch",
    "model.dropout": 0.0,
    "model.predict_background": True,
    "augmentation.flips": False,
    "augmentation.translation": 0.0,
    "augmentation.rotation": 0.0,
    "augmentation.contrast": 0.0,
    "augmentation.brightness": 0.0,
    "augmentation.cutmix": 0.0,
    "augmentation.cutout": 0.0,
    "augmentation.repeat_rare": 0,
    "augmentation.paste_rare": 0.0,
    "loss.terms": "cross_entropy",
    "loss.class_weights": "none",
    "loss.background_weight": 1.0,
    "loss.focal_gamma": 2.0,
    "loss.tversky_alpha": 0.7,
    "loss.tversky_beta": 0.3,
    "loss.focal_tversky_exponent": 0.75,
    "loss.fine_output_weight": 0.5,
    "loss.global_output_weight": 0.5,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.001,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "constant",
    "schedule.factor": 0.5,
    "schedule.patience": 5,
    "schedule.hold_epochs": 10,
    "schedule.climb_epochs": 0,
    "schedule.min_learning_rate": 1e-06,
    "warmup": None,
    "training.batch_size": 16,
    "training.max_epochs": 27,
    "training.precision": "auto",
    "training.threads": "auto",
    "training.gpus": 1,
    "training.weight_averaging": True,
    "training.early_stopping_patience": None,
}
CHANGED = DEFAULT.with_values({"seed": 1, "training.batch_size": 8})
CHANGED_HASH = "834e1b14a7eb443e4d181899b5566e2b546e1a2dd231c21560e16fba06abdd7f"
CHANGED_HASH_WITHOUT_SEED = "919d37d8a297100fedaab802b5c069b55b07cb05f6bde6d7d1498e1193bbfdbf"


@st.composite
def losses(draw: st.DrawFn) -> dict[str, Any]:
    weight = st.floats(1e-30, 1e30)
    return {
        "terms": draw(st.dictionaries(st.sampled_from(get_args(LossName)), weight, min_size=1)),
        "class_weights": draw(st.sampled_from(["none", "frequency", "log"])),
        "background_weight": draw(st.floats(0, 10)),
        "focal_gamma": draw(st.floats(0, 10)),
    }


@st.composite
def optimizers(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(["adam", "adamw", "nadam", "sgd"]))
    return {
        "name": name,
        "learning_rate": draw(st.floats(1e-12, 10)),
        "momentum": draw(st.floats(0, 0.99)) if name == "sgd" else 0.9,
        "weight_decay": draw(st.floats(0, 1)) if name != "adam" else 0.0,
    }


@st.composite
def configs(draw: st.DrawFn) -> ExperimentConfig:
    maybe_count = st.none() | st.integers(1, 10**9)
    tree: dict[str, Any] = {
        "seed": draw(st.integers(0, 2**31 - 1)),
        "data": {"source": draw(st.text(min_size=1)), "train_limit": draw(maybe_count)},
        "split": {"validation_images": draw(maybe_count), "test_images": draw(maybe_count)},
        "model": {
            "num_blocks": draw(st.integers(2, 6)),
            "base_filters": 4 * draw(st.integers(1, 32)),
            "se": draw(st.sampled_from(["none", "encoder", "skip", "bottleneck"])),
            "cbam": draw(st.sampled_from(["none", "encoder", "skip", "bottleneck"])),
            "dilation_rates": draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)),
            "dropout": draw(st.floats(0, 0.99)),
        },
        "loss": draw(losses()),
        "optimizer": draw(optimizers()),
        "training": {
            "max_epochs": 100,
            "threads": draw(st.just("auto") | st.integers(1, 64)),
            "early_stopping_patience": draw(maybe_count),
        },
    }
    if draw(st.booleans()):
        tree["warmup"] = {"epochs": draw(st.integers(1, 99)), "loss": draw(losses()), "optimizer": draw(optimizers())}
    return parse_config(tree)


@given(configs())
@settings(max_examples=60, deadline=None)
def test_toml_json_and_flat_values_give_the_config_back(config: ExperimentConfig) -> None:
    from_toml = parse_config(tomllib.loads(config.to_toml()))
    from_json = parse_config(json.loads(config.to_json()))
    assert from_toml == from_json == config == DEFAULT.with_values(config.flat())
    assert from_toml.config_hash() == from_json.config_hash() == config.config_hash()
    assert (hash(from_toml), changed_fields(from_toml, config)) == (hash(config), {})


@given(configs(), configs())
@settings(max_examples=30, deadline=None)
def test_changed_fields_are_empty_exactly_for_equal_configs(first: ExperimentConfig, second: ExperimentConfig) -> None:
    assert (changed_fields(first, second) == {}) == (first == second)


def test_defaults_and_hashes_of_schema_version_1_stay() -> None:
    assert DEFAULTS_OF_SCHEMA_VERSION_1.items() <= DEFAULT.flat().items()
    assert CHANGED.config_hash() == CHANGED_HASH
    assert CHANGED.config_hash(with_seed=False) == CHANGED_HASH_WITHOUT_SEED


def test_hash_leaves_out_where_the_data_lie_but_not_that_they_are_a_file() -> None:
    here, there = (DEFAULT.with_values({"data.source": path}) for path in ("/here/a.npz", "/there/b.npz"))
    assert here != there
    assert here.config_hash() == there.config_hash()
    assert here.config_hash() != DEFAULT.config_hash()


def test_hash_leaves_the_seed_out_on_request_alone() -> None:
    other = DEFAULT.with_values({"seed": 1})
    assert other.config_hash() != DEFAULT.config_hash()
    assert other.config_hash(with_seed=False) == DEFAULT.config_hash(with_seed=False)
    assert CHANGED.config_hash(with_seed=False) != DEFAULT.config_hash(with_seed=False)


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("optimizer.learning_rate", 1, 1.0),
        ("loss.terms", "dice+cross_entropy", {"cross_entropy": 1, "dice": 1.0}),
        ("data.train_limit", "none", None),
        ("model.dropout", 0.0, 0),
        ("model.dropout", 0.0, -0.0),
    ],
)
def test_equal_values_give_equal_configs_and_hashes(path: str, one: Any, other: Any) -> None:
    first, second = DEFAULT.with_values({path: one}), DEFAULT.with_values({path: other})
    assert first == second
    assert first.config_hash() == second.config_hash()


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DEFAULT.seed = 1  # type: ignore[misc]  # must fail
    with pytest.raises(ValidationError, match="frozen"):
        DEFAULT.model.num_blocks = 3  # type: ignore[misc]  # likewise


def test_a_configs_loss_terms_cannot_be_changed_either() -> None:
    config = DEFAULT.with_values({"seed": 1})
    with pytest.raises(TypeError):
        config.loss.terms[0] = ("dice", 2.0)  # type: ignore[index]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer.learning_rat": 1e-3}, "unknown field 'optimizer.learning_rat'; did you mean 'learning_rate'?"),
        ({"optimiser.name": "adam"}, "unknown field 'optimiser.name'; did you mean 'optimizer'?"),
        ({"zzz": 1}, "unknown field 'zzz'"),
        ({"seed.value": 1}, "unknown field 'seed.value'; 'seed' has no fields of its own"),
        ({"warmup.epoch": 1}, "unknown field 'warmup.epoch'; did you mean 'epochs'?"),
        ({"model.se": "skip", "model.skip_connections": False}, "model: se = 'skip' needs skip_connections = true"),
        (
            {"model.se": "encoder", "model.base_filters": 6},
            "model: se_reduction_ratio must divide filters: 4 and 6 at level 0",
        ),
        (
            {"model.se": "bottleneck", "model.base_filters": 8, "model.max_filters": 18},
            "model: se_reduction_ratio must divide filters: 4 and 18 at level 4",
        ),
        (
            {"model.cbam": "skip", "model.base_filters": 6},
            "model: cbam_reduction_ratio must divide filters: 4 and 6 at level 0",
        ),
        (
            {"model.family": "dual_unet", "model.global_blocks": 1, "model.se": "bottleneck", "model.base_filters": 3},
            "model: se_reduction_ratio must divide filters: 4 and 6 at level 1",
        ),
        ({"model.cbam": "skip", "model.skip_connections": False}, "model: cbam = 'skip' needs skip_connections = true"),
        (
            {"model.attention_gates": True, "model.skip_connections": False},
            "model: attention_gates = true needs skip_connections = true",
        ),
        (
            {"model.dilation": "both", "model.skip_connections": False},
            "model: dilation = 'both' needs skip_connections = true",
        ),
        ({"model.dilation_rates": "2;4"}, "model.dilation_rates: expected integers joined by ',', found '2;4'"),
        ({"model.dilation_rates": "2,0"}, "model.dilation_rates: input should be greater than or equal to 1, found 0"),
        ({"model.dilation_rates": []}, "model.dilation_rates: "),
        ({"loss.tversky_alpha": 0.0, "loss.tversky_beta": 0.0}, "loss: tversky_alpha and tversky_beta must not both"),
        (
            {"loss.terms": "focal", "model.predict_background": False},
            "loss.background_weight must be 0 for focal where model.predict_background is false, found 1.0",
        ),
        ({"optimizer.momentum": 0.5}, "optimizer: momentum needs name = 'sgd', found 'adam'"),
        ({"optimizer.weight_decay": 1e-3}, "optimizer: weight_decay needs name = 'adamw', which is Adam"),
        (
            {"warmup.epochs": 2, "warmup.optimizer.weight_decay": 1e-3},
            "warmup.optimizer: weight_decay needs name = 'adamw', which is Adam",
        ),
        (
            {"model.predict_background": False},
            "loss.background_weight must be 0 for cross_entropy where model.predict_background is false, found 1.0",
        ),
        (
            {"model.predict_background": False, "loss.terms": "dice", "warmup.epochs": 1},
            "loss.background_weight must be 0 for cross_entropy where model.predict_background is false, found 1.0",
        ),
        ({"warmup.loss.terms": "dice"}, "warmup.epochs: Field required"),
        (
            {"schedule.name": "exponential", "schedule.hold_epochs": 27},
            "schedule.hold_epochs must be below the 27 epochs that schedule.name = 'exponential' has, found 27",
        ),
        (
            {"schedule.name": "cosine", "schedule.climb_epochs": 20, "warmup.epochs": 7},
            "schedule.climb_epochs must be below the 20 epochs that schedule.name = 'cosine' has, found 20",
        ),
        (
            {"warmup.epochs": 3, "warmup.schedule.name": "cosine", "warmup.schedule.climb_epochs": 3},
            "schedule.climb_epochs must be below the 3 epochs",
        ),
        ({"loss.fine_output_weight": 0.1}, "loss.fine_output_weight needs model.family = 'dual_unet', found 'unet'"),
        ({"model.family": "dual_unet", "model.stn": True}, "model: stn = true needs family = 'unet'"),
        ({"model.global_blocks": 3}, "model: global_blocks needs family = 'dual_unet', found 'unet'"),
        ({"loss.terms": {}}, "loss: terms must name at least one loss, each with a weight above 0"),
        ({"loss.terms": "0*dice"}, "loss: terms must name at least one loss, each with a weight above 0"),
        ({"loss.terms": "-1*dice"}, "loss: terms must name at least one loss, each with a weight above 0"),
        ({"loss.terms": "dice+dice"}, "loss.terms: loss 'dice' appears twice in 'dice+dice'"),
        ({"loss.terms": "half*dice"}, "expected NAME or WEIGHT*NAME joined by '+', found 'half*dice'"),
        ({"loss.terms": "dise"}, "or 'lovasz_softmax', found 'dise'"),
        (
            {"training.batch_size": 1, "augmentation.cutmix": 0.5},
            "augmentation.cutmix needs training.batch_size above 1",
        ),
        ({"training.batch_size": 0}, "training.batch_size: input should be greater than or equal to 1, found 0"),
        ({"training.batch_size": "8"}, "training.batch_size: input should be a valid integer, found '8'"),
        ({"training.threads": 0}, "training.threads: "),
        ({"model.num_blocks": 7}, "model.num_blocks: input should be less than or equal to 6, found 7"),
        ({"model.dropout": 1.0}, "model.dropout: input should be less than 1, found 1.0"),
        ({"optimizer.learning_rate": float("nan")}, "optimizer.learning_rate: input should be a finite number"),
        ({"seed": 2**31}, "seed: input should be less than 2147483648"),
        ({"augmentation.flips": 1}, "augmentation.flips: input should be a valid boolean, found 1"),
        ({"schema_version": 2}, "schema_version: input should be 1, found 2"),
    ],
)
def test_refuses_with_place_and_reason(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DEFAULT.with_values(values)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("rates", [3, "3", [3]])
def test_a_single_dilation_rate_is_written_as_one_likes(rates: object) -> None:
    assert ExperimentConfig().with_values({"model.dilation_rates": rates}).model.dilation_rates == (3,)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("dice", {"dice": 1.0}),
        ("cross_entropy+dice", {"cross_entropy": 1.0, "dice": 1.0}),
        (" 0.5*cross_entropy + 2e-1*dice ", {"cross_entropy": 0.5, "dice": 0.2}),
    ],
)
def test_loss_terms_are_read_from_text(text: str, terms: dict[str, float]) -> None:
    assert dict(DEFAULT.with_values({"loss.terms": text}).loss.terms) == terms


def test_filters_double_up_to_the_cap_and_a_depth_that_does_not_fit_says_which_would() -> None:
    model = DEFAULT.with_values({"model.base_filters": 12, "model.max_filters": 50, "model.num_blocks": 5}).model
    assert [model.filters_at(level) for level in range(5)] == [12, 24, 48, 50, 50]
    model.check_image_fits(64, 128)
    with pytest.raises(ConfigError, match=r"divisible by 32, found 48x128; at most 4 blocks fit"):
        model.check_image_fits(48, 128)
    with pytest.raises(ConfigError, match=r"66x130; no network fits: crop or pad the images to sides divisible by 4$"):
        model.check_image_fits(66, 130)
    dual = DEFAULT.with_values({"model.family": "dual_unet"}).model
    with pytest.raises(ConfigError, match=r"num_blocks = 4 .* 33x66; no network fits"):
        dual.check_image_fits(33, 66)


def test_a_first_stage_of_no_epochs_is_none() -> None:
    plain, empty = ExperimentConfig(), ExperimentConfig().with_values({"warmup.epochs": 0, "warmup.loss.terms": "dice"})
    assert empty.config_hash() == plain.config_hash()
    assert empty.first_stage is None
    one = ExperimentConfig().with_values({"warmup.epochs": 1})
    assert one.config_hash() != plain.config_hash()
    assert one.first_stage == one.warmup


def test_a_ratio_has_to_divide_filters_only_where_its_block_stands() -> None:
    config = ExperimentConfig().with_values(
        {"model.base_filters": 8, "model.se": "bottleneck", "model.se_reduction_ratio": 16}
    )
    assert config.model.filters_at(config.model.num_blocks) == 128
