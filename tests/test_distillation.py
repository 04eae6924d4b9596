"""Compares losses with NumPy, and tests ``fit`` with a student and its teacher."""

import contextlib
import math

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo.models import BLOCK_NAMES as ALL_BLOCK_NAMES
from r2b_zoo.training import teacher_student
from r2b_zoo.training.distillation import (
    LossWeights,
    attention_map,
    attention_matching_loss,
    output_matching_loss,
)
from r2b_zoo.training.loop import StopOnNaN, TrainingDiverged
from r2b_zoo.training.teacher_student import TeacherStudent
from tests.networks import randomize
from tests.small import SHALLOW, SMALL, shallow, small_network

CLASSES = 5
# The blocks of a network that is built within tests.small.shallow().
BLOCK_NAMES = ALL_BLOCK_NAMES[: sum(SHALLOW)]
ALL = LossWeights(classification=0.7, attention_matching=0.4, output_matching=1.3, temperature=3.0)


# --- formulas ---------------------------------------------------------------------------------------------------------


def numpy_map(activations):
    """Zagoruyko & Komodakis, section 3.1: Q = Σ_c A_c² as a vector, divided by its L2 norm."""
    rows = []
    for image in activations:
        vector = np.sum(np.asarray(image, np.float64) ** 2, axis=2).ravel()
        rows.append(vector / math.sqrt(np.dot(vector, vector)))
    return np.array(rows)


def numpy_attention_loss(student, teacher):
    """Martínez et al., section 4.2: Σ_j ‖Q_S^j − Q_T^j‖₂, averaged over the images."""
    distances = [np.linalg.norm(numpy_map(student[j]) - numpy_map(teacher[j]), axis=1) for j in student]
    return np.sum(distances, axis=0).mean()


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def numpy_output_loss(student_logits, teacher_logits, temperature):
    """Hinton et al., section 2: T² Σ_k p_k log(p_k / q_k), p the teacher's and q the student's softmax at T."""
    p, q = softmax(np.divide(teacher_logits, temperature)), softmax(np.divide(student_logits, temperature))
    return temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))


def numpy_cross_entropy(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()


def finite_differences(function, x, step=1e-6):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def gradient_of(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


# --- attention matching -----------------------------------------------------------------------------------------------


def test_attention_map_follows_the_papers_formula(rng):
    activations = rng.normal(size=(4, 3, 5, 6))
    found = attention_map(tf.constant(activations)).numpy()
    np.testing.assert_allclose(found, numpy_map(activations), rtol=1e-12)
    assert found.shape == (4, 15)
    assert (found >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-12)


def test_attention_matching_of_two_tensors_calculated_by_hand():
    # One image, 1×2 positions. Student, 2 channels: Q = (1 + 4, 9) / √(25 + 81) = (5, 9) / √106.
    student = np.array([[[[1.0, 2.0], [0.0, -3.0]]]])
    # Teacher, 3 channels: Q = (4 + 0 + 0, 1 + 1 + 1) / √(16 + 9) = (0.8, 0.6).
    teacher = np.array([[[[-2.0, 0.0, 0.0], [1.0, -1.0, 1.0]]]])
    expected = math.hypot(5 / math.sqrt(106) - 0.8, 9 / math.sqrt(106) - 0.6)
    found = attention_matching_loss({"block1": tf.constant(student)}, {"block1": tf.constant(teacher)})
    assert float(found) == pytest.approx(expected, rel=1e-12)
    # The losses of two blocks are added; the losses of two images are averaged.
    same = np.pad(student, [(0, 0), (0, 0), (0, 0), (0, 1)])  # a channel of zeros leaves the map the same
    blocks = {"block1": tf.constant(np.repeat(student, 2, axis=0)), "block2": tf.constant(np.repeat(student, 2, 0))}
    targets = {
        "block1": tf.constant(np.concatenate([teacher, same])),
        "block2": tf.constant(np.concatenate([teacher, teacher])),
    }
    assert float(attention_matching_loss(blocks, targets)) == pytest.approx(1.5 * expected, rel=1e-6)


def test_attention_matching_of_simple_maps_calculated_by_hand():
    # There are 2×2 positions and one channel: A = (1, 1, 1, 1) and (1, 0, 0, 0).
    # Q = (1, 1, 1, 1) / 2 and (1, 0, 0, 0); ‖Q_S − Q_T‖ = ‖(−0.5, 0.5, 0.5, 0.5)‖ = √1 = 1.
    even, corner = np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1))
    corner[0, 0, 0, 0] = 1
    assert float(attention_matching_loss({"a": tf.constant(even)}, {"a": tf.constant(corner)})) == pytest.approx(1)
    # Maps with no position in common are √2 apart. The size and the sign of the activations make no difference.
    other = np.zeros((1, 2, 2, 1))
    other[0, 1, 1, 0] = -50
    found = attention_matching_loss({"a": tf.constant(corner)}, {"a": tf.constant(other)})
    assert float(found) == pytest.approx(1.41421356)


