"""How the MLflow UI shows the experiment: as a leaderboard, with scores and choices as columns."""


def experiment_tags() -> dict[str, str]:
    """Tags that the experiment is created with."""
    return {"mlflow.experimentKind": "custom_model_development"}
