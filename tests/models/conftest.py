"""The global Keras state that network tests change."""

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture
def float32_policy() -> Iterator[None]:
    """Layers compute in float32, whatever ran before; a policy that the test sets is undone."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy(before)
