"""The command `marsexp`. Imports nothing heavy before a command runs."""
