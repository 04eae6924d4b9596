"""What the package needs of the machine, of Python and of text: files, locks, cores, signals, which Keras, words."""
