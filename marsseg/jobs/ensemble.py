"""Networks of finished runs with their best weights, and the joint prediction of several of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsseg.config import ExperimentConfig
from marsseg.errors import NotFoundError, TrackingError, UsageError
from marsseg.jobs.home import Home
from marsseg.jobs.runs import RunRecord, find_run, load_run
from marsseg.jobs.trial_report import WEIGHTS_FILE
from marsseg.tracking.store import Store, artifact_names, read_artifact
from marsseg.training.runtime import configure_runtime, import_tensorflow_quietly, resolve_auto

_SHORT_ID = 12
# Axes of (images, height, width) along which an image is flipped: none, then for its three mirror images.
_VIEWS = ((), (1,), (2,), (1, 2))


@dataclass(frozen=True)
class Member:
    """A run that predicts.

    Args:
        record: Its record in the store.
        weights: Its best weights, in safetensors.
    """

    record: RunRecord
    weights: bytes = field(repr=False)

    @property
    def config(self) -> ExperimentConfig:
        """The config that was trained, `auto` resolved."""
        return resolve_auto(self.record.config)

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.record.name} ({self.record.run_id[:_SHORT_ID]})"


def load_members(home: Home, runs: Sequence[str], tracking_uri: str | None) -> list[Member]:
    """Finds runs and their weights.

    Args:
        home: Where everything is kept.
        runs: Each a run ID or a unique prefix of one, `best` or `best:SEARCH`.
        tracking_uri: A server, or None for the embedded store.

    Returns:
        A member for each, in the same order.

    Raises:
        NotFoundError: If there is no such run, or it kept no weights.
        UsageError: If a run is named twice, or their classes are not the same.
        TrackingError: If one of their files cannot be read, or their config was changed in the store.
    """
    members = [_load_member(*find_run(home, tracking_uri, run)) for run in runs]
    first, seen = members[0], set()
    for member in members:
        if member.record.run_id in seen:
            raise UsageError(f"expected every run once, found {member.label} twice")
        seen.add(member.record.run_id)
        classes = first.config.data.num_classes, member.config.data.num_classes
        if classes[0] != classes[1]:
            raise UsageError(
                f"expected runs with the same classes, found {classes[0]} in {first.label} and {classes[1]} in "
                f"{member.label}"
            )
    return members


def _load_member(store: Store, run_id: str) -> Member:
    record = load_run(store, run_id)
    if record.config_changes:
        raise TrackingError(
            f"run {run_id[:_SHORT_ID]}: {', '.join(record.config_changes)} was changed in the store after the run was "
            "created, so its weights may not fit"
        )
    if WEIGHTS_FILE not in artifact_names(store, run_id):
        state = record.tags.get("marsexp.state", record.status.lower())
        epochs = f"{record.metrics.get('epochs', 0):.0f} of {record.config.training.max_epochs} epochs"
        raise NotFoundError(
            f"run {run_id[:_SHORT_ID]} has no weights: it is {state} after {epochs}, and only completed runs keep "
            "theirs; see marsexp leaderboard"
        )
    return Member(record, read_artifact(store, run_id, WEIGHTS_FILE))


def predict_labels(
    members: Sequence[Member], images: NDArray[np.float32], test_time_augmentation: bool = False
) -> NDArray[np.uint8]:
    """The most likely class of each pixel: by the logits of one network, or by the mean probabilities of several.

    Args:
        members: The runs; each computes in its own precision, all with the number of threads of the first.
        images: Shape (n, height, width, 1), values in [0, 1]; n ≥ 1.
        test_time_augmentation: Whether each predicts every image's mirror images too (Krizhevsky et al., 2012, use the
            horizontal one).

    Returns:
        Labels, shape (n, height, width).

    Raises:
        ConfigError: If a network is too deep for the images.
        TrackingError: If weights are not those that the run logged.
    """
    for member in members:
        member.config.model.check_image_fits(images.shape[1], images.shape[2])
    import_tensorflow_quietly()
    configure_runtime(members[0].config.training.threads)

    from marsseg.training.step import Evaluator

    evaluators = [Evaluator(_load_network(member, images), len(images)) for member in members]
    if len(evaluators) == 1 and not test_time_augmentation:
        # Probabilities of two classes can be rounded to the same number where their logits differ.
        return evaluators[0].predict_labels(images)
    labels = np.empty(images.shape[:3], np.uint8)
    views = _VIEWS if test_time_augmentation else _VIEWS[:1]
    # In batches: probabilities take many times the memory of labels.
    for start in range(0, len(images), evaluators[0].batch_size):
        batch = slice(start, start + evaluators[0].batch_size)
        total = sum(
            np.flip(evaluator.predict_probabilities(np.flip(images[batch], axes)), axes)
            for evaluator in evaluators
            for axes in views
        )
        labels[batch] = np.argmax(total, axis=-1)
    return labels


def _load_network(member: Member, images: NDArray[np.float32]) -> Any:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from marsseg.training.checkpoint import weights_sha256
    from marsseg.training.network import build_network

    try:
        weights = load(member.weights)
    except SafetensorError as error:
        raise TrackingError(f"{member.label}: {WEIGHTS_FILE} cannot be read ({error})") from None
    if weights_sha256(weights) != member.record.tags.get("marsexp.weights_sha256.best"):
        raise TrackingError(f"{member.label}: {WEIGHTS_FILE} does not hold the weights that the run logged")
    model = build_network(member.config, (images.shape[1], images.shape[2]))
    expected = {weight.path: tuple(weight.shape) for weight in model.weights}
    if expected != {path: value.shape for path, value in weights.items()}:
        hint = (
            "; a spatial transformer needs images as large as those it was trained on"
            if member.config.model.stn
            else ""
        )
        raise TrackingError(f"{member.label}: its weights do not fit the network that this version builds{hint}")
    model.set_weights([weights[weight.path] for weight in model.weights])
    return model
