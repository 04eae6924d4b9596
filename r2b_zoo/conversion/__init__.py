"""Converts Keras models to ``.tflite``: LCE's converter, the table of layers, metadata, and engines for such files."""