def test_attention_matching_equals_numpy_whatever_the_channels(rng):
    student = {"a": rng.normal(size=(5, 4, 4, 3)), "b": rng.normal(size=(5, 2, 3, 8))}
    teacher = {"b": rng.normal(size=(5, 2, 3, 2)), "a": rng.normal(size=(5, 4, 4, 7))}
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-5)):
        found = attention_matching_loss(
            {name: tf.constant(value, dtype) for name, value in student.items()},
            {name: tf.constant(value, dtype) for name, value in teacher.items()},
        )
        np.testing.assert_allclose(found, numpy_attention_loss(student, teacher), rtol=rtol)


def test_attention_matching_gradient_is_the_finite_difference(rng):
    student, teacher = rng.normal(size=(2, 2, 3, 2)), rng.normal(size=(2, 2, 3, 4))
    found = gradient_of(lambda x: attention_matching_loss({"a": x}, {"a": tf.constant(teacher)}), student)
    expected = finite_differences(lambda x: numpy_attention_loss({"a": x}, {"a": teacher}), student)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_maps_have_no_loss_and_no_gradient(rng, dtype):
    activations = rng.normal(size=(3, 4, 4, 2)).astype(dtype)
    teacher = {"a": tf.constant(activations)}
    assert float(attention_matching_loss({"a": tf.constant(activations)}, teacher)) == pytest.approx(0, abs=1e-11)
    np.testing.assert_array_equal(gradient_of(lambda x: attention_matching_loss({"a": x}, teacher), activations), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_zeros_cause_no_nan(rng, dtype):
    zeros, teacher = np.zeros((3, 4, 4, 2), dtype), rng.normal(size=(3, 4, 4, 2)).astype(dtype)
    np.testing.assert_array_equal(attention_map(tf.constant(zeros)), 0)
    # A map of zeros is at distance 1 from every map of length 1.
    for student, target in ((zeros, teacher), (teacher, zeros)):
        loss = attention_matching_loss({"a": tf.constant(student)}, {"a": tf.constant(target)})
        assert float(loss) == pytest.approx(1, rel=1e-6)
        gradient = gradient_of(lambda x, y=target: attention_matching_loss({"a": x}, {"a": tf.constant(y)}), student)
        assert np.isfinite(gradient).all()
    both = gradient_of(lambda x: attention_matching_loss({"a": x}, {"a": tf.constant(zeros)}), zeros)
    np.testing.assert_array_equal(both, 0)


def test_attention_matching_says_which_blocks_do_not_fit():
    maps = tf.ones((1, 4, 4, 2))
    with pytest.raises(ValueError, match=r"needs the same blocks; received \['a'\] and \['a', 'b'\]"):
        attention_matching_loss({"a": maps}, {"a": maps, "b": maps})
    with pytest.raises(
        ValueError, match=r"maps of b must have the same height and width; received \(4, 4\) .*\(4, 2\)"
    ):
        attention_matching_loss({"a": maps, "b": maps}, {"a": maps, "b": maps[:, :, :2]})


# --- output matching --------------------------------------------------------------------------------------------------


def test_output_matching_calculated_by_hand():
    # At temperature 1, the teacher's probabilities are (3/4, 1/4) and the student's are (1/2, 1/2). The loss is
    # 3/4 · log(3/2) + 1/4 · log(1/2) = 0.13081204.
    teacher, student = tf.constant([[math.log(3.0), 0.0]]), tf.constant([[0.0, 0.0]])
    assert float(output_matching_loss(student, teacher, 1.0)) == pytest.approx(0.13081204, rel=1e-5)
    # At temperature 2, logits twice as large give the same probabilities, and the loss is 2² times as large.
    assert float(output_matching_loss(student, 2 * teacher, 2.0)) == pytest.approx(4 * 0.13081204, rel=1e-5)
    # With student and teacher exchanged, the loss is 1/2 · log(2/3) + 1/2 · log(2) = 0.14384104.
    assert float(output_matching_loss(teacher, student, 1.0)) == pytest.approx(0.14384104, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_output_matching_equals_numpy(rng, temperature):
    student, teacher = 3 * rng.normal(size=(6, 4)), 3 * rng.normal(size=(6, 4))
    found = output_matching_loss(tf.constant(student), tf.constant(teacher), temperature)
    np.testing.assert_allclose(found, numpy_output_loss(student, teacher, temperature), rtol=1e-5)


def test_output_matching_of_equal_logits_is_zero(rng):
    logits = tf.constant(rng.normal(size=(6, 4)))
    assert float(output_matching_loss(logits, logits, 2.0)) == 0
    assert float(output_matching_loss(logits, logits + 7.0, 2.0)) == pytest.approx(0, abs=1e-6)  # the same softmax


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_output_matching_gradient(rng, temperature):
    student, teacher = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    found = gradient_of(lambda x: output_matching_loss(x, tf.constant(teacher), temperature), student)
    expected = finite_differences(lambda x: numpy_output_loss(x, teacher, temperature), student)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The gradient of an image's loss is T (q − p). At a high T, q − p is about proportional to 1/T, so the gradient
    # hardly depends on T (Hinton et al., section 2).
    closed = temperature * (softmax(student / temperature) - softmax(teacher / temperature)) / len(student)
    np.testing.assert_allclose(expected, closed, atol=1e-8)


def test_output_matching_survives_extreme_logits():
    student = tf.constant([[500.0, -500.0, 0.0]])
    teacher = tf.constant([[-500.0, 500.0, 0.0]])
    assert float(output_matching_loss(student, teacher, 1.0)) == pytest.approx(1000)


# --- classification ---------------------------------------------------------------------------------------------------


class Logits(tf.keras.layers.Layer):
    """Returns the same logits for every image, so that losses can be calculated by hand."""

    def __init__(self, values, **kwargs):
        super().__init__(**kwargs)
        self.values = values

    def call(self, inputs):
        return 0 * inputs[:, 0, 0, :1] + tf.constant([self.values], tf.float32)


def constant_network(values):
    """A network with the layer names of the zoo's networks, whose logits are ``values`` for every image."""
    inputs = x = tf.keras.Input((2, 2, 1))
    for name in BLOCK_NAMES:
        x = tf.keras.layers.Activation("linear", name=name)(x)
    return tf.keras.Model(inputs, tf.keras.layers.Softmax(name="probabilities")(Logits(values, name="logits")(x)))


def test_losses_and_accuracy_calculated_by_hand():
    # The student's probabilities are (2/4, 1/4, 1/4), and the teacher's are (1/4, 2/4, 1/4).
    student = constant_network([math.log(2.0), 0.0, 0.0])
    teacher = constant_network([0.0, math.log(2.0), 0.0])
    weights = LossWeights(classification=2.0, attention_matching=30.0, output_matching=3.0, temperature=1.0)
    model = TeacherStudent(student, weights, teacher)
    model.compile(run_eagerly=True)
    data = batches(np.ones((4, 2, 2, 1), np.float32), np.array([0, 0, 1, 2], np.int32), 4)
    found = model.evaluate(data, verbose=0, return_dict=True)
    # The true class has probability 1/2 in two images and 1/4 in two: (2 log 2 + 2 log 4) / 4.
    assert found["classification"] == pytest.approx(1.5 * math.log(2), rel=1e-5)
    # The loss is 1/4 · log(1/2) + 1/2 · log(2) + 1/4 · log(1).
    assert found["output_matching"] == pytest.approx(0.25 * math.log(2), rel=1e-5)
    # The blocks of both networks return the image itself, so the maps are equal.
    assert found["attention_matching"] == pytest.approx(0, abs=1e-6)
    assert found["loss"] == pytest.approx((2 * 1.5 + 3 * 0.25) * math.log(2), rel=1e-5)
    assert found["accuracy"] == 0.5


# --- weights of the losses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_matching": -1.0}, r"weight of attention_matching must be 0 \(off\) or more; received -1"),
        ({"classification": 0.0}, "Every loss is switched off; give at least one of them a weight above 0"),
        ({"temperature": 0.0}, "temperature must be above 0; received 0"),
    ],
)
def test_loss_weights_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LossWeights(**arguments)


