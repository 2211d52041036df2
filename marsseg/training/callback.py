"""The events of a training run. Imports no TensorFlow, so that listeners need not either."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marsseg.training.checkpoint import Checkpoint
    from marsseg.training.trainer import EpochRecord


class Callback:
    """Ignores every event; a subclass overrides the methods of the events that it handles."""

    def on_step(self, seconds: float) -> None:
        """A step has finished."""

    def on_validation_batch(self) -> None:
        """A batch of the validation split has been predicted."""

    def on_epoch(self, record: "EpochRecord", checkpoint: "Checkpoint") -> None:
        """An epoch has finished; the checkpoint resumes after it."""
