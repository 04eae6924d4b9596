"""Weights of networks: reading and writing their files, and the names and cards of known weights."""

from r2b_zoo.weights.loading import architecture, fetch, load, locate, read, record_of, save

__all__ = ["architecture", "fetch", "load", "locate", "read", "record_of", "save"]
