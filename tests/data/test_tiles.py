import numpy as np

from marsseg.data.tiles import CLASS_NAMES, class_names, classes_present, pixels_per_class


def test_five_classes_have_the_names_of_mars_terrain() -> None:
    assert class_names(5) == CLASS_NAMES == ("background", "soil", "bedrock", "sand", "big_rock")


def test_other_counts_have_numbered_names() -> None:
    assert class_names(3) == ("class_0", "class_1", "class_2")


def test_counts_by_hand() -> None:
    masks = np.array([[[0, 1], [1, 1]], [[2, 2], [2, 2]]], np.uint8)
    assert pixels_per_class(masks, 4).tolist() == [1, 3, 4, 0]
    assert classes_present(masks, 4).tolist() == [[True, True, False, False], [False, False, True, False]]
