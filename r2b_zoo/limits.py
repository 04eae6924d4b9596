"""How large a network may be, so that a slip of the finger is a sentence and not all of a machine's memory."""

MOST_WIDTH = 512
"""Channels of a network's first section of blocks; with as many, its binary convolutions have 0.7 billion weights."""
