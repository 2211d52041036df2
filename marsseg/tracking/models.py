"""Logs a saved Keras model as a logged MLflow model of a run, with a signature."""

import os
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

_REQUIREMENTS = ("mlflow", "keras", "tensorflow", "numpy")
# Where MLflow's Keras flavour expects the file.
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

    The model loads with `mlflow.keras.load_model` and `mlflow.pyfunc.load_model`. `mlflow.keras.save_model` would need
    the model object and so TensorFlow, which takes longer to import than this whole function.

    Args:
        client: Client of the store.
        experiment_id: The run's experiment.
        run_id: The run that the model belongs to.
        file: The model as saved by Keras; it loads without this package if all its layers are Keras' own.
        input_shape: Shape of a float32 input without the batch axis.
        output_shape: Shape of the float32 output, also without the batch axis.
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
        # A uv project in the current folder has nothing to do with the model.
        os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            # A signature is given, and an example would at once be run through the model, with TensorFlow.
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