# --- teacher and student ----------------------------------------------------------------------------------------------


@tf.keras.utils.register_keras_serializable("r2b_zoo_tests")
class TrainingShift(tf.keras.layers.Layer):
    """Adds 5 to the first channel in training mode, to show in which mode a network ran."""

    def call(self, inputs, training=False):
        channels = inputs.shape[-1]
        return inputs + 5.0 * tf.one_hot(0, channels) if training else inputs


def network(channels: int, seed: int, classes: int = CLASSES, shift: bool = False) -> tf.keras.Model:
    """A tiny network whose blocks, logits and probabilities have the layer names of the zoo's networks."""
    tf.keras.utils.set_random_seed(seed)
    inputs = x = tf.keras.Input((4, 4, 1))
    for name in BLOCK_NAMES:
        x = tf.keras.layers.BatchNormalization(name=f"{name}_batch_norm")(x)
        x = tf.keras.layers.Conv2D(channels, 3, padding="same", activation="tanh", name=name)(x)
    if shift:
        x = TrainingShift()(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    # The logits are far apart, so that the output-matching loss is not the difference of nearly equal numbers.
    x = tf.keras.layers.Dense(classes, kernel_initializer=tf.keras.initializers.RandomNormal(stddev=8), name="logits")(
        x
    )
    return tf.keras.Model(inputs, tf.keras.layers.Softmax(name="probabilities")(x))


def outputs(model, images):
    """The activations of the blocks and the logits in inference mode, by the name of the layer."""
    names = [*BLOCK_NAMES, "logits"]
    taps = tf.keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    return dict(zip(names, (value.numpy() for value in taps(images, training=False)), strict=True))


def expected_losses(weights, student, teacher, images, labels):
    s, t = outputs(student, images), outputs(teacher, images)
    blocks = [{name: out[name] for name in BLOCK_NAMES} for out in (s, t)]
    losses = {
        "classification": numpy_cross_entropy(s["logits"], labels),
        "attention_matching": numpy_attention_loss(*blocks),
        "output_matching": numpy_output_loss(s["logits"], t["logits"], weights.temperature),
    }
    active = {name: value for name, value in losses.items() if weights.weights[name] > 0}
    total = sum(weights.weights[name] * value for name, value in active.items())
    return {"loss": total, **active, "accuracy": np.mean(s["logits"].argmax(axis=1) == labels)}


@pytest.fixture
def images(rng):
    return rng.normal(size=(10, 4, 4, 1)).astype(np.float32)


@pytest.fixture
def labels(rng):
    return rng.integers(0, CLASSES, 10).astype(np.int32)


def batches(images, labels, size):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


@pytest.mark.parametrize(
    "weights",
    [
        ALL,
        LossWeights(),
        LossWeights(classification=0.0, attention_matching=2.0),
        LossWeights(classification=0.5, output_matching=2.0, temperature=4.0),
        LossWeights(attention_matching=0.5),
    ],
    ids=["all", "classification", "attention", "output", "attention-and-classification"],
)
def test_each_loss_is_a_metric_of_its_name_and_the_total_their_weighted_sum(images, labels, weights):
    student, teacher = network(3, seed=1), network(4, seed=2)
    model = TeacherStudent(student, weights, teacher)
    model.compile(run_eagerly=True)
    found = model.evaluate(batches(images, labels, 10), verbose=0, return_dict=True)
    expected = expected_losses(weights, student, teacher, images, labels)
    assert set(found) == set(expected)  # a loss that is off has no metric
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


def test_metrics_are_means_over_the_images_of_an_epoch(images, labels):
    student, teacher = network(3, seed=1), network(4, seed=2)
    model = TeacherStudent(student, ALL, teacher)
    model.compile(run_eagerly=True)
    found = model.evaluate(batches(images, labels, 7), verbose=0, return_dict=True)  # 7 images, then 3
    parts = [expected_losses(ALL, student, teacher, images[s], labels[s]) for s in (slice(7), slice(7, 10))]
    for name in found:
        assert found[name] == pytest.approx((7 * parts[0][name] + 3 * parts[1][name]) / 10, rel=1e-4), name
    again = model.evaluate(batches(images[:7], labels[:7], 7), verbose=0, return_dict=True)
    for name in again:  # the metrics start again for each evaluation
        assert again[name] == pytest.approx(parts[0][name], rel=1e-4), name


def test_fit_changes_the_student_and_nothing_of_the_teacher(images, labels):
    student, teacher = network(3, seed=1), network(4, seed=2)
    for layer in teacher.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.moving_mean.assign_add(0.1 * tf.ones_like(layer.moving_mean))
    before = [variable.numpy() for variable in teacher.variables]
    student_before = {variable.name: variable.numpy() for variable in student.variables}
    model = TeacherStudent(student, ALL, teacher)
    model.compile(tf.keras.optimizers.Adam(1e-2))
    model.fit(batches(images, labels, 5), epochs=2, verbose=0)
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.name)
    unchanged = [v.name for v in student.variables if np.array_equal(v, student_before[v.name])]
    assert unchanged == []  # batch-norm statistics move too: the student runs in training mode


