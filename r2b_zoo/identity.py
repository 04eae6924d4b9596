"""The package's name and version and the suffix of converted files, which modules can read without importing more."""

PACKAGE = "r2b_zoo"
"""Keras saves the layers under this name, and files that come with the package are found by it."""
__version__ = "0.1.0"
TFLITE_SUFFIX = ".tflite"
