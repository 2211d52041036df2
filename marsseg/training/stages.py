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
        """The number of epochs if nothing ends the stage early."""
        return self.last_epoch - self.first_epoch + 1


def stages_of(config: ExperimentConfig) -> tuple[Stage, ...]:
    """A config's stages in order: the first stage, if there is one, and the main stage."""
    first, last_epoch = config.first_stage, config.training.max_epochs
    if first is None:
        return (Stage(1, last_epoch, config.loss, config.optimizer, config.schedule),)
    return (
        Stage(1, first.epochs, first.loss, first.optimizer, first.schedule),
        Stage(first.epochs + 1, last_epoch, config.loss, config.optimizer, config.schedule),
    )
