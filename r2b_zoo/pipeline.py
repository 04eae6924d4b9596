"""Does a whole run: trains the stages, converts and times their networks, verifies the last, and writes the results."""

import os
import platform
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from r2b_zoo import training
from r2b_zoo.conversion import metadata
from r2b_zoo.conversion.converter import Conversion, convert
from r2b_zoo.conversion.tflite_engine import TFLiteEngine
from r2b_zoo.data.dataset import Dataset
from r2b_zoo.evaluation import accuracy, costs
from r2b_zoo.evaluation.verification import Verification, verify
from r2b_zoo.models import intermediates
from r2b_zoo.models.topology import blocks_of
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.runs.networks import Networks
from r2b_zoo.runs.plans import Plan
from r2b_zoo.system import files
from r2b_zoo.system.garbage import rarely_collected
from r2b_zoo.system.machine import processor_name
from r2b_zoo.training.distillation import attention_map

ATTENTION_IMAGES = 6
EXAMPLE_IMAGES = 20
# One image of 224×224 takes a tenth of a second in Larq Compute Engine's interpreter on x86.
FILE_IMAGES = 2000
"""The converted file runs on at most this many test images; ``r2b evaluate`` uses all of them."""
SMOKE_FILE_IMAGES = 400


@rarely_collected()
def run(
    plan: Plan,
    folder: RunFolder,
    callbacks: training.CallbackFactory = lambda stage: (),
    log: training.Log = lambda line: None,
) -> dict[str, Any]:
    """Trains the stages that are not trained yet, converts and times every stage's network, and verifies the last.

    Args:
        plan: what to train.
        folder: where everything is written; ``runs.folder`` lists the files.
        callbacks: Keras callbacks of each stage.
        log: takes lines about the progress.

    Returns:
        The contents of ``results.json``, plain data. Empty on workers other than the chief: they only train.

    Raises:
        RunFolderError: the folder is another run's, is in use by another process, or cannot be written.
        TrainingStopped: a signal stopped training, and a checkpoint is saved.
        TrainingDiverged: a loss became NaN or infinite, or gradients overflow float16.
        ConversionError: a network cannot be converted, or a quantised layer of a binary one did not become binary.
        ValueError: the plan does not fit the data or the devices.
        WorkerLost: another machine of the cluster died.
    """
    started = time.perf_counter()
    networks = training.train(plan, folder, callbacks, log, rehearse)
    if networks is None:
        return {}
    dataset = networks.dataset
    photographs, inputs, labels = dataset.test_sample(EXAMPLE_IMAGES, one_per_class=True)

    rows = []
    for stage in plan.stages:
        log(f"Converting {stage.name}")
        model = networks[stage.name]
        conversion = convert(
            model,
            labels=dataset.class_names,
            preprocessing=dataset.preprocessing,
            strict=stage.precision == "binary",
            description=f"{stage.network} ({stage.precision}) trained by recipe {plan.recipe} on {dataset.description}",
        )
        rows.append(
            {
                "name": stage.name,
                **folder.stage_result(stage.name),
                "tflite_bytes": conversion.total_bytes,
                "milliseconds": accuracy.milliseconds_per_image(conversion.tflite, inputs[0]),
            }
        )

    batches, number = _spread(dataset, SMOKE_FILE_IMAGES if plan.config["smoke"] else FILE_IMAGES)
    log(f"Verifying the file on {number} of {dataset.test_size} test images")
    verification, file_evaluation = _verify_and_evaluate(model, conversion.tflite, dataset, batches)
    results = {
        "recipe": plan.recipe,
        "dataset": {
            "name": dataset.name,
            "description": dataset.description,
            "training_images": networks.split.train_size,
            "validation_images": networks.split.test_size if plan.loop.validation else 0,
            "test_images": dataset.test_size,
            "class_names": list(dataset.class_names),
            "skipped": list(dataset.skipped),
        },
        "notes": list(plan.notes),
        "switched_off": list(plan.switched_off),
        "smoke": bool(plan.config["smoke"]),
        "stages": rows,
        "layers": conversion.as_dict()["layers"],
        "verification": verification.as_dict(),
        "tflite": {
            "images": file_evaluation.images,
            "accuracy": file_evaluation.top1,
            "bytes": conversion.total_bytes,
            "engine": TFLiteEngine(conversion.tflite).name,
            "confusion": file_evaluation.cells,
        },
        "cost": costs.cost(model).by_kind(),
        "machine": _machine(),
        "seconds": time.perf_counter() - started,
    }
    attention = _attention(
        networks, photographs[:ATTENTION_IMAGES], inputs[:ATTENTION_IMAGES], labels[:ATTENTION_IMAGES]
    )
    _write(folder, conversion, attention, {"images": photographs, "labels": labels}, results)
    return results


