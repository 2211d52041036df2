"""Which worker sees which GPU, and what is refused before any work; neither needs a GPU."""

import pytest

from marsseg.jobs.devices import default_workers, share_out, visible_gpus
from tests.conftest import Marsexp


@pytest.mark.parametrize(
    ("count", "environment", "names"),
    [
        (0, {}, []),
        (0, {"CUDA_VISIBLE_DEVICES": ""}, []),
        (0, {"CUDA_VISIBLE_DEVICES": "-1"}, []),
        (3, {}, ["0", "1", "2"]),
        # A CUDA_VISIBLE_DEVICES that the user has set is kept.
        (2, {"CUDA_VISIBLE_DEVICES": "5, 3"}, ["5", "3"]),
        (1, {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}, ["GPU-8932f937"]),
        # CUDA stops at the first invalid entry.
        (1, {"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["1"]),
    ],
)
def test_gpus_are_called_as_this_process_is_told(count: int, environment: dict[str, str], names: list[str]) -> None:
    assert visible_gpus(count, environment) == names


@pytest.mark.parametrize(
    ("names", "num_workers", "gpus_each", "seen"),
    [
        (["0", "1", "2"], 3, 1, ["0", "1", "2"]),
        (["5", "3"], 1, 1, ["5"]),
        # If there are more workers than GPUs, they share the GPUs.
        (["0", "1"], 5, 1, ["0", "1", "0", "1", "0"]),
        (["0"], 2, 1, ["0", "0"]),
        (["0", "1", "2", "3"], 1, 2, ["0,1"]),
        (["0", "1", "2", "3"], 2, 2, ["0,1", "2,3"]),
    ],
)
def test_each_worker_sees_its_own(names: list[str], num_workers: int, gpus_each: int, seen: list[str]) -> None:
    expected = [{"CUDA_VISIBLE_DEVICES": gpus} for gpus in seen]
    assert share_out(names, num_workers, gpus_each) == expected


def test_without_gpus_a_workers_environment_is_left_alone() -> None:
    assert share_out([], 2, 1) == [{}, {}]


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (16, 2)])
def test_a_processor_trains_two_at_a_time_unless_it_has_a_single_core(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marsseg.jobs.devices.available_cores", lambda: cores)
    assert default_workers() == workers


def test_a_rerun_on_fewer_gpus_is_refused_before_any_work(copied_search: Marsexp) -> None:
    done = copied_search("reproduce", "best", "--set", "training.gpus=2")
    assert (done.status, done.stdout) == (2, "")
    assert "has training.gpus = 2: expected at most as many GPUs as there are, found none" in done.stderr
