"""A saved model is logged without importing the library that saved it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from marsseg.tracking.recorder import Recorder, RunSpec
from marsseg.tracking.store import open_store

store = open_store(Path("home").resolve())
recorder = Recorder(store)
run_id = recorder.open_run(RunSpec(identity={"marsexp.study": "toy"}, name="toy", start_ms=1, params={}))
recorder.log_model(run_id, Path("model.keras"), (32, 64, 1), (32, 64, 5))
assert recorder.has_model(run_id)
print("tensorflow" in sys.modules)
"""


def test_neither_tensorflow_nor_the_folder_of_the_command_is_needed_for_it(tmp_path: Path, empty_store: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mlflow.db").write_bytes(empty_store.read_bytes())
    (tmp_path / "model.keras").write_bytes(b"as Keras has saved it")
    # MLflow would add the files of such a project to the model, and install them where the model is served.
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "rover"\nversion = "1"\n', encoding="utf-8")
    (tmp_path / "uv.lock").write_text("version = 1\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
    assert "Warning" not in done.stderr
    (description,) = (tmp_path / "home").rglob("MLmodel")
    files = {path.relative_to(description.parent).as_posix() for path in description.parent.rglob("*")}
    assert files == {"MLmodel", "conda.yaml", "data", "data/model.keras", "python_env.yaml", "requirements.txt"}
    assert "model_size_bytes: 21" in description.read_text(encoding="utf-8")
