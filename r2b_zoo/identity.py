"""The package's name and version, and the suffix of converted files. This module imports nothing."""

PACKAGE = "r2b_zoo"
"""Name of the package. Keras saves the zoo's layers under it, and files that come with the package are found by it."""
__version__ = "0.1.0"
TFLITE_SUFFIX = ".tflite"
