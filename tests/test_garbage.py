"""Garbage collection is put off within a call, and afterwards as it was before."""

import gc

import pytest

from marsseg.garbage import collecting_no_garbage


@collecting_no_garbage()
def fail_without_garbage_collection() -> None:
    assert not gc.isenabled()
    raise ValueError("inside")


@pytest.mark.parametrize("enabled", [True, False])
def test_it_is_off_within_the_call_and_as_before_after_it(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ValueError, match="inside"):
            fail_without_garbage_collection()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
