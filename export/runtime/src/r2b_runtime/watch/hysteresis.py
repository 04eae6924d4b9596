"""Decides from the probabilities of successive frames when the label has changed."""

import dataclasses
from collections.abc import Sequence
from typing import Optional

NOTHING = None
"""The state in which no class is probable enough."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """When a class becomes the label, and when it stops being the label.

    Attributes:
        threshold: probability that a class needs to become the label, in (0, 1].
        leave: probability below which the label is given up, in [0, threshold].
        frames: how many frames in a row must agree before a change counts; from 1.
        seconds: how much time these frames must span, in seconds; from 0.

    Raises `ValueError` for numbers outside these ranges.
    """

    threshold: float = 0.5
    leave: float = 0.4
    frames: int = 3
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must be a probability above 0, at most 1; received {self.threshold}")
        if not 0 <= self.leave <= self.threshold:
            raise ValueError(f"leave must be from 0 to the threshold, {self.threshold}; received {self.leave}")
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1; received {self.frames}")
        if not 0 <= self.seconds < float("inf"):
            raise ValueError(f"seconds must be finite and at least 0; received {self.seconds}")


class Hysteresis:
    """Updates the label, an index of a class or `NOTHING`, frame by frame.

    Each frame votes for one state: for its most probable class, if that is not the current label and has at least
    `threshold`; otherwise for the current label, if that has at least `leave`; otherwise for `NOTHING`. The label
    changes when enough frames in a row, over enough time, vote for the same other state.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.label: Optional[int] = NOTHING
        self._candidate: Optional[int] = NOTHING
        self._frames, self._since = 0, 0.0

    def update(self, probabilities: Sequence[float], time: float) -> bool:
        """Adds the vote of a frame; returns whether the label changed.

        Args:
            probabilities: one for each class.
            time: the frame's time in seconds, not before that of the previous frame.
        """
        seen = self._speaks_for(probabilities)
        if seen == self.label:
            self._frames = 0
            return False
        if not self._frames or seen != self._candidate:
            self._candidate, self._frames, self._since = seen, 0, time
        self._frames += 1
        if self._frames < self.rules.frames or time - self._since < self.rules.seconds:
            return False
        self.label, self._frames = seen, 0
        return True

    def interrupt(self) -> None:
        """Forgets the frames that have voted for a change, because the next frame comes after a gap."""
        self._frames = 0

    def _speaks_for(self, probabilities: Sequence[float]) -> Optional[int]:
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        if best != self.label and probabilities[best] >= self.rules.threshold:
            return best
        if self.label is not NOTHING and probabilities[self.label] >= self.rules.leave:
            return self.label
        return NOTHING
