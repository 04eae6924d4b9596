"""From a Keras model to a ``.tflite``: LCE's converter, the table of layers, metadata, and what runs such a file."""
