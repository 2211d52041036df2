"""Where a run comes from."""

import subprocess
import sys
from pathlib import Path

import marsseg
from marsseg.tracking.provenance import code_version, environment


def test_code_version_follows_the_sources(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(Path(marsseg.__file__).parent, tmp_path / "marsseg")
    script = "from marsseg.tracking.provenance import code_version; print(code_version())"

    def copied_version() -> str:
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert copied_version() == code_version()
    with (tmp_path / "marsseg" / "metrics.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert copied_version() != code_version()


def test_environment_names_what_can_change_a_bit() -> None:
    described = environment()
    assert {"tensorflow", "keras", "numpy"} <= described["packages"].keys()
    assert described["python"].startswith("3.")
    assert described["processor"]