def test_the_teacher_runs_in_inference_mode_and_the_student_in_training_mode(images, labels):
    student, teacher = network(3, seed=1, shift=True), network(4, seed=2, shift=True)
    weights = LossWeights(classification=0.0, output_matching=1.0)
    model = TeacherStudent(student, weights, teacher)
    model.compile(tf.keras.optimizers.SGD(0.0), run_eagerly=True)
    teacher_logits = outputs(teacher, images)["logits"]
    student_logits = tf.keras.Model(student.inputs, student.get_layer("logits").output)(images, training=True)
    history = model.fit(batches(images, labels, 10), verbose=0).history
    expected = numpy_output_loss(student_logits, teacher_logits, 1.0)
    assert history["output_matching"][0] == pytest.approx(expected, rel=1e-4)
    # A teacher in training mode would give another loss.
    shifted = tf.keras.Model(teacher.inputs, teacher.get_layer("logits").output)(images, training=True)
    assert abs(numpy_output_loss(student_logits, shifted, 1.0) - expected) > 0.1 * expected


def test_a_step_follows_the_gradient_of_the_weighted_sum(images, labels):
    student, teacher = network(3, seed=1), network(4, seed=2)
    taps = tf.keras.Model(student.inputs, {name: student.get_layer(name).output for name in (*BLOCK_NAMES, "logits")})
    targets = outputs(teacher, images)
    before = {v.ref(): v.numpy() for v in student.trainable_variables}
    with tf.GradientTape() as tape:
        out = taps(images, training=True)
        logits = out.pop("logits")
        attention = attention_matching_loss(out, {name: tf.constant(targets[name]) for name in BLOCK_NAMES})
        classification = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, True))
        output = output_matching_loss(logits, targets["logits"], ALL.temperature)
        total = 0.7 * classification + 0.4 * attention + 1.3 * output
    gradients = tape.gradient(total, student.trainable_variables)
    model = TeacherStudent(student, ALL, teacher)
    model.compile(tf.keras.optimizers.SGD(0.1), run_eagerly=True)
    model.fit(batches(images, labels, 10), verbose=0)
    for variable, gradient in zip(student.trainable_variables, gradients, strict=True):
        np.testing.assert_allclose(variable, before[variable.ref()] - 0.1 * gradient, atol=2e-5, err_msg=variable.name)


