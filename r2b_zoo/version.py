"""The version of the package, which modules can read without importing the package's public face."""

__version__ = "0.1.0"
