"""Two sides measured in turns, so that whatever else the machine does meets both."""

from collections.abc import Callable
from typing import TypeVar

_Figure = TypeVar("_Figure")


def take_turns(
    ours: Callable[[], _Figure], peer: Callable[[], _Figure] | None, repeats: int, warm_up: int = 0
) -> tuple[list[_Figure], list[_Figure]]:
    """Measures both again and again, one right after the other.

    Args:
        ours: Returns our figure.
        peer: Returns the peer's; None where it is not installed.
        repeats: How often each is measured.
        warm_up: How often each is measured before that for nothing.

    Returns:
        Our figures and the peer's.
    """
    sides = [(ours, list[_Figure]()), (peer, list[_Figure]())]
    for turn in range(-warm_up, repeats):
        # Who comes second finds warmer caches and a hotter processor.
        for measure, figures in sides if turn % 2 == 0 else sides[::-1]:
            if measure is not None:
                figure = measure()
                if turn >= 0:
                    figures.append(figure)
    return sides[0][1], sides[1][1]