def test_predictions_are_the_students(images):
    student = network(3, seed=1)
    np.testing.assert_array_equal(TeacherStudent(student, ALL, network(4, seed=2))(images), student(images))


def test_losses_that_need_a_teacher_ask_for_one():
    with pytest.raises(ValueError, match=r"These losses need a teacher, and there is none: .*attention_matching=0\.4"):
        TeacherStudent(network(3, seed=1), ALL)


def test_teacher_and_student_with_other_classes():
    with pytest.raises(ValueError, match=r"must have the same classes; received outputs \(None, 3\) and \(None, 5\)"):
        TeacherStudent(network(3, seed=1), ALL, network(3, seed=2, classes=3))


# --- a loss that is no number -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad_batch", "where"), [(2, "epoch 1, step 3"), (4, "epoch 2, step 2")])
def test_a_nan_loss_stops_training_and_names_the_step(images, labels, bad_batch, where):
    images = np.repeat(images[:6], 2, axis=0)  # six batches of two, three per epoch
    images[2 * bad_batch] = np.nan
    model = TeacherStudent(network(2, seed=1), LossWeights())
    model.compile(tf.keras.optimizers.SGD(1e-3), run_eagerly=True)
    message = rf"loss of stage binary became nan at {where}: lower the learning rate \(binary\.learning_rate="
    with pytest.raises(TrainingDiverged, match=message):
        model.fit(
            batches(images, np.repeat(labels[:6], 2), 2),
            epochs=2,
            steps_per_epoch=3,
            verbose=0,
            callbacks=[StopOnNaN("binary")],
        )


