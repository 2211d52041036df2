"""What every test file may ask for."""

import os

import pytest

THREADS = 2

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def tensorflow_runtime() -> int:
    """TensorFlow, deterministic on two threads; whoever computes with it in this process must ask for this first."""
    from marsseg.training.runtime import configure_runtime

    configure_runtime(THREADS)
    return THREADS
