"""What many tests share: the command in a process of its own, tiny tiles, and one finished search."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from filelock import FileLock

import marsseg  # noqa: F401  # chooses how TensorFlow computes, before a test module imports TensorFlow by itself

# Tests compare CPU results: a GPU multiplies float32 in TF32, and uses another algorithm for each batch size.
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
GPUS_OUTSIDE = os.environ.get(VISIBLE_GPUS)
os.environ[VISIBLE_GPUS] = "-1"

TINY_SPACE = """
[search]
min_epochs = 1
max_epochs = 4
reduction_factor = 2

[fixed]
"model.max_filters" = 8
"model.predict_background" = false
"model.dropout" = 0.1
"loss.background_weight" = 0.0
"training.batch_size" = 8
"training.precision" = "float32"

[parameters."model.num_blocks"]
kind = "int"
low = 2
high = 3

[parameters."model.base_filters"]
kind = "choice"
options = [4, 8]

[parameters."loss.terms"]
kind = "choice"
options = ["cross_entropy", "dice"]

[parameters."optimizer.name"]
kind = "choice"
options = ["adam", "adamw"]

[parameters."optimizer.weight_decay"]
kind = "choice"
options = [1e-4, 1e-3]
when = { "optimizer.name" = ["adamw"] }

[parameters."augmentation.flips"]
kind = "bool"
"""


@dataclass(frozen=True)
class Done:
    """The exit status and output of a finished command."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Marsexp:
    """The command, run in a folder of its own."""

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MARSEXP_", "MLFLOW_"))}
        return {**inherited, "MARSEXP_HOME": str(self.home)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "marsseg.cli.app", *arguments]

    def __call__(self, *arguments: str, timeout_s: float = 300) -> Done:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of a driver, if it is still alive."""
    workers = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            # A worker that has just died may not have been reaped yet.
            with suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    workers.append(child)
    return workers


def write_tiles(path: Path, num_images: int = 40, seed: int = 0) -> Path:
    """A data set file of 32x64 tiles."""
    from marsseg.data.synthetic import generate_terrain

    terrain = generate_terrain(num_images, 32, 64, seed)
    np.savez(path, training_set=np.stack([terrain.images, terrain.masks], axis=1))
    return path


def make_marsexp(folder: Path) -> Marsexp:
    (folder / "space.toml").write_text(TINY_SPACE, encoding="utf-8")
    return Marsexp(folder, folder / "home")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty store: MLflow takes seconds to create one."""
    from marsseg.tracking.store import open_store

    home = tmp_path_factory.mktemp("empty")
    open_store(home)
    return home / "mlflow.db"


@pytest.fixture
def marsexp(tmp_path: Path, empty_store: Path) -> Marsexp:
    """The command in a folder with a tiny space and an empty store."""
    marsexp = make_marsexp(tmp_path)
    marsexp.home.mkdir()
    shutil.copy(empty_store, marsexp.home)
    return marsexp


@pytest.fixture(scope="session")
def finished_search(tmp_path_factory: pytest.TempPathFactory) -> Marsexp:
    """The command in a folder where the search `tiny` has run to its end on `tiles.npz`; must not be changed."""
    own = tmp_path_factory.mktemp("finished") / "search"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return run_tiny_search(own)
    # If several processes share the tests, one of them runs the search, and each gets a copy of its own.
    shared = tmp_path_factory.getbasetemp().parent / "finished"
    over = shared.with_name("finished.over")
    with FileLock(shared.with_name("finished.lock")):
        if not over.exists():
            shutil.rmtree(shared, ignore_errors=True)
            run_tiny_search(shared)
            over.touch()
    shutil.copytree(shared, own)
    from marsseg.tracking.store import open_store

    open_store(own / "home")
    return Marsexp(own, own / "home")


# Promotion completes two of the five trials, the winner in three segments.
TINY_SEARCH = (
    *("search", "--budget", "5", "--scheduler", "asha", "--workers", "1"),
    *("--space", "space.toml", "--data", "tiles.npz", "--name", "tiny"),
)


def run_tiny_search(folder: Path) -> Marsexp:
    folder.mkdir()
    marsexp = make_marsexp(folder)
    write_tiles(marsexp.folder / "tiles.npz")
    done = marsexp(*TINY_SEARCH, "--json", "--author", "Ada", "--tag", "team=red", "--note", "a test")
    assert done.status == 0, done.stderr
    return marsexp


@pytest.fixture(scope="session")
def leaderboard(finished_search: Marsexp) -> dict[str, Any]:
    """The finished search's leaderboard document."""
    document: dict[str, Any] = finished_search("leaderboard", "--json").json()
    return document


@pytest.fixture
def copied_search(finished_search: Marsexp, tmp_path: Path) -> Marsexp:
    """A copy of the finished search elsewhere, which a test may change."""
    folder = tmp_path / "copy"
    shutil.copytree(finished_search.folder, folder)
    return Marsexp(folder, folder / "home")


WaitFor = Callable[[Callable[[], bool]], None]


@pytest.fixture
def wait_for() -> WaitFor:
    """Waits until something holds, at most a minute."""
    import time

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited for a minute"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def tensorflow_runtime() -> int:
    """TensorFlow, deterministic on two threads; a test must request this before it computes with it in this process."""
    from marsseg.training.runtime import configure_runtime

    threads = 2
    configure_runtime(threads)
    return threads


@pytest.fixture
def no_waiting_for_the_disk() -> Iterator[None]:
    """Databases opened by this process are not flushed: even without that, writes outlive the process."""

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = off")

    sa.event.listen(sa.Engine, "connect", relax)
    yield
    sa.event.remove(sa.Engine, "connect", relax)
