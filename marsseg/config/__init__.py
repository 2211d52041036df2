"""The experiment config: everything that decides a training run, as frozen values."""

from marsseg.config.experiment import ExperimentConfig, changed_fields, parse_config
from marsseg.config.groups import (
    SYNTHETIC,
    AugmentationConfig,
    CleaningConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
    SplitConfig,
    TrainingConfig,
    UNetConfig,
    WarmupConfig,
)
from marsseg.config.recipes import load_recipe, parse_assignment, read_toml

__all__ = [
    "SYNTHETIC",
    "AugmentationConfig",
    "CleaningConfig",
    "DataConfig",
    "ExperimentConfig",
    "LossConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "SplitConfig",
    "TrainingConfig",
    "UNetConfig",
    "WarmupConfig",
    "changed_fields",
    "load_recipe",
    "parse_assignment",
    "parse_config",
    "read_toml",
]
