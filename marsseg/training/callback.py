"""What a training tells while it runs. Imports no TensorFlow, so that whoever listens need not."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marsseg.training.checkpoint import Checkpoint
    from marsseg.training.trainer import EpochRecord


class Callback:
    """Hears nothing; a subclass hears what it has a method for."""

    def on_step(self, seconds: float) -> None:
        """A step has finished."""

    def on_validation_batch(self) -> None:
        """A batch of the validation part has been predicted."""

    def on_epoch(self, record: "EpochRecord", checkpoint: "Checkpoint") -> None:
        """An epoch has finished; the checkpoint continues after it."""
