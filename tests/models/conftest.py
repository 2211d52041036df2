"""Global Keras state that tests of networks change."""

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture
def float32_policy() -> Iterator[None]:
    """Layers compute in float32, whatever ran before; what a test sets itself is undone."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy(before)
