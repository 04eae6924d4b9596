"""Trains the stages of a plan. The submodules have the step, the losses, the loop and the distribution over devices."""

from r2b_zoo.training.stages import CallbackFactory, Log, train

__all__ = ["CallbackFactory", "Log", "train"]
