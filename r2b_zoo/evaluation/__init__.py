"""What a network is worth and what it costs: accuracy, predictions, operations, and proof that its file is equal."""
