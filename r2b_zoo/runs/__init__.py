"""A run: its plan, its folder, its checkpoints, its networks, and where weights come from."""
