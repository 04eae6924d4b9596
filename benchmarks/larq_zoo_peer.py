"""Larq Zoo's own training code, as its users run it. The benchmarks compare our code with it."""

import functools
from typing import Any

import tensorflow as tf


def teacher_student(
    input_shape: tuple[int, int, int], num_classes: int
) -> tuple[tf.keras.Model, dict[str, tf.keras.Model]]:
    """The compiled model of Larq Zoo's binary stage (``TrainR2BBNN``): its networks, losses, optimizer and metrics.

    The optimizer has a constant learning rate and the teacher has random weights; neither changes the time of a step.

    Returns:
        The model, and a dictionary of its teacher and student by their precision.
    """
    from larq_zoo.literature.real_to_bin_nets import RealToBinNetBANFactory, RealToBinNetBNNFactory
    from larq_zoo.training.knowledge_distillation.knowledge_distillation import TeacherStudentModelFactory
    from zookeeper import ComponentField, configure, factory

    @factory
    class Stage(TeacherStudentModelFactory):
        teacher_model = ComponentField(RealToBinNetBANFactory)
        student_model = ComponentField(RealToBinNetBNNFactory)

    stage = Stage()
    # These are the fields of TrainR2BBNN.
    fields: dict[str, Any] = {
        "input_shape": input_shape,
        "num_classes": num_classes,
        "allow_missing_teacher_weights": True,
        "classification_weight": 1.0,
        "attention_matching_weight": 0.0,
        "attention_matching_train_teacher": False,
        "output_matching_weight": 0.8,
        "output_matching_softmax_temperature": 1.0,
        "output_matching_train_teacher": False,
    }
    configure(stage, fields, interactive=False)
    model = stage.build()
    model.compile(
        optimizer=tf.keras.optimizers.Adam(2e-4),
        loss=stage.classification_loss,
        metrics=["accuracy", "sparse_top_k_categorical_accuracy"],
    )
    return model, {"binary_activations": stage.teacher_model, "binary": stage.student_model}


def imagenet(data_dir: str, split: str, batch_size: int) -> tf.data.Dataset:
    """Larq Zoo's batches of ImageNet, made as in its ``TrainLarqZooModel.run``."""
    from larq_zoo.training.data import Default
    from larq_zoo.training.datasets import ImageNet
    from zookeeper import configure

    dataset = ImageNet()
    # Larq Zoo asks for version 5.0.*; a name without version also accepts newer ones, which have the same photographs.
    configure(dataset, {"name": "imagenet2012", "data_dir": data_dir}, interactive=False)
    preprocessing = Default()
    configure(preprocessing, {}, interactive=False)
    training = split == "train"
    images, _ = (dataset.train if training else dataset.validation)(decoders=preprocessing.decoders)
    images = images.cache()
    if training:
        images = images.shuffle(10 * batch_size)
    return (
        images.repeat()
        .map(functools.partial(preprocessing, training=training), num_parallel_calls=tf.data.experimental.AUTOTUNE)
        .batch(batch_size)
        .prefetch(1)
    )
