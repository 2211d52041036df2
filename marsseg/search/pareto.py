"""Several objectives at once: the points that no other dominates, and an order of all points.

A point has one number per objective; higher is better in each. With one objective, all this is sorting by it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from operator import ge

Point = tuple[float, ...]


def dominates(point: Point, other: Point) -> bool:
    """Whether a point is nowhere worse than another, and somewhere better."""
    return point != other and all(map(ge, point, other))


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Non-dominated sorting: the first front holds the points that none dominates, each next one those of the rest.

    After Zhang et al. (2015, ENS-BS): from the highest point downwards, each goes to the first front in which no point
    dominates it.

    Args:
        points: All with the same number of objectives.

    Returns:
        Indices into `points` by front; within a front the higher first number comes first, then the higher second one
        and so on; ties go to the earliest.
    """
    found: list[list[int]] = []

    def front_of(index: int) -> int:
        # A point that a front dominates is dominated by all fronts before it, most likely by the newest member.
        def is_free(front: Sequence[int]) -> bool:
            return not any(dominates(points[member], points[index]) for member in reversed(front))

        return bisect_left(found, True, key=is_free)

    for index in sorted(range(len(points)), key=lambda index: [-number for number in points[index]]):
        place = front_of(index)
        if place == len(found):
            found.append([])
        found[place].append(index)
    return found


def best_first(points: Sequence[Point]) -> list[int]:
    """An order of all points for halving with several objectives: front by front, each well spread.

    As in MO-ASHA (Schmucker et al., 2021, arXiv 2106.12639) with its epsilon-net: a front's best point in the first
    number leads, and the next one is always the point farthest from all before it; ties go to the earliest. Unlike
    there, distances are measured in ranks, not in values: parameter counts span orders of magnitude, scores a few
    hundredths.

    Args:
        points: All with the same number of objectives.

    Returns:
        Indices into `points`.
    """
    if points and len(points[0]) == 1:
        # The same order, in a fraction of the time.
        return sorted(range(len(points)), key=lambda index: -points[index][0])
    return [index for front in fronts(points) for index in _spread(front, points)]


def _spread(front: Sequence[int], points: Sequence[Point]) -> list[int]:
    """The epsilon-net of a front whose leader comes first."""
    ranks = [sorted(set(numbers)) for numbers in zip(*(points[index] for index in front), strict=True)]
    places = {
        index: [bisect_left(numbers, number) for numbers, number in zip(ranks, points[index], strict=True)]
        for index in front
    }
    order = [front[0]]
    distance = dict.fromkeys(sorted(front), float("inf"))
    while len(order) < len(front):
        del distance[order[-1]]
        for index in distance:
            steps = zip(places[index], places[order[-1]], strict=True)
            distance[index] = min(distance[index], sum((mine - theirs) ** 2 for mine, theirs in steps))
        order.append(max(distance, key=distance.__getitem__))
    return order
