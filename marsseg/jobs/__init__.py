"""One module per job; the only package that combines the others."""
