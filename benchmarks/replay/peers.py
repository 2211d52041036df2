"""All peers that our schedulers are compared with."""

from benchmarks.processes import syne_tune_python
from benchmarks.replay.optuna_peers import optuna_peers
from benchmarks.replay.policies import Policy
from benchmarks.replay.simple_peers import simple_peers
from benchmarks.replay.syne_tune_peer import SyneTuneAsha
from marsseg.training.runtime import import_tensorflow_quietly


def peers(configurations: int) -> dict[str, Policy]:
    """The peers by name; Syne Tune's only where a Python that has it is named.

    Args:
        configurations: Number in a draw; with fewer than its first bracket takes, Keras Tuner's would train hardly any.
    """
    # Keras Tuner imports TensorFlow.
    import_tensorflow_quietly()
    from benchmarks.replay.keras_tuner_peer import FIRST_BRACKET, keras_tuner_hyperband

    python = syne_tune_python()
    return {
        **optuna_peers(),
        **({"Keras Tuner Hyperband": keras_tuner_hyperband} if configurations >= FIRST_BRACKET else {}),
        **({"Syne Tune ASHA": SyneTuneAsha(python)} if python else {}),
        **simple_peers(),
    }
