"""Every shipped recipe, small: one study of all, killed in the middle of each and resumed; and each reproduced."""

import os
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.data.synthetic import generate_terrain
from marsseg.jobs.home import Home
from marsseg.search.ledger import Ledger
from marsseg.search.state import TrialState, replay
from marsseg.tracking.store import open_store
from tests.conftest import Marsexp, make_marsexp

pytestmark = pytest.mark.timeout(0)

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "experiments").glob("*.toml"))
# Long enough for two stages and for a schedule that holds for a while; the same for all.
EPOCHS = 7
SMALL = {
    **{"model.base_filters": 4, "training.max_epochs": EPOCHS, "training.threads": 1},
    **{"split.validation_images": 4, "split.test_images": 2, "schedule.hold_epochs": 2},
}
POLL_S = 0.02
MOST_STARTS = 2 * len(RECIPES)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set file of 22 tiles, which five levels halve to 2x4."""
    terrain = generate_terrain(22, 64, 128, 0)
    path = tmp_path_factory.mktemp("data") / "tiles.npz"
    np.savez(path, training_set=np.stack([terrain.images, terrain.masks], axis=1))
    return path


@pytest.fixture(scope="module")
def marsexp(tmp_path_factory: pytest.TempPathFactory) -> Marsexp:
    """The command in a folder of its own."""
    return make_marsexp(tmp_path_factory.mktemp("recipes"))


def study(tiles: Path, name: str) -> list[str]:
    settings = [word for path, value in SMALL.items() for word in ("--set", f"{path}={value}")]
    return ["train", str(ROOT / "experiments"), "--data", str(tiles), "--name", name, *settings]


def runs_of(document: dict[str, Any]) -> dict[str, str]:
    """The run of each recipe."""
    assert {trial["state"] for trial in document["trials"]} == {"completed"}
    return {trial["values"]["recipe"]: trial["run_id"] for trial in document["trials"]}


def hashes(marsexp: Marsexp, run_id: str) -> dict[str, str]:
    tags = open_store(marsexp.home).client.get_run(run_id).data.tags
    return {which: tags[f"marsexp.weights_sha256.{which}"] for which in ("final", "best")}


@pytest.fixture(scope="module")
def whole(marsexp: Marsexp, tiles: Path) -> dict[str, str]:
    """The runs of the undisturbed study."""
    done = marsexp(*study(tiles, "whole"), "--json", timeout_s=3600)
    assert done.status == 0, done.stderr
    return runs_of(done.json())


def test_each_is_killed_halfway_goes_on_from_there_and_ends_in_the_same_bits(
    marsexp: Marsexp, tiles: Path, whole: dict[str, str]
) -> None:
    assert sorted(whole) == RECIPES
    ledger, command = Ledger(Home(marsexp.home).ledger), study(tiles, "killed")
    # The epochs that each trial had when it was killed.
    kept: dict[int, list[dict[str, Any]]] = {}
    for _ in range(MOST_STARTS):
        process = subprocess.Popen(
            marsexp.command(*command),
            cwd=marsexp.folder,
            env=marsexp.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while process.poll() is None and not (halfway := halfway_trials(ledger, kept)):
            time.sleep(POLL_S)
        if process.poll() is not None:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kept |= {trial: ledger.epochs("killed", trial) for trial in halfway}
        command = ["train", "--resume", "killed"]
    assert sorted(kept) == list(range(len(RECIPES)))
    for trial, before in kept.items():
        assert 0 < len(before) < EPOCHS
        # Including the seconds that each took: none of them was trained again.
        assert ledger.epochs("killed", trial)[: len(before)] == before
    cut = runs_of(marsexp("leaderboard", "killed", "--json").json())
    for recipe, run_id in whole.items():
        assert hashes(marsexp, cut[recipe]) == hashes(marsexp, run_id), recipe


def halfway_trials(ledger: Ledger, but: Collection[int]) -> list[int]:
    """The trials that are being trained and have an epoch or more."""
    if "killed" not in ledger.names():
        return []
    running = replay(ledger.events("killed")).in_state(TrialState.RUNNING)
    return [trial.number for trial in running if trial.number not in but and ledger.epochs("killed", trial.number)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_reproduced_to_the_bit(marsexp: Marsexp, whole: dict[str, str], recipe: str) -> None:
    reproduced = marsexp("reproduce", whole[recipe], "--json", timeout_s=600)
    assert reproduced.status == 0, reproduced.stdout + reproduced.stderr
    assert reproduced.json()["verdict"] == "identical"
