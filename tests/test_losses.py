"""A loss is one record: a new record appears in the training step, in the recipes and in the report."""

import importlib
import sys

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo import losses
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.teacher_student import TeacherStudent
from tests.small import SMALL

CONFIDENCE = losses.Loss(
    "confidence",
    "Confidence",
    "How far the student's largest logit is from its teacher's.",
    lambda seen: tf.square(
        tf.reduce_max(seen.student["logits"], axis=-1) - tf.reduce_max(seen.teacher["logits"], axis=-1)
    ),
    needs_teacher=True,
)


@pytest.fixture
def with_confidence(monkeypatch):
    """Adds a loss, re-imports the modules that read the losses on import, and restores all of them afterwards."""
    package = sys.modules["r2b_zoo"]
    for name in ("recipes", "report"):
        # Make monkeypatch restore the package's attribute, which importing the module again replaces.
        monkeypatch.setattr(package, name, importlib.import_module(f"r2b_zoo.{name}"))
    monkeypatch.setattr(losses, "LOSSES", (*losses.LOSSES, CONFIDENCE))
    for name in _reading():
        monkeypatch.delitem(sys.modules, name)
    for name in ("recipes", "report"):
        importlib.import_module(f"r2b_zoo.{name}")
    yield
    for name in _reading():
        del sys.modules[name]


def _reading():
    return [name for name in sys.modules if name.startswith(("r2b_zoo.recipes", "r2b_zoo.report"))]


@pytest.mark.usefixtures("with_confidence")
def test_a_new_loss_is_a_field_and_a_switch_of_every_recipe():
    from r2b_zoo import recipes

    plan = recipes.plan("digits", **{"binary.confidence_weight": 0.25})
    assert plan.stages[-1].loss_weights["confidence"] == 0.25
    assert plan.stages[0].loss_weights["confidence"] == 0
    off = recipes.plan("digits", **{"binary.confidence_weight": 0.25, "confidence": False})
    assert off.stages[-1].loss_weights["confidence"] == 0
    assert off.switched_off == ("confidence",)
    with pytest.raises(
        ValueError, match=r"teacher has no teacher to match: .* and confidence_weight must be 0 .*confidence=false"
    ):
        recipes.plan("digits", **{"teacher.confidence_weight": 1.0})


@pytest.mark.usefixtures("with_confidence")
def test_the_report_has_a_curve_for_an_added_loss():
    from r2b_zoo.report import view

    (metric,) = [metric for metric in view.METRICS if metric.column == "confidence"]
    assert (metric.title, metric.explanation) == (CONFIDENCE.title, CONFIDENCE.explanation)


@pytest.mark.usefixtures("with_confidence", "shallow")
def test_the_total_contains_an_added_loss_with_its_weight(rng):
    images = rng.normal(size=(8, 32, 32, 3)).astype(np.float32)
    labels = np.arange(8) % 10
    teacher, student = (r2b_zoo.create(name, **SMALL) for name in ("ResNet18", "RealToBinaryNet"))
    model = TeacherStudent(student, LossWeights(classification=0.0, confidence=2.0), teacher)
    model.compile(optimizer=tf.keras.optimizers.SGD(0.0))
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    of_student, of_teacher = (
        tf.keras.Model(one.inputs, r2b_zoo.intermediates(one)["logits"])(images).numpy() for one in (student, teacher)
    )
    expected = np.square(of_student.max(-1) - of_teacher.max(-1)).mean()
    assert found["confidence"] == pytest.approx(expected, rel=1e-4)
    assert found["loss"] == pytest.approx(2 * expected, rel=1e-4)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"The losses are classification, .*; received 'atention_matching'.*attention"):
        LossWeights(atention_matching=1.0)


def test_other_tests_do_not_see_the_added_loss():
    """The fixture restores the modules, so later tests in this process see only the zoo's losses."""
    from r2b_zoo import recipes

    assert f"binary.{CONFIDENCE.field}" not in recipes.plan("digits").config
