"""Scores of a confusion matrix, against worked examples and against the metric that the course uses."""

import keras
import numpy as np
import pytest

from marsseg.metrics import confusion_matrix, iou_per_class, segmentation_scores

NAMES = ("background", "soil", "bedrock", "sand", "big_rock")

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")


def course_score(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """The primary metric's definition: true-0 pixels dropped, then `keras.metrics.MeanIoU` over five classes."""
    metric = keras.metrics.MeanIoU(num_classes=5)
    kept = y_true != 0
    metric.update_state(y_true[kept], y_pred[kept])
    return float(metric.result())


@pytest.mark.parametrize("seed", range(6))
def test_primary_score_is_the_course_metric_on_random_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([1, 1, 1, 1, 0.05])
    y_true = rng.choice(5, (4, 16, 32), p=shares)
    guess = rng.choice(np.arange(seed % 2, 5), y_true.shape)
    y_pred = np.where(rng.random(y_true.shape) < 0.6, y_true, guess)
    scores = segmentation_scores(confusion_matrix(y_true, y_pred, 5), NAMES)
    assert scores["mean_iou"] == pytest.approx(course_score(y_true, y_pred), abs=1e-6)


def test_one_foreground_pixel_predicted_as_background_adds_a_class_with_iou_0() -> None:
    y_true = np.repeat([1, 2, 3, 4], 100)
    perfect = segmentation_scores(confusion_matrix(y_true, y_true, 5), NAMES)
    y_pred = y_true.copy()
    y_pred[0] = 0
    scores = segmentation_scores(confusion_matrix(y_true, y_pred, 5), NAMES)
    assert perfect["mean_iou"] == course_score(y_true, y_true) == 1
    assert scores["mean_iou"] == pytest.approx((0 + 99 / 100 + 3) / 5)
    assert scores["mean_iou"] == pytest.approx(course_score(y_true, y_pred), abs=1e-6)
    assert scores["mean_iou_foreground"] == pytest.approx((99 / 100 + 3) / 4)


def test_worked_example() -> None:
    confusion = np.array(
        [
            [900, 10, 0, 0, 0],  # left out of the primary score: soil's union must not hold these 10
            [0, 50, 50, 0, 0],  # soil: 50 / 100
            [0, 0, 100, 0, 0],  # bedrock: 100 / 150
            [20, 0, 0, 80, 0],  # sand: 80 / 100
            [0, 0, 0, 0, 100],  # big rock: 1
        ]
    )
    scores = segmentation_scores(confusion, NAMES)
    foreground = (50 / 100 + 100 / 150 + 80 / 100 + 1) / 4
    assert foreground == pytest.approx(0.7417, abs=1e-4)
    assert scores == pytest.approx(
        {
            "mean_iou": foreground * 4 / 5,  # 0.593
            "mean_iou_foreground": foreground,
            "mean_iou_all": (900 / 930 + 50 / 110 + 100 / 150 + 80 / 100 + 1) / 5,
            "iou_soil": 50 / 100,
            "iou_bedrock": 100 / 150,
            "iou_sand": 80 / 100,
            "iou_big_rock": 1,
        }
    )


def test_class_absent_from_truth_and_prediction_is_left_out() -> None:
    confusion = np.diag([0, 7, 5, 0, 0])
    confusion[1, 2] = 3
    scores = segmentation_scores(confusion, NAMES)
    assert scores["mean_iou"] == scores["mean_iou_foreground"] == pytest.approx((7 / 10 + 5 / 8) / 2)
    assert {name for name in scores if name.startswith("iou_")} == {"iou_soil", "iou_bedrock"}


def test_class_absent_from_truth_but_predicted_counts_with_0() -> None:
    y_true, y_pred = np.array([1, 1, 1, 1]), np.array([1, 1, 1, 4])
    scores = segmentation_scores(confusion_matrix(y_true, y_pred, 5), NAMES)
    assert scores["iou_big_rock"] == 0
    assert scores["mean_iou"] == pytest.approx((3 / 4 + 0) / 2)
    assert scores["mean_iou"] == pytest.approx(course_score(y_true, y_pred), abs=1e-6)


@pytest.mark.parametrize("confusion", [np.zeros((5, 5), np.int64), np.diag([9, 0, 0, 0, 0])])
def test_no_foreground_pixel_at_all_scores_0_without_a_warning(confusion: np.ndarray) -> None:
    scores = segmentation_scores(confusion, NAMES)
    assert scores["mean_iou"] == scores["mean_iou_foreground"] == 0
    assert scores["mean_iou_all"] == float(confusion.any())


def test_counts_rows_by_truth_and_does_not_overflow_small_integers() -> None:
    y_true = np.array([[0, 250], [250, 3]], np.uint8)
    y_pred = np.array([[0, 3], [250, 3]], np.uint8)
    counts = confusion_matrix(y_true, y_pred, 251)
    assert counts.shape == (251, 251)
    assert {(int(row), int(column)): int(counts[row, column]) for row, column in np.argwhere(counts)} == {
        (0, 0): 1,
        (250, 3): 1,
        (250, 250): 1,
        (3, 3): 1,
    }


def test_iou_of_each_class_is_nan_where_the_class_is_absent() -> None:
    np.testing.assert_allclose(iou_per_class(np.array([[2, 1, 0], [0, 3, 0], [0, 0, 0]])), [2 / 3, 3 / 4, np.nan])
