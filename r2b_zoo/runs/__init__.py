"""Runs: their plan, folder, checkpoints, networks, and the sources of weights."""
