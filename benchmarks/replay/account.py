"""The cost that a search has spent, and the checkpoint that it could hand over by then."""

from collections.abc import Sequence

from benchmarks.replay.policies import Progress
from marsseg.search.simulation import Curve
from marsseg.search.state import score_at

# Costs are sums of many terms; their last bits decide nothing.
_ROUNDING = 1 + 1e-9


class Account:
    """Trains by reading curves, and pays for it.

    An epoch costs what the curve says, and so does a start wherever another configuration was trained before. The
    checkpoint of the highest score is handed over; the score is the mean of its last three epochs.

    Args:
        curves: The configurations in their order.
        limit: The cost that may be spent.

    Attributes:
        progress: The epochs that were trained and paid for, one entry each, in order.
        spent: Their cost.
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
            number: Its index in the order.
            until: The last epoch; epochs that it had before are neither trained nor paid for again.

        Returns:
            Whether the limit was enough.
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

    def score_for(self, cost: float) -> float:
        """The score of the checkpoint that could be handed over at this cost; 0 before the first epoch."""
        return next(score for spent, score in reversed(self._handed_over) if spent <= cost * _ROUNDING)
