"""Trains the stages of a plan: the step, the losses' functions, the loop, and the devices that share the work."""

from r2b_zoo.training.stages import CallbackFactory, Log, train

__all__ = ["CallbackFactory", "Log", "train"]
