"""Evaluates networks: accuracy, predictions, number of operations, and verification of converted files."""
