"""A whole run: train the stages, convert, verify, time, and write down what came out."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from r2b_zoo import costs, evaluation, files, training
from r2b_zoo.conversion import Conversion, convert
from r2b_zoo.distillation import attention_map
from r2b_zoo.models import BLOCK_NAMES, intermediates
from r2b_zoo.recipes import Plan
from r2b_zoo.run_folder import RunFolder
from r2b_zoo.tflite_engine import TFLiteEngine
from r2b_zoo.verification import verify

ATTENTION_IMAGES = 6

Announce = Callable[[str], None]
"""Takes a line that says what happens now."""


def run(
    plan: Plan,
    folder: RunFolder,
    callbacks: training.CallbackFactory = lambda stage: (),
    announce: Announce = lambda line: None,
) -> dict[str, Any]:
    """Trains what is not trained yet, then converts, verifies and times it.

    Args:
        plan: what to train.
        folder: where everything goes; ``run_folder`` says what is where.
        callbacks: Keras callbacks of each stage.
        announce: told what happens now.

    Returns:
        What ``results.json`` holds: plain data.

    Raises:
        RunFolderError: the folder is another run's, or cannot be written.
        TrainingDiverged: a loss became NaN.
        ConversionError: a quantised layer did not become binary.
        ValueError: the plan and the data do not fit.
    """
    started = time.perf_counter()
    networks = training.train(plan, folder, callbacks, announce)
    dataset = networks.dataset
    _, sample, _ = dataset.test_sample(1)

    rows = []
    for stage in plan.stages:
        announce(f"Converting {stage.name}")
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
                "milliseconds": evaluation.milliseconds_per_image(conversion.tflite, sample[0]),
            }
        )

    announce(f"Verifying the file on {dataset.test_size} test images")
    batches = dataset.test_batches(evaluation.PREDICTION_BATCH)
    verification = verify(model, conversion.tflite, (images.numpy() for images, _ in batches))
    file = TFLiteEngine(conversion.tflite)
    file_evaluation = evaluation.evaluate_batches(file.predict, batches)
    results = {
        "recipe": plan.recipe,
        "dataset": {
            "name": dataset.name,
            "description": dataset.description,
            "training_images": dataset.train_size,
            "test_images": dataset.test_size,
            "class_names": list(dataset.class_names),
        },
        "switched_off": list(plan.switched_off),
        "smoke": bool(plan.config["smoke"]),
        "stages": rows,
        "layers": [asdict(row) for row in conversion.layers],
        "verification": {**asdict(verification), "agreement": verification.agreement, "passed": verification.passed},
        "tflite": {
            "accuracy": file_evaluation.top1,
            "bytes": conversion.total_bytes,
            "engine": file.name,
            "confusion": file_evaluation.confusion.tolist(),
        },
        "cost": costs.cost(model).by_kind(),
        "machine": _machine(),
        "seconds": time.perf_counter() - started,
    }
    _write(folder, conversion, _attention(networks), results)
    return results


def _attention(networks: training.Networks) -> dict[str, np.ndarray]:
    """Attention maps of the first and the last stage's network on one image of each of the first classes.

    Keys: ``images`` uint8 (n, H, W, C), ``labels`` (n,), and ``<stage>/<block>`` float32 (n, h, w).
    """
    import tensorflow as tf

    dataset, stages = networks.dataset, networks.plan.stages
    images, inputs, labels = dataset.test_sample(ATTENTION_IMAGES, one_per_class=True)
    arrays = {"images": images, "labels": labels}
    for stage in (stages[0], stages[-1]):
        model = networks[stage.name]
        blocks = tf.keras.Model(model.inputs, {name: intermediates(model)[name] for name in BLOCK_NAMES})
        for name, activations in blocks(inputs, training=False).items():
            shape = activations.shape[:3]
            arrays[f"{stage.name}/{name}"] = tf.reshape(attention_map(activations), shape).numpy()
    return arrays


def _write(
    folder: RunFolder, conversion: Conversion, attention: dict[str, np.ndarray], results: dict[str, Any]
) -> None:
    with folder.writing():
        files.write_bytes(folder.tflite_path, conversion.tflite)
        with files.replacing(folder.attention_path) as partial:
            np.savez_compressed(partial, **attention)
    folder.write_results(results)


def _machine() -> dict[str, Any]:
    """The kind of machine, for the reader of a figure."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"processor": model, "cores": os.cpu_count(), "system": platform.platform(terse=True)}
