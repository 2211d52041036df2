"""The recorder in a real store: it completes a run whose creation was cut short."""

from pathlib import Path

from marsseg.tracking.recorder import Recorder, RunSpec
from marsseg.tracking.store import open_store

IDENTITY = {"marsexp.study": "toy", "marsexp.trial": "0"}
SPEC = RunSpec(
    identity=IDENTITY,
    name="toy-trial-0",
    start_ms=1_750_000_000_000,
    params={"seed": 3, "model.num_blocks": 2},
    dataset={"name": "tiles", "digest": "0" * 36, "source": "tiles.npz", "profile": "{}"},
)


def test_a_run_that_was_created_and_no_more_is_given_the_rest(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    recorder = Recorder(store)
    cut_short = store.client.create_run(store.experiment_id, SPEC.start_ms, IDENTITY, SPEC.name)
    for _ in range(2):
        assert recorder.open_run(SPEC) == cut_short.info.run_id
    (run,) = recorder.find_runs("marsexp.study", "toy")
    assert run.data.params == {"seed": "3", "model.num_blocks": "2"}
    assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == ["0" * 36]
    assert recorder.find_runs("marsexp.study", "another") == []
