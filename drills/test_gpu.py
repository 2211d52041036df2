"""Where there is a GPU: a search trains on it, and its winner is reproduced bit for bit in every precision."""

import pytest

from marsseg.training.runtime import has_gpu_driver
from tests.conftest import GPUS_OUTSIDE, VISIBLE_GPUS, Marsexp

pytestmark = [pytest.mark.skipif(not has_gpu_driver(), reason="no GPU here"), pytest.mark.timeout(1200)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_winner_is_reproduced_to_the_bit(marsexp: Marsexp, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.delenv(VISIBLE_GPUS)
    if GPUS_OUTSIDE is not None:
        monkeypatch.setenv(VISIBLE_GPUS, GPUS_OUTSIDE)
    assert "has compute capability" in marsexp("doctor").stdout
    settings = "--space", "smoke", "--seed", "1", "--set", f"training.precision={precision}"
    searched = marsexp("search", "--budget", "4", *settings)
    assert searched.status == 0, searched.stderr
    reproduced = marsexp("reproduce", "best")
    assert reproduced.status == 0, reproduced.stderr
    assert "identical" in reproduced.stdout
