"""The one trainer of every trial: steps, averages, checkpoints, precision."""
