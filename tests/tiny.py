"""Tiny networks with inputs of 8×8 pixels, by default of two blocks; trainers and random batches for them."""

import tensorflow as tf

import r2b_zoo
from r2b_zoo.models import intermediates, topology
from r2b_zoo.models.topology import global_policy
from r2b_zoo.ops.mixed_precision import policy_name
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.teacher_student import TeacherStudent
from tests.networks import randomize
from tests.small import SHALLOW

HALF = ("bfloat16", "float16")
TINY = {"input_shape": (8, 8, 1), "num_classes": 10, "width": 8, "stem": "cifar"}
BATCH = 16
LossScaleOptimizer = tf.keras.mixed_precision.LossScaleOptimizer


def network(precision="binary", mixed_precision="float32", name="RealToBinaryNet", blocks=SHALLOW):
    with global_policy(policy_name(mixed_precision)), topology._depth(*blocks):
        return r2b_zoo.create(name, precision=precision, **TINY)


def twins(mixed_precision, precision="binary", name="RealToBinaryNet"):
    """A network in float32, and a network with the same weights in mixed precision."""
    real = randomize(network(precision, name=name))
    half = network(precision, mixed_precision, name)
    half.set_weights(real.get_weights())
    return real, half


def trainer(student, optimizer=None, **options):
    model = TeacherStudent(student, LossWeights(), **options)
    optimizer = optimizer or tf.keras.optimizers.SGD(0.1)
    optimizer.build(student.trainable_variables)
    model.compile(optimizer=optimizer)
    return model


def batch(rng, size=BATCH):
    return tf.constant(rng.normal(size=(size, 8, 8, 1)), tf.float32), tf.constant(rng.integers(0, 10, size), tf.int32)


def values(model):
    return [weight.numpy() for weight in model.weights]


def activations(model, images, training):
    return tf.keras.Model(model.inputs, intermediates(model))(images, training=training)
