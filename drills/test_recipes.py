"""Every shipped recipe, small: one study of all is killed again and again and gone on with, and each run reproduced."""

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.data.synthetic import generate_terrain
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
SHORTEST_WAIT_S, LONGEST_WAIT_S = 12.0, 25.0
MOST_KILLS = 200


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course file of 22 tiles, which five levels halve to 2x4."""
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
    """The runs of the study that nothing disturbed."""
    done = marsexp(*study(tiles, "whole"), "--json", timeout_s=3600)
    assert done.status == 0, done.stderr
    return runs_of(done.json())


def test_killed_and_gone_on_with_each_ends_in_the_same_bits(
    marsexp: Marsexp, tiles: Path, whole: dict[str, str]
) -> None:
    assert sorted(whole) == RECIPES
    luck, kills, command = random.Random(0), 0, study(tiles, "killed")
    while kills < MOST_KILLS:
        process = subprocess.Popen(
            marsexp.command(*command),
            cwd=marsexp.folder,
            env=marsexp.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=luck.uniform(SHORTEST_WAIT_S, LONGEST_WAIT_S))
            assert process.returncode == 0, errors
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills, command = kills + 1, ["train", "--resume", "killed"]
    assert 3 < kills < MOST_KILLS
    print(f"\nkilled {kills} times")
    cut = runs_of(marsexp("leaderboard", "killed", "--json").json())
    for recipe, run_id in whole.items():
        assert hashes(marsexp, cut[recipe]) == hashes(marsexp, run_id), recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_reproduced_to_the_bit(marsexp: Marsexp, whole: dict[str, str], recipe: str) -> None:
    reproduced = marsexp("reproduce", whole[recipe], "--json", timeout_s=600)
    assert reproduced.status == 0, reproduced.stdout + reproduced.stderr
    assert reproduced.json()["verdict"] == "identical"
