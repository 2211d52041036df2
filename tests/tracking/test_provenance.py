"""The provenance of a run: code version, checkout and environment."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import marsseg
from marsseg.tracking.provenance import code_version, environment


def test_code_version_follows_the_sources(tmp_path: Path) -> None:
    shutil.copytree(Path(marsseg.__file__).parent, tmp_path / "marsseg")
    script = "from marsseg.tracking.provenance import code_version; print(code_version())"

    def copied_version() -> str:
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert copied_version() == code_version()
    with (tmp_path / "marsseg" / "metrics.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert copied_version() != code_version()


def test_changes_in_another_encoding_are_kept(tmp_path: Path) -> None:
    shutil.copytree(Path(marsseg.__file__).parent, tmp_path / "marsseg")
    (tmp_path / "pyproject.toml").touch()
    note = tmp_path / "note.txt"
    note.write_bytes(b"grey\n")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (("init",), ("add", "."), (*author, "commit", "--message", "first")):
        subprocess.run(["git", *command], cwd=tmp_path, capture_output=True, check=True)
    note.write_bytes("grün\n".encode("latin-1"))
    script = "from marsseg.tracking.provenance import checkout; print(ascii(checkout()['diff']))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "gr\\ufffdn" in done.stdout, done.stderr


def test_variables_that_may_change_a_bit_are_named_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    decisive = {"ONEDNN_MAX_CPU_ISA": "AVX2", "NVIDIA_TF32_OVERRIDE": "0"}
    for name, value in {**decisive, "TF_VAR_password": "secret", "ONEDNN_VERBOSE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert environment.__wrapped__()["variables"] == decisive


def test_environment_names_what_can_change_a_bit() -> None:
    described = environment()
    assert {"tensorflow", "keras", "numpy"} <= described["packages"].keys()
    assert described["python"].startswith("3.")
    assert described["processor"]
