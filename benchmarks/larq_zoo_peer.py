"""Larq Zoo's own training code, as its users get it: what benchmarks of training measure ours beside."""

from typing import Any

import tensorflow as tf


def teacher_student(
    input_shape: tuple[int, int, int], num_classes: int
) -> tuple[tf.keras.Model, dict[str, tf.keras.Model]]:
    """The compiled model of Larq Zoo's binary stage (``TrainR2BBNN``): its networks, losses, optimizer and metrics.

    Its optimizer has a constant learning rate and its teacher random weights, which makes no difference to the time.

    Returns:
        The model, and its networks.
    """
    from larq_zoo.literature.real_to_bin_nets import RealToBinNetBANFactory, RealToBinNetBNNFactory
    from larq_zoo.training.knowledge_distillation.knowledge_distillation import TeacherStudentModelFactory
    from zookeeper import ComponentField, configure, factory

    @factory
    class Stage(TeacherStudentModelFactory):
        teacher_model = ComponentField(RealToBinNetBANFactory)
        student_model = ComponentField(RealToBinNetBNNFactory)

    stage = Stage()
    # As TrainR2BBNN has them.
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
