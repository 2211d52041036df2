"""Several objectives at once: which points no other beats in everything, and an order of all.

A point has one number an objective, higher is better in each. Of one objective, all this is a sort by it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from operator import ge

Point = tuple[float, ...]


def dominates(point: Point, other: Point) -> bool:
    """Whether a point is nowhere worse than another, and somewhere better."""
    return point != other and all(map(ge, point, other))


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Non-dominated sorting: the first front is what no point dominates, each further one that of what is left.

    Found as by Zhang et al. (2015, ENS-BS): from the highest point downwards each goes to the first front that holds
    none which dominates it.

    Args:
        points: All of as many numbers.

    Returns:
        Places in `points` by front; within a front the higher first number leads, then the higher second one and so
        on, then the earlier place.
    """
    found: list[list[int]] = []

    def front_of(index: int) -> int:
        # Whatever a front dominates, all before it do. Who came last into one is the most likely to dominate.
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
    """An order of all points, as halving with several objectives needs it: front by front, each well spread.

    As in MO-ASHA (Schmucker et al., 2021, arXiv 2106.12639) with its epsilon-net: a front's best in the first number
    leads, and the next one is always that farthest from all before it, the earlier of equals. Unlike there, distances
    are counted in places, not in values: parameters span orders of magnitude, scores a few hundredths.

    Args:
        points: All of as many numbers.

    Returns:
        Places in `points`.
    """
    if points and len(points[0]) == 1:
        # The same, in a fraction of the time.
        return sorted(range(len(points)), key=lambda index: -points[index][0])
    return [index for front in fronts(points) for index in _spread(front, points)]


def _spread(front: Sequence[int], points: Sequence[Point]) -> list[int]:
    """The epsilon-net of a front whose leader stands first."""
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
