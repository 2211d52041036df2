"""Logs a Keras model as MLflow's logged model, with signature, below a run."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

_REQUIREMENTS = ("mlflow", "keras", "tensorflow", "numpy")


def log_keras_model(client: MlflowClient, experiment_id: str, run_id: str, model: Any) -> None:
    """Adds a model to a run that has none yet.

    It loads with `mlflow.keras.load_model` and `mlflow.pyfunc.load_model`.

    Args:
        client: Talks to the store.
        experiment_id: The run's experiment.
        run_id: Whose model it is.
        model: A built Keras model; loadable elsewhere where all its layers are Keras' own.
    """
    import mlflow.keras
    import numpy as np
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shapes = (model.input_shape, model.output_shape)
    inputs, outputs = (Schema([TensorSpec(np.dtype("float32"), (-1, *shape[1:]))]) for shape in shapes)
    logged = client.create_logged_model(experiment_id, "model", run_id, model_type="keras")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            mlflow.keras.save_model(
                model,
                os.fspath(folder),
                mlflow_model=Model(artifact_path="model", run_id=run_id, model_id=logged.model_id),
                signature=ModelSignature(inputs, outputs),
                pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            )
            client.log_model_artifacts(logged.model_id, os.fspath(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
