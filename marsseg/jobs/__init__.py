"""One file a job; the only rooms that join the others."""
