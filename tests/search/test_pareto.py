"""Orderings of points with several numbers, against their definitions."""

from hypothesis import given
from hypothesis import strategies as st

from marsseg.search.pareto import Point, best_first, dominates, fronts


@st.composite
def clouds(draw: st.DrawFn) -> list[Point]:
    """Points of one to three small numbers, so that equal ones are common."""
    number = st.integers(0, 5).map(float)
    return draw(st.lists(st.tuples(*[number] * draw(st.integers(1, 3))), max_size=24))


def peeled(points: list[Point]) -> list[set[int]]:
    """The fronts by their definition: the points that nothing dominates are removed, again and again."""
    left, found = set(range(len(points))), []
    while left:
        found.append({i for i in left if not any(dominates(points[other], points[i]) for other in left)})
        left -= found[-1]
    return found


def gap(index: int, chosen: list[int], front: list[int], points: list[Point]) -> int:
    """The squared distance to the nearest chosen point, in ranks among the front's distinct values of each number."""

    def place(member: int, axis: int) -> int:
        return len({points[other][axis] for other in front if points[other][axis] < points[member][axis]})

    axes = range(len(points[index]))
    return min(sum((place(index, axis) - place(other, axis)) ** 2 for axis in axes) for other in chosen)


def test_a_point_dominates_what_is_nowhere_better_and_somewhere_worse() -> None:
    assert dominates((1.0, 2.0), (1.0, 1.0))
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert not dominates((1.0, 2.0), (0.0, 3.0))


@given(clouds())
def test_fronts_are_what_is_left_undominated_again_and_again(points: list[Point]) -> None:
    found = fronts(points)
    assert [set(front) for front in found] == peeled(points)
    for front in found:
        assert front == sorted(front, key=lambda index: ([-number for number in points[index]], index))


@given(clouds())
def test_the_best_come_front_by_front_each_farthest_from_those_before(points: list[Point]) -> None:
    order = best_first(points)
    assert sorted(order) == list(range(len(points)))
    for front in fronts(points):
        mine, order = order[: len(front)], order[len(front) :]
        assert set(mine) == set(front)
        assert points[mine[0]] == max(points[index] for index in front)
        if len(points[0]) > 1:
            for count in range(1, len(mine)):
                gaps = {index: gap(index, mine[:count], front, points) for index in mine[count:]}
                assert mine[count] == min(gaps, key=lambda index: (-gaps[index], index))


@given(clouds().filter(lambda points: bool(points)))
def test_one_number_alone_or_beside_equal_ones_is_a_sort(points: list[Point]) -> None:
    by_score = sorted(range(len(points)), key=lambda index: (-points[index][0], index))
    assert best_first([point[:1] for point in points]) == by_score
    assert best_first([(point[0], 7.0) for point in points]) == by_score


def test_a_front_is_told_from_its_ends_inwards() -> None:
    # Scores and negated parameters; the last two are not on the first front.
    points = [(0.1, -1e3), (0.5, -1e4), (0.6, -1e5), (0.65, -1e6), (0.7, -1e7), (0.5, -1e6), (0.0, -1e4)]
    assert best_first(points) == [4, 0, 2, 1, 3, 5, 6]


def test_of_nothing_there_is_no_front() -> None:
    assert fronts([]) == best_first([]) == []
