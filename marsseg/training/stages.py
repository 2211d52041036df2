"""Stages: stretches of epochs, each with a loss, an optimizer and a schedule of its own."""

from dataclasses import dataclass

from marsseg.config import ExperimentConfig, LossConfig, OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class Stage:
    """Epochs `first_epoch` to `last_epoch`, both included and counted from 1."""

    first_epoch: int
    last_epoch: int
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig

    @property
    def num_epochs(self) -> int:
        """How long it is if nothing ends it before."""
        return self.last_epoch - self.first_epoch + 1


def stages_of(config: ExperimentConfig) -> tuple[Stage, ...]:
    """A config's stages in order: the warm-up, if there is one, and the main stage."""
    warmup, last_epoch = config.first_stage, config.training.max_epochs
    if warmup is None:
        return (Stage(1, last_epoch, config.loss, config.optimizer, config.schedule),)
    return (
        Stage(1, warmup.epochs, warmup.loss, warmup.optimizer, warmup.schedule),
        Stage(warmup.epochs + 1, last_epoch, config.loss, config.optimizer, config.schedule),
    )
