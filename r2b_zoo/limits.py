"""Limits on the size of a network, so that a typing error gives an error message instead of exhausting memory."""

MOST_WIDTH = 512
"""The most channels in a network's first section of blocks; with so many, a network has 0.7 billion binary weights."""
