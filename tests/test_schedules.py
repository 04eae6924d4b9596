"""Compares learning rates, step by step, with the definitions of their schedules."""

import math

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.training.schedules import SCHEDULES, WarmUp, learning_rate_schedule

RATE, STEPS_PER_EPOCH, EPOCHS, DECAY = 0.03, 7, 10, 0.1
DECAY_EPOCHS = (4.0, 7.5, 9.0)
TOTAL = STEPS_PER_EPOCH * EPOCHS


def schedule(name, warmup_epochs=2.0, **changes):
    arguments = {
        "learning_rate": RATE,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "epochs": EPOCHS,
        "warmup_epochs": warmup_epochs,
        "decay": DECAY,
        "decay_epochs": DECAY_EPOCHS,
    }
    return learning_rate_schedule(name, **{**arguments, **changes})


def after_warm_up(name, step, warmup):
    """The learning rate at a step after the warm-up, calculated from the schedule's definition."""
    if name == "constant":
        return RATE
    if name == "cosine":
        return RATE * (1 + math.cos(math.pi * (step - warmup) / (TOTAL - warmup))) / 2
    return RATE * DECAY ** sum(step >= round(epoch * STEPS_PER_EPOCH) for epoch in DECAY_EPOCHS)


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 2.0, 9.9])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_of_every_step_follows_the_definition(name, warmup_epochs):
    found = np.array([float(schedule(name, warmup_epochs)(step)) for step in range(TOTAL + 1)])
    warmup = round(warmup_epochs * STEPS_PER_EPOCH)
    expected = [RATE * t / warmup if t < warmup else after_warm_up(name, t, warmup) for t in range(TOTAL + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    assert (found >= 0).all()


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        # There are six epochs of two steps. The first epoch is the warm-up, and the highest rate is 0.8.
        ("constant", [0, 0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]),
        # The rate is halved at epoch 2 (step 4) and again at epoch 4.5 (step 9).
        ("steps", [0, 0.4, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2]),
        # The rates after the warm-up are 0.4 · (1 + cos(i · 18°)) for i = 0 … 9.
        (
            "cosine",
            [0, 0.4, 0.8, 0.780423, 0.723607, 0.635114, 0.523607, 0.4, 0.276393, 0.164886, 0.076393, 0.019577],
        ),
    ],
)
def test_rates_calculated_by_hand(name, rates):
    rate = learning_rate_schedule(
        name, learning_rate=0.8, steps_per_epoch=2, epochs=6, warmup_epochs=1, decay=0.5, decay_epochs=(2, 4.5)
    )
    np.testing.assert_allclose([float(rate(step)) for step in range(12)], rates, atol=1e-6)


def test_a_drop_during_the_warm_up_takes_effect_at_its_end():
    """The warm-up itself rises towards the full rate, as if there were no drop."""
    rate = schedule("steps", warmup_epochs=5.0)  # the first of the three drops is at epoch 4
    assert float(rate(34)) == pytest.approx(RATE * 34 / 35)
    assert float(rate(35)) == pytest.approx(RATE * DECAY)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_warm_up_starts_at_zero_and_ends_at_the_rate(name):
    rate = schedule(name)
    assert float(rate(0)) == 0
    assert float(rate(13)) == pytest.approx(RATE * 13 / 14)
    assert float(rate(14)) == pytest.approx(RATE)


def test_the_rate_drops_at_the_first_step_of_a_decay_epoch():
    rate = schedule("steps")
    for epoch, before, after in ((4, 1, DECAY), (9, DECAY**2, DECAY**3)):
        assert float(rate(epoch * STEPS_PER_EPOCH - 1)) == pytest.approx(RATE * before)
        assert float(rate(epoch * STEPS_PER_EPOCH)) == pytest.approx(RATE * after)


def test_the_cosine_ends_at_zero_and_stays_there():
    rate = schedule("cosine")
    assert float(rate(TOTAL - 1)) > 0
    for step in (TOTAL, TOTAL + 100):
        assert float(rate(step)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_optimizer_follows_it_inside_a_graph(name):
    rate = schedule(name)
    optimizer = tf.keras.optimizers.SGD(rate)
    variable = tf.Variable(0.0)
    optimizer.build([variable])

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.constant(-1.0), variable)])

    for _ in range(20):
        step()
    assert float(variable) == pytest.approx(sum(float(rate(t)) for t in range(20)), rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_configuration_round_trip(name):
    rate = schedule(name)
    schedules = tf.keras.optimizers.schedules
    again = schedules.deserialize(schedules.serialize(rate))
    assert isinstance(again, WarmUp)
    assert [float(again(t)) for t in range(0, TOTAL, 3)] == [float(rate(t)) for t in range(0, TOTAL, 3)]


def test_unknown_schedule():
    with pytest.raises(ValueError, match=r"schedule must be one of 'constant', 'cosine', 'steps'; received 'linear'"):
        schedule("linear")


@pytest.mark.parametrize("decay_epochs", [(4.5, 2), (2, 2)])
def test_steps_that_do_not_ascend(decay_epochs):
    with pytest.raises(ValueError, match=rf"decay_epochs must ascend; received {decay_epochs[0]}, 2\."):
        schedule("steps", decay_epochs=decay_epochs)


@pytest.mark.parametrize("warmup_epochs", [10.0, 11.0])
def test_a_warm_up_as_long_as_the_stage(warmup_epochs):
    with pytest.raises(ValueError, match=rf"warmup_epochs must be less than epochs \(10\); received {warmup_epochs}"):
        schedule("cosine", warmup_epochs)
