"""Logs a saved Keras model as MLflow's logged model, with signature, below a run."""

import os
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

_REQUIREMENTS = ("mlflow", "keras", "tensorflow", "numpy")
# Where MLflow's flavour of Keras looks.
_FILE = Path("data", "model.keras")


def log_keras_model(
    client: MlflowClient,
    experiment_id: str,
    run_id: str,
    file: Path,
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
) -> None:
    """Adds a model to a run that has none yet.

    It loads with `mlflow.keras.load_model` and `mlflow.pyfunc.load_model`. `mlflow.keras.save_model` would need the
    model itself, and with it TensorFlow, which takes longer to import than all of this.

    Args:
        client: Talks to the store.
        experiment_id: The run's experiment.
        run_id: Whose model it is.
        file: What Keras has saved; loadable elsewhere where all its layers are Keras' own.
        input_shape: Without the batch; float32.
        output_shape: The same.
    """
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs, outputs = (Schema([TensorSpec(np.dtype("float32"), (-1, *shape))]) for shape in (input_shape, output_shape))
    logged = client.create_logged_model(experiment_id, "model", run_id, model_type="keras")
    try:
        description = Model(artifact_path="model", run_id=run_id, model_id=logged.model_id)
        description.add_flavor(
            "keras",
            data=_FILE.parent.name,
            keras_version=version("keras"),
            keras_backend="tensorflow",
            save_exported_model=False,
        )
        description.model_size_bytes = file.stat().st_size
        # A uv project in the folder that the command was typed in is not the model's.
        os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            # There is a signature, and an example would be tried out at once, with TensorFlow.
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
            folder = Path(temporary) / "model"
            mlflow.pyfunc.save_model(
                os.fspath(folder),
                loader_module="mlflow.keras",
                mlflow_model=description,
                signature=ModelSignature(inputs, outputs),
                pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            )
            (folder / _FILE).parent.mkdir()
            shutil.copyfile(file, folder / _FILE)
            client.log_model_artifacts(logged.model_id, os.fspath(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
