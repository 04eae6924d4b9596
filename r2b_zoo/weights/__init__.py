"""Weights of networks: where those with a name are, what is known of them, how they are written and loaded."""

from r2b_zoo.weights.loading import architecture, fetch, load, locate, read, record_of, save

__all__ = ["architecture", "fetch", "load", "locate", "read", "record_of", "save"]
