"""The image cannot be built everywhere: these tests check that its files exist, fit together and pass the linter."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COPIES = [words.split()[1:-1] for words in re.findall(r"^COPY (?!--from).*$", DOCKERFILE, re.MULTILINE)]
MOUNTS = re.findall(r"--mount=type=bind,source=(\S+?),", DOCKERFILE)
SOURCES = sorted({source for sources in COPIES for source in sources} | set(MOUNTS))


def is_in_context(path: str) -> bool:
    """Whether `.dockerignore` lets a file through; the last matching rule decides."""
    inside = True
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = rule.removeprefix("!").removeprefix("**/")
        parents = [path, *(str(parent) for parent in Path(path).parents)]
        names = Path(path).parts if "**/" in rule else parents
        if rule and not rule.startswith("#") and any(fnmatch.fnmatch(name, pattern) for name in names):
            inside = rule.startswith("!")
    return inside


def test_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, ROOT / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_copied_is_there_and_not_ignored(source: str) -> None:
    assert (ROOT / source).exists()
    assert is_in_context(source)


@pytest.mark.parametrize("path", [".git/config", "mlruns/mlflow.db", "tests/conftest.py", "marsseg/__pycache__/a.pyc"])
def test_what_the_image_does_not_need_stays_out(path: str) -> None:
    assert not is_in_context(path)


def test_wheel_is_built_from_what_is_copied(tmp_path: Path) -> None:
    for source in SOURCES:
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    (command,) = re.findall(r"^RUN (pip wheel .*)$", DOCKERFILE, re.MULTILINE)
    words = command.replace("/wheel ", f"{tmp_path / 'wheel'} ").split()
    done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "wheel").glob("marsexp-*.whl"))) == 1


def test_requirements_are_those_of_the_package() -> None:
    (script,) = re.findall(r'python -c "(.*?)"', DOCKERFILE)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert done.stdout.splitlines() == needs
    assert {Requirement(line).name for line in done.stdout.splitlines()} >= {"tensorflow", "mlflow", "optuna"}


def test_python_of_the_image_is_one_that_the_package_takes() -> None:
    (version,) = re.findall(r"^ARG BASE=python:(3\.\d+)-", DOCKERFILE, re.MULTILINE)
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert Requirement(f"python{requires}").specifier.contains(version)