def rehearse(networks: Networks) -> None:
    """Tries on a few images what ``run`` does with the data after training, so that errors show before training starts.

    Reads the sample that the report shows, prepares one batch as an evaluation does, and writes labels and
    preprocessing into the metadata of a ``.tflite`` without operators.

    Raises:
        ValueError: an image of the sample cannot be read, the preprocessing gives values that are not finite, or a
            converted file cannot contain the labels.
    """
    dataset = networks.dataset
    dataset.test_sample(EXAMPLE_IMAGES, one_per_class=True)
    for images, _ in dataset.test_batches(accuracy.prediction_batch(dataset.input_shape)).take(1):
        if not np.isfinite(images).all():
            raise ValueError(f"The preprocessing of {dataset.name} gives values that are not finite.")
    tflite = metadata.write(
        metadata.without_operators(dataset.input_shape, dataset.num_classes),
        name=networks.plan.stages[-1].network,
        description=dataset.description,
        labels=dataset.class_names,
        preprocessing=dataset.preprocessing,
    )
    if metadata.read(tflite).labels != dataset.class_names:
        raise ValueError(f"A converted file cannot store these class names: {', '.join(dataset.class_names)}.")


def _spread(dataset: Dataset, number: int) -> tuple[tf.data.Dataset, int]:
    """Batches of at most ``number`` test images, and the number of these images.

    The images are spread evenly over the test split, which may be sorted by class.
    """
    batch = accuracy.prediction_batch(dataset.input_shape)
    batches = dataset.test_batches(batch)
    every = -(-dataset.test_size // number)
    if every > 1:
        batches = batches.unbatch().shard(every, 0).batch(batch)
    return batches, -(-dataset.test_size // every)


def _verify_and_evaluate(
    model: tf.keras.Model, tflite: bytes, dataset: Dataset, batches: tf.data.Dataset
) -> tuple[Verification, accuracy.Evaluation]:
    """Verifies the file against its model, and evaluates it against the labels, in one pass over the images."""
    labels: list[np.ndarray] = []
    found: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        for batch, batch_labels in batches:
            labels.append(batch_labels.numpy())
            yield batch.numpy()

    verification = verify(
        model,
        tflite,
        images(),
        labels=dataset.class_names,
        preprocessing=dataset.preprocessing,
        each_output=found.append,
    )
    return verification, accuracy.evaluate(np.concatenate(found), np.concatenate(labels))


def _attention(networks: Networks, images: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Attention maps of the first and the last stage's network on a few images.

    Keys: ``images`` uint8 (n, H, W, C), ``labels`` (n,), and ``<stage>/<block>`` float32 (n, h, w).
    """
    stages = networks.plan.stages
    arrays = {"images": images, "labels": labels}
    for stage in (stages[0], stages[-1]):
        model = networks[stage.name]
        blocks = tf.keras.Model(model.inputs, blocks_of(intermediates(model)))
        for name, activations in blocks(inputs, training=False).items():
            shape = activations.shape[:3]
            arrays[f"{stage.name}/{name}"] = tf.reshape(attention_map(activations), shape).numpy()
    return arrays


def _write(
    folder: RunFolder,
    conversion: Conversion,
    attention: dict[str, np.ndarray],
    examples: dict[str, np.ndarray],
    results: dict[str, Any],
) -> None:
    with folder.writing():
        files.write_bytes(folder.tflite_path, conversion.tflite)
        for path, arrays in ((folder.attention_path, attention), (folder.examples_path, examples)):
            with files.replacing(path) as partial:
                np.savez_compressed(partial, **arrays)
    folder.write_results(results)


def _machine() -> dict[str, Any]:
    """A description of the machine, for people who read the measurements."""
    return {"processor": processor_name(), "cores": os.cpu_count(), "system": platform.platform(terse=True)}
