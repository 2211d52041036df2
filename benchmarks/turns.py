"""Two sides measured alternately (interleaved), so that other load on the machine affects both."""

from collections.abc import Callable
from typing import TypeVar

_Figure = TypeVar("_Figure")


def take_turns(
    ours: Callable[[], _Figure], peer: Callable[[], _Figure] | None, repeats: int, warm_up: int = 0
) -> tuple[list[_Figure], list[_Figure]]:
    """Measures both repeatedly, one right after the other.

    Args:
        ours: Returns our figure.
        peer: Returns the peer's; None where it is not installed.
        repeats: Number of times each is measured.
        warm_up: Number of times each is measured before that and discarded.

    Returns:
        Our figures and the peer's.
    """
    sides = [(ours, list[_Figure]()), (peer, list[_Figure]())]
    for turn in range(-warm_up, repeats):
        # The second side finds warmer caches and a hotter CPU.
        for measure, figures in sides if turn % 2 == 0 else sides[::-1]:
            if measure is not None:
                figure = measure()
                if turn >= 0:
                    figures.append(figure)
    return sides[0][1], sides[1][1]
