"""Trains the stages of a plan: training step, loss functions, loop, and distribution over devices."""

from r2b_zoo.training.stages import CallbackFactory, Log, train

__all__ = ["CallbackFactory", "Log", "train"]
