"""Helpers for the machine, for Python and for text: files, locks, cores, signals, Keras' version, messages."""
