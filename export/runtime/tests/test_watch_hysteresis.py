"""Tests when `r2b-run watch` reports that the label has changed."""

import itertools

import pytest
from r2b_runtime.watch.hysteresis import Hysteresis, Rules

# For each kind of frame, the probabilities of class A and class B. The thresholds are usually 0.6 and 0.4. In frames A
# and B, the class of that letter is above both thresholds. In frames a and b, it is between them. In frame -, both
# classes are below both thresholds.
FRAMES = {"A": (0.9, 0.05), "B": (0.05, 0.9), "a": (0.5, 0.2), "b": (0.2, 0.5), "-": (0.1, 0.15)}
A, B = 0, 1


def labels(frames, rules, interval=0.1):
    """The label after each frame."""
    state, result = Hysteresis(rules), []
    for number, frame in enumerate(frames):
        before = state.label
        changed = state.update(FRAMES[frame], number * interval)
        assert changed == (state.label != before)
        result.append(state.label)
    return result


def specified(frames, count):
    """What `labels` must return for the thresholds 0.6 and 0.4, computed anew from all frames since the last change."""
    label, since, result = None, 0, []
    for number in range(len(frames)):
        spoken = []
        for frame in frames[since : number + 1]:
            weak = {"a": A, "b": B}.get(frame)
            # A frame between the thresholds can keep its class as the label, but cannot make it the label.
            spoken.append({"A": A, "B": B}.get(frame, label if label is not None and weak == label else None))
        last = spoken[-count:]
        if len(last) == count and len(set(last)) == 1 and last[0] != label:
            label, since = last[0], number + 1
        result.append(label)
    return result


@pytest.mark.parametrize("count", [1, 2, 3])
def test_labels_follow_the_rules_in_every_sequence_of_up_to_five_frames(count):
    rules = Rules(threshold=0.6, leave=0.4, frames=count)
    for length in range(1, 6):
        for frames in itertools.product(FRAMES, repeat=length):
            assert labels(frames, rules) == specified(frames, count), frames


def test_with_equal_thresholds_and_one_frame_the_label_follows_each_frame():
    rules = Rules(threshold=0.6, leave=0.6, frames=1)
    assert labels("AaABb-B", rules) == [A, None, A, B, None, None, B]


def test_a_weak_label_stays_until_another_is_strong():
    rules = Rules(threshold=0.4, leave=0.1, frames=1)
    # In the third frame, class B is more probable, but below the threshold, and class A is not below `leave`.
    assert labels("Aa-B", rules) == [A, A, A, B]


@pytest.mark.parametrize(("seconds", "frame"), [(0.0, 0), (0.1, 1), (0.25, 3), (0.3, 3)])
def test_the_label_changes_after_the_given_seconds(seconds, frame):
    """The first frame is at 0 s, the fourth at 0.3 s."""
    rules = Rules(threshold=0.6, leave=0.4, frames=1, seconds=seconds)
    found = labels("AAAAAAA", rules)
    assert found.index(A) == frame
    assert labels("AAABAAA", Rules(0.6, 0.4, 1, 0.31))[-1] is None


def test_a_gap_restarts_the_count_of_frames():
    state = Hysteresis(Rules(0.6, 0.4, frames=3))
    for time in range(2):
        assert not state.update(FRAMES["A"], time)
    state.interrupt()
    assert [state.update(FRAMES["A"], time) for time in (2, 3, 4)] == [False, False, True]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 0.0}, "threshold must be a probability above 0, at most 1; received 0.0"),
        ({"threshold": float("nan")}, "threshold must be a probability above 0, at most 1; received nan"),
        ({"threshold": 0.5, "leave": 0.6}, "leave must be from 0 to the threshold, 0.5; received 0.6"),
        ({"frames": 0}, "frames must be at least 1; received 0"),
        ({"seconds": -1.0}, "seconds must be finite and at least 0; received -1.0"),
        ({"seconds": float("inf")}, "seconds must be finite and at least 0; received inf"),
    ],
)
def test_rules_that_mean_nothing(fields, message):
    with pytest.raises(ValueError, match=message):
        Rules(**fields)
