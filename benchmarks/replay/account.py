"""What a search has spent, so that a peer whose own loop runs to its end can be stopped at the limit."""

from collections.abc import Sequence

from benchmarks.replay.policies import Progress
from marsseg.search.simulation import Curve


class Account:
    """Trains by looking at curves, and pays for it.

    An epoch costs what the curve says, and so does a start wherever another configuration was trained before.

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
        cost = self._curves[number].cost
        for epoch in range(self._epochs[number] + 1, until + 1):
            starts = not self.progress or self.progress[-1][0] != number
            spent = self.spent + cost.epoch + cost.start * starts
            if spent > self._limit:
                return False
            self.spent = spent
            self._epochs[number] = epoch
            self.progress.append((number, epoch))
        return True
