"""The code layout is kept: imports point down, the command starts fast, the wheel contains what it needs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    script = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [script, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "marsseg", tmp_path / "marsseg")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_point_down(copied_package: Path) -> None:
    done = lint_imports(copied_package)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("room", "imported"),
    [
        ("metrics.py", "marsseg.jobs.home"),
        ("data/tiles.py", "marsseg.training.runtime"),
        ("search/space.py", "marsseg.tracking.view"),
        ("tracking/view.py", "marsseg.search.space"),
        ("config/groups.py", "marsseg.metrics"),
        ("search/proposer.py", "keras"),
        ("jobs/home.py", "marsseg.libraries.spaces"),
    ],
)
def test_import_check_fails_where_a_room_looks_up_or_aside(copied_package: Path, room: str, imported: str) -> None:
    path = copied_package / "marsseg" / room
    path.write_text(path.read_text(encoding="utf-8") + f"\nimport {imported}\n", encoding="utf-8")
    done = lint_imports(copied_package)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


@pytest.mark.parametrize(
    ("command", "heavy", "shown"),
    [
        ("--help", {"tensorflow", "keras", "mlflow", "optuna", "numpy", "sqlalchemy", "pydantic"}, "search"),
        ("leaderboard", {"tensorflow", "keras", "mlflow", "optuna", "sklearn", "scipy"}, "no search"),
        ("search --budget 2 --space nowhere", {"tensorflow", "keras", "mlflow", "matplotlib", "sklearn"}, "nowhere"),
        ("train nowhere", {"tensorflow", "keras", "mlflow", "matplotlib", "sklearn"}, "nowhere"),
    ],
)
def test_command_imports_nothing_heavy(command: str, heavy: set[str], shown: str, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.argv = ['marsexp', *{command.split()}]\n"
        "from marsseg.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"heavy = {heavy} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    environment = {**os.environ, "MARSEXP_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout + done.stderr


def test_wheel_carries_spaces_and_recipes(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    script = (
        "from marsseg.jobs.shipped import find_recipes, find_space\n"
        "print(find_space('smoke')); print(*find_recipes('final_unet'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.count(str(tmp_path / "installed")) == 2, done.stderr
