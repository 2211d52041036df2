"""Schedulers: every one has its laws, and the rungs that they compare at."""

import pytest

from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.scheduler import Rungs
from marsseg.search.schedulers import SCHEDULERS
from marsseg.search.stopping import FullTraining, MedianStopping
from marsseg.search.successive_halving import Asha, Hyperband, TopK


def test_all_schedulers_have_their_laws() -> None:
    assert set(SCHEDULERS.values()) == {Asha, FreezeThaw, FullTraining, Hyperband, MedianStopping, TopK}


@pytest.mark.parametrize(
    ("rungs", "levels"),
    [(Rungs(3, 27, 3), (3, 9, 27)), (Rungs(1, 4, 2), (1, 2, 4)), (Rungs(3, 20, 3), (3, 9, 20)), (Rungs(5, 5, 2), (5,))],
)
def test_rungs_end_with_full_training(rungs: Rungs, levels: tuple[int, ...]) -> None:
    assert rungs.levels == levels
