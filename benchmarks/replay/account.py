"""What a search has spent, and what it could hand over by then."""

from collections.abc import Sequence

from benchmarks.replay.policies import Progress
from marsseg.search.simulation import Curve
from marsseg.search.state import score_at

# Prices are sums of many parts; their last bits decide nothing.
_ROUNDING = 1 + 1e-9


class Account:
    """Trains by looking at curves, and pays for it.

    An epoch costs what the curve says, and so does a start wherever another configuration was trained before. What is
    handed over is the checkpoint of the highest score, the mean of its last three epochs.

    Args:
        curves: The configurations in their order.
        limit: What may be spent.

    Attributes:
        progress: What was trained and paid, an epoch each, in order.
        spent: What that cost.
    """

    def __init__(self, curves: Sequence[Curve], limit: float) -> None:
        self._curves = curves
        self._limit = limit
        self._epochs = [0] * len(curves)
        self._scores = [0.0] * len(curves)
        self._handed_over = [(0.0, 0.0)]
        self.progress: list[Progress] = []
        self.spent = 0.0

    def train(self, number: int, until: int) -> bool:
        """Trains a configuration to the end of an epoch, or as far as the limit goes.

        Args:
            number: Its place in the order.
            until: Epochs that it had before are neither trained nor paid again.

        Returns:
            Whether the limit went so far.
        """
        curve = self._curves[number]
        for epoch in range(self._epochs[number] + 1, until + 1):
            starts = not self.progress or self.progress[-1][0] != number
            spent = self.spent + curve.cost.epoch + curve.cost.start * starts
            if spent > self._limit * _ROUNDING:
                return False
            self.spent = spent
            self._epochs[number] = epoch
            self._scores[number] = score_at(curve.scores, epoch)
            self._handed_over.append((spent, max(self._scores)))
            self.progress.append((number, epoch))
        return True

    def score_for(self, price: float) -> float:
        """The score of what could be handed over once so much was spent; 0 before the first epoch."""
        return next(score for spent, score in reversed(self._handed_over) if spent <= price * _ROUNDING)
