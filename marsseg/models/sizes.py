"""Sizes that no config names, shared by the blocks and by the code that counts their cost."""

from collections.abc import Sequence

PLAIN_RATES = (1, 1)
ATTENTION_KERNEL_SIZE = 7
LOCALIZATION_POOL = 4
LOCALIZATION_FILTERS = (8, 16)
LOCALIZATION_UNITS = 32


def fitting_rates(rates: Sequence[int], sides: tuple[int, int]) -> list[int]:
    """Dilation rates, reduced where feature maps are so small that a kernel would see only its centre and padding.

    Args:
        rates: One per convolution.
        sides: (height, width) of the feature maps.

    Returns:
        The same number of rates, each at most the largest that sees a neighbour.
    """
    largest = max(1, *(side - 1 for side in sides))
    return [min(rate, largest) for rate in rates]
