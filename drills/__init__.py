"""What takes too long for `make test`: run by `make drill`."""
