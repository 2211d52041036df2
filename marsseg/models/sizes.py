"""Sizes that no config names, shared by the blocks and by those who count what blocks cost."""

from collections.abc import Sequence

PLAIN_RATES = (1, 1)
ATTENTION_KERNEL_SIZE = 7
LOCALIZATION_POOL = 4
LOCALIZATION_FILTERS = (8, 16)
LOCALIZATION_UNITS = 32


def fitting_rates(rates: Sequence[int], sides: tuple[int, int]) -> list[int]:
    """Dilation rates, cut where the features are so small that a kernel would see its centre and padding alone.

    Args:
        rates: One a convolution.
        sides: (height, width) of the features.

    Returns:
        As many rates, each at most the largest that sees a neighbour.
    """
    largest = max(1, *(side - 1 for side in sides))
    return [min(rate, largest) for rate in rates]
