"""Name and version of the package, which modules read without importing the package's public face."""

PACKAGE = "r2b_zoo"
"""Keras saves the layers under this name, and files that come with the package are found by it."""
__version__ = "0.1.0"
