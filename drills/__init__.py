"""Tests that take too long for `make test`: run by `make drill`."""
