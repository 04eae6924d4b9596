"""Converts Keras models to ``.tflite`` files, reports on their layers, stores metadata in them, and runs them.

In this package, LCE stands for Larq Compute Engine.
"""