def test_an_infinite_loss_stops_training_and_a_large_one_does_not():
    callback = StopOnNaN("real")
    callback.on_epoch_begin(6)
    callback.on_train_batch_end(0, {"loss": 1e30})
    with pytest.raises(TrainingDiverged, match=r"loss of stage real became inf at epoch 7, step 12"):
        callback.on_train_batch_end(11, {"loss": math.inf})


def test_a_fused_training_step_equals_an_unfused_one(rng, monkeypatch):
    """With and without fused layers, the losses are the same bit for bit, and the gradients up to rounding."""
    student = small_network("RealToBinaryNet", "binary", SHALLOW)
    with shallow():
        # Do not take the teacher from small_network: tests share its networks, and TeacherStudent freezes the teacher.
        teacher = r2b_zoo.create("RealToBinaryNet", precision="binary_activations", **SMALL)
    start = randomize(student, seed=1).get_weights()
    randomize(teacher, seed=2)
    images = tf.constant(rng.normal(size=(8, 32, 32, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 10, 8), tf.int32)

    def step():
        student.set_weights(start)
        model = TeacherStudent(student, LossWeights(output_matching=0.8, attention_matching=0.5), teacher)
        model.compile(tf.keras.optimizers.SGD(1.0))
        logs = model.train_on_batch(images, labels, return_dict=True)
        return logs, [before - after for before, after in zip(start, student.get_weights(), strict=True)]

    logs, changes = step()
    monkeypatch.setattr(teacher_student, "fused_for_training", contextlib.nullcontext)
    plain_logs, plain_changes = step()
    assert logs == plain_logs
    for ours, expected in zip(changes, plain_changes, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
