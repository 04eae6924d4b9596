"""Weights of networks: named weights and their cards, and writing and loading files."""

from r2b_zoo.weights.loading import architecture, fetch, load, locate, read, record_of, save

__all__ = ["architecture", "fetch", "load", "locate", "read", "record_of", "save"]
