import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsseg.data.duplicates import near_duplicate_groups
from marsseg.data.inspect import find_outlier_groups
from marsseg.data.split import Split, join_groups, limit_training, split_tiles
from marsseg.data.tiles import Tiles, classes_present
from marsseg.errors import DataError


def make_masks(labels: list[set[int]]) -> np.ndarray:
    """Masks of two rows and two columns that contain these classes."""
    masks = np.zeros((len(labels), 2, 2), np.uint8)
    for mask, present in zip(masks, labels, strict=True):
        mask.ravel()[:] = np.resize(sorted(present or {0}), 4)
    return masks


def parts_of(split: Split) -> list[np.ndarray]:
    return [split.train, split.validation, split.test]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]], int, int, int]:
    count = draw(st.integers(4, 60))
    # The rare class 3 is in few images; in half of the problems no image is background alone.
    classes = draw(st.sampled_from([[0, 1, 2], [1, 2]]))
    labels = draw(st.lists(st.sets(st.sampled_from(classes), min_size=1), min_size=count, max_size=count))
    for index in draw(st.lists(st.integers(0, count - 1), max_size=5)):
        labels[index].add(3)
    order = draw(st.permutations(range(count)))
    groups = []
    for size in draw(st.lists(st.integers(2, 4), max_size=count // 8)):
        groups.append(sorted(order[:size]))
        order = order[size:]
    validation = draw(st.integers(1, max(1, count // 4)))
    test = draw(st.integers(0, count // 4))
    return make_masks(labels), groups, validation, test, draw(st.integers(0, 2**31 - 1))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_laws_of_a_split(problem: tuple[np.ndarray, list[list[int]], int, int, int]) -> None:
    masks, groups, validation, test, seed = problem
    split = split_tiles(masks, groups, validation, test, seed)
    parts = parts_of(split)

    # Every image is in exactly one split, and the splits are sorted.
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(masks)))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    # No group is divided between splits.
    side = np.empty(len(masks), int)
    for number, part in enumerate(parts):
        side[part] = number
    assert all(len(set(side[group])) == 1 for group in groups)
    has_foreground = masks.any(axis=(1, 2))
    # There are enough ungrouped images to make up for any group, so sizes are exact, unless a group must stand in for
    # an image in a split without foreground.
    if len(masks) - sum(map(len, groups)) >= validation + test:
        most = 0 if has_foreground.all() else 2 * (max(map(len, groups), default=1) - 1)
        assert abs(len(split.validation) - validation) <= most
        assert abs(len(split.test) - test) <= most
    assert len(split.train)
    assert len(split.validation)
    # Training has foreground, and validation if two units have any.
    grouped = {index: number for number, group in enumerate(groups) for index in group}
    units = {grouped.get(index, -1 - index) for index in np.flatnonzero(has_foreground).tolist()}
    assert has_foreground[split.train].any() == (len(units) >= 1)
    assert has_foreground[split.validation].any() == (len(units) >= 2)
    # The same seed gives the same split.
    again = split_tiles(masks, groups, validation, test, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, parts_of(again), strict=True))


@settings(max_examples=150, deadline=None)
@given(problems(), st.data())
def test_no_frame_stands_in_two_parts(
    problem: tuple[np.ndarray, list[list[int]], int, int, int], data: st.DataObject
) -> None:
    masks, groups, validation, test, seed = problem
    count = len(masks)
    frames = np.array(data.draw(st.lists(st.integers(0, count), min_size=count, max_size=count)))
    joined = join_groups(groups, frames)
    try:
        split = split_tiles(masks, joined, validation, test, seed)
    except DataError:
        # Only if there are fewer units than splits.
        assert count - sum(len(unit) - 1 for unit in joined) < (3 if test else 2)
        return
    assert np.array_equal(np.sort(np.concatenate(parts_of(split))), np.arange(count))
    for one, other in ((split.train, split.validation), (split.train, split.test), (split.validation, split.test)):
        assert not np.intersect1d(frames[one], frames[other]).size
    for group in groups:
        assert sum(bool(set(group) & set(part)) for part in parts_of(split)) == 1


def test_groups_and_frames_are_joined_where_they_share_a_tile() -> None:
    frames = np.array([7, 7, 3, 3, 5, 1, 0, 9, 9, 2])
    # Tiles 1 and 2 look alike, which joins frames 7 and 3; frame 9 stays on its own, and so do tiles 5 and 6.
    assert join_groups([[1, 2], [4, 9]], frames) == [[0, 1, 2, 3], [4, 9], [7, 8]]
    # A chain: frame 7 to 3 to 9.
    assert join_groups([[1, 2], [3, 7]], frames) == [[0, 1, 2, 3, 7, 8]]
    assert join_groups([[1, 2], [4, 9]], None) == [[1, 2], [4, 9]]
    assert join_groups([], np.arange(4)) == []


@settings(max_examples=100, deadline=None)
@given(problems())
def test_a_rare_class_is_everywhere(problem: tuple[np.ndarray, list[list[int]], int, int, int]) -> None:
    masks, _, validation, test, seed = problem
    # No other class is rare: two rare classes that share their only images can rule each other out.
    masks = np.concatenate([masks, make_masks([{0, 1, 2}] * 3)])
    rare = classes_present(masks, 4)[:, 3]
    split = split_tiles(masks, [], validation, test, seed)
    asked = [part for part in parts_of(split) if len(part) >= 4]
    if rare.sum() >= 3:
        assert all(rare[part].any() for part in asked)
    elif rare.any():
        assert rare[split.train].any()


def test_every_class_is_everywhere_where_there_is_enough() -> None:
    labels = [{0, 1, 2}] * 91 + [{3}] * 3 + [{4, 1}] * 3 + [{3, 4}] * 3
    for seed in range(50):
        split = split_tiles(make_masks(labels), [], seed=seed)
        present = classes_present(make_masks(labels), 5)
        assert all(present[part].any(axis=0).all() for part in parts_of(split))


def test_sets_of_classes_keep_their_shares() -> None:
    labels = [{0, 1}] * 500 + [{2}] * 300 + [{1, 3}] * 200
    split = split_tiles(make_masks(labels), [], 100, 100, seed=3)
    for part in (split.validation, split.test):
        counts = [np.count_nonzero((part >= low) & (part < high)) for low, high in ((0, 500), (500, 800), (800, 1000))]
        assert np.abs(np.array(counts) - [50, 30, 20]).max() <= 3


@pytest.mark.parametrize(("count", "held_out"), [(2505, 250), (600, 60), (10, 1), (3, 1)])
def test_ten_percent_by_default(count: int, held_out: int) -> None:
    split = split_tiles(make_masks([{index % 2} for index in range(count)]), [])
    assert (len(split.validation), len(split.test)) == (held_out, held_out)


def test_seeds_differ() -> None:
    masks = make_masks([{index % 3} for index in range(100)])
    assert not np.array_equal(split_tiles(masks, [], seed=0).test, split_tiles(masks, [], seed=1).test)


def test_without_a_test_part() -> None:
    split = split_tiles(make_masks([{0}] * 10), [], 3, 0)
    assert [len(part) for part in parts_of(split)] == [7, 3, 0]


@pytest.mark.parametrize(("count", "validation", "test"), [(10, 5, 5), (10, 20, 0), (2, None, None), (10, 9, 1)])
def test_nothing_left_for_training(count: int, validation: int | None, test: int | None) -> None:
    with pytest.raises(DataError, match="training"):
        split_tiles(make_masks([{0}] * count), [], validation, test)


def test_large_groups_leave_no_part_empty() -> None:
    groups = [list(range(0, 10)), list(range(10, 20)), list(range(20, 30))]
    split = split_tiles(make_masks([{0}] * 30), groups, 3, 3)
    assert [len(part) for part in parts_of(split)] == [10, 10, 10]


@pytest.mark.parametrize(("num_frames", "size"), [(9, 10), (6, 8), (12, 8)])
def test_a_class_of_few_frames_is_everywhere_though_no_frame_fits(num_frames: int, size: int) -> None:
    """Ten percent of the tiles is less than a frame has."""
    frames = [list(range(size * frame, size * (frame + 1))) for frame in range(num_frames)]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rocky = set(rng.choice(num_frames, 4, replace=False).tolist())
        masks = make_masks([{0, 1, 4} if index // size in rocky else {0, 1} for index in range(num_frames * size)])
        parts = parts_of(split_tiles(masks, frames, seed=seed))
        assert all((masks[part] == 4).any() for part in parts)
        assert len(parts[0]) > num_frames * size / 2


def test_a_class_is_no_reason_to_leave_training_little() -> None:
    frames = [list(range(16)), list(range(16, 33))]
    masks = make_masks([{0, 1, 4}] * 34 + [{0, 1}] * 2)
    for seed in range(5):
        train, validation, test = parts_of(split_tiles(masks, frames, 11, 10, seed))
        assert len(train) >= 8
        assert max(len(validation), len(test)) <= 22


def test_a_frame_of_background_alone_is_no_validation_split() -> None:
    frames = [list(range(10 * frame, 10 * frame + 10)) for frame in range(8)] + [list(range(80, 88))]
    masks = make_masks([{0, 1}] * 80 + [{0}] * 8)
    for seed in range(10):
        assert all((masks[part] > 0).any() for part in parts_of(split_tiles(masks, frames, seed=seed)))


@pytest.mark.parametrize(("num_frames", "labelled"), [(3, 2), (4, 3), (5, 2), (8, 2), (8, 3)])
def test_few_labelled_frames_are_shared_between_training_and_validation(num_frames: int, labelled: int) -> None:
    for seed in range(10):
        frames = [list(range(8 * frame, 8 * frame + 8)) for frame in range(num_frames)]
        masks = make_masks([{0, 1}] * 8 * labelled + [{0}] * 8 * (num_frames - labelled))
        parts = parts_of(split_tiles(masks, frames, seed=seed))
        assert [bool((masks[part] > 0).any()) for part in parts] == [True, True, labelled > 2]


def test_too_few_different_pictures() -> None:
    with pytest.raises(DataError, match="near-duplicates"):
        split_tiles(make_masks([{0}] * 30), [list(range(30))], 3, 3)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 30))
def test_laws_of_a_limit(problem: tuple[np.ndarray, list[list[int]], int, int, int], limit: int) -> None:
    masks, groups, validation, test, seed = problem
    train = split_tiles(masks, groups, validation, test, seed).train
    limited = limit_training(train, masks, limit, seed)
    assert len(limited) == min(limit, len(train))
    assert set(limited) <= set(train)
    assert (np.diff(limited) > 0).all()
    assert np.array_equal(limited, limit_training(train, masks, limit, seed))
    present = classes_present(masks, 4)
    if limit >= 4:
        assert np.array_equal(present[limited].any(axis=0), present[train].any(axis=0))


def test_no_limit_takes_all() -> None:
    train = np.array([5, 1, 3])
    assert limit_training(train, make_masks([{0}] * 6), None).tolist() == [1, 3, 5]


def test_course_file(course_tiles: Tiles) -> None:
    (group,) = find_outlier_groups(course_tiles)
    kept = np.setdiff1d(np.arange(len(course_tiles)), group.indices)
    masks = course_tiles.masks[kept]
    groups = near_duplicate_groups(course_tiles.images[kept])
    split = split_tiles(masks, groups, seed=1)
    assert [len(part) for part in parts_of(split)] == [2005, 250, 250]
    present = classes_present(masks, 5)
    shares = np.array([present[part].mean(axis=0) for part in parts_of(split)])
    assert np.abs(shares - present.mean(axis=0)).max() < 0.02
