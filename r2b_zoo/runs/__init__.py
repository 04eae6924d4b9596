"""The parts of a run: its plan, folder, checkpoints and networks, and the weights that it starts from."""
