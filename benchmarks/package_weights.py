"""Turns a finished run into weights that come with the package.

\b
    python -m benchmarks.package_weights runs/cifar10 --name cifar10 --commit $(git rev-parse HEAD)

Packs the network of the run's last stage (r2b_zoo/weights/packed.py), evaluates the network before and after packing on
all test images, and writes the file with its card into r2b_zoo/weights/data. --commit names the commit of the code that
trained the run, which a run does not record. If the run's data has moved, --data-dir says where it is.

Nothing is written if the network's accuracy is not the one that the run recorded, if packing costs more than
--tolerance, or if the file would be larger than 1 MB.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click
import numpy as np

from r2b_zoo.weights.named import BUNDLED, FOLDER

if TYPE_CHECKING:
    from r2b_zoo.data.dataset import Dataset
    from r2b_zoo.evaluation.classifier import Classifier
    from r2b_zoo.runs.plans import Plan

MOST_BYTES = 1_000_000
LICENCE = "Apache-2.0"
# Top-1 may differ by this many points from the run's record: on another machine, sums in another order flip some signs.
SAME_ACCURACY = 0.1
SOURCES = {
    "cifar10": "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    "cifar100": "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
}


def package(
    run: Path,
    name: str,
    *,
    commit: Optional[str] = None,
    notes: tuple[str, ...] = (),
    data_dir: Optional[Path] = None,
    tolerance: float = 0.5,
    folder: Optional[Path] = None,
) -> Path:
    """Writes the packed weights of a finished run; returns the path of the file.

    Args:
        run: the run's folder.
        name: name of the weights, one of ``BUNDLED``.
        commit: the commit of the code that trained the run, 40 hexadecimal digits.
        notes: sentences for the card.
        data_dir: folder of the run's data, if the data has moved.
        tolerance: points of top-1 that packing may cost.
        folder: where to write the file; None: into the package.

    Raises:
        ValueError: the weights do not meet the conditions in the module's docstring, or the name or commit is invalid.
        RunFolderError: the folder holds no finished run, or a run that it takes a stage from is gone.
    """
    if name not in BUNDLED:
        raise ValueError(
            f"Weights that come with the package are called {', '.join(BUNDLED)}; received {name!r}. Add a new name to "
            "BUNDLED in r2b_zoo/weights/named.py first."
        )
    if commit is not None and not re.fullmatch("[0-9a-f]{40}", commit):
        raise ValueError(f"--commit must be the 40 hexadecimal digits that git rev-parse prints; received {commit!r}.")
    from r2b_zoo import weights
    from r2b_zoo.evaluation import classifier
    from r2b_zoo.runs.folder import RunFolder
    from r2b_zoo.system import files
    from r2b_zoo.weights import packed

    run_folder = RunFolder(run)
    results, plan = run_folder.results(), run_folder.plan()
    trained = classifier.load(run)
    assert trained.model is not None, "a run has a model"
    assert trained.preprocessing is not None, "a run has a preprocessing"
    record = weights.record_of(trained.model)
    dataset = classifier.dataset_for(trained, data_dir=data_dir)
    card = {
        "class_names": trained.labels,
        "preprocessing": trained.preprocessing.to_dict(),
        "data": _data(dataset, run_folder),
        "source": SOURCES.get(dataset.name, ""),
        "training_images": results["dataset"]["training_images"],
        "test_images": results["dataset"]["test_images"],
        "recipe": _command(plan),
        "commit": commit,
        "versions": run_folder.config()["versions"],
        "licence": LICENCE,
        "notes": notes,
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / BUNDLED[name]
        path.write_bytes(packed.content(trained.model.layers, record, card))
        packaged = classifier.load(path)
    before, labels = _logits(trained, dataset)
    after, _ = _logits(packaged, dataset)
    card |= _accuracies(before, after, labels)
    recorded = 100 * results["stages"][-1]["test_accuracy"]
    if abs(card["trained_top1"] - recorded) > SAME_ACCURACY:
        raise ValueError(
            f"{run} records a top-1 of {recorded:.2f} %, and its network has {card['trained_top1']:.2f} % on the "
            f"{len(labels):,} test images here: pass the folder of the run's data, in the same version, with "
            "--data-dir."
        )
    if card["trained_top1"] - card["top1"] > tolerance:
        raise ValueError(
            f"Packed, the network has a top-1 of {card['top1']:.2f} % instead of {card['trained_top1']:.2f} %, and "
            f"packing may cost {tolerance} points: train it for longer, or pass a larger --tolerance."
        )
    data = packed.content(trained.model.layers, record, card)
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"Weights that come with the package may have at most {MOST_BYTES:,} bytes, and these have {len(data):,}: "
            "train a narrower network."
        )
    target = (folder or Path(__file__).parents[1] / "r2b_zoo" / FOLDER) / BUNDLED[name]
    target.parent.mkdir(exist_ok=True)
    files.write_bytes(target, data)
    return target


def _logits(classifier: "Classifier", dataset: "Dataset") -> tuple[np.ndarray, np.ndarray]:
    """Logits of all test images, (N, classes), and their labels, (N,)."""
    import tensorflow as tf

    from r2b_zoo.evaluation.accuracy import predict_keras, prediction_batch

    assert classifier.model is not None, "a network"
    model = tf.keras.Model(classifier.model.input, classifier.model.get_layer("logits").output)
    found, labels = [], []
    for images, truth in dataset.test_batches(prediction_batch(dataset.input_shape)):
        found.append(predict_keras(model, images.numpy()))
        labels.append(truth.numpy())
    return np.concatenate(found), np.concatenate(labels)


def _accuracies(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    from r2b_zoo.evaluation.accuracy import evaluate

    trained, packed = evaluate(before, labels), evaluate(after, labels)
    return {
        "top1": 100 * packed.top1,
        "top5": 100 * packed.top5,
        "trained_top1": 100 * trained.top1,
        "changed_classes": int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
        "largest_logit_difference": float(np.abs(before - after).max()),
        "logit_deviation": float(before.std()),
    }


def _data(dataset: "Dataset", run_folder: Any) -> str:
    """Description of the data, with the version in TensorFlow Datasets if the run records one."""
    known = json.loads(run_folder.data_path.read_text(encoding="utf-8")) if run_folder.data_path.is_file() else {}
    version = f" (TensorFlow Datasets {known['name']} {known['version']})" if known.get("version") else ""
    return f"{dataset.description}{version}"


def _command(plan: "Plan") -> str:
    """The command that repeats the run, with the fields that differ from the recipe's defaults."""
    from r2b_zoo import recipes
    from r2b_zoo.runs.folder import MAY_CHANGE

    # These fields do not affect what is trained: where files are, and how a run is distributed or checkpointed.
    elsewhere = ("data_dir", *MAY_CHANGE)
    usual = recipes.plan(plan.recipe).config
    fields = [
        f"{key}={value}"
        for key, value in _trained_with(plan).items()
        if value != usual.get(key) and key not in elsewhere and not key.endswith(".from_run")
    ]
    return " ".join(["r2b train", f"recipe={plan.recipe}", *fields])


def _trained_with(plan: "Plan") -> dict[str, Any]:
    """The plan's configuration; a stage that is taken from another run has that run's fields."""
    from r2b_zoo.runs.folder import RunFolder

    config = dict(plan.config)
    for stage in plan.stages:
        if stage.from_run is not None:
            others = _trained_with(RunFolder(stage.from_run).plan())
            config |= {key: value for key, value in others.items() if key.startswith(f"{stage.name}.")}
    return config


@click.command(help=__doc__)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", required=True, help=f"Name of the weights: {', '.join(BUNDLED)}.")
@click.option("--commit", help="Commit of the code that trained the run.")
@click.option("--note", "notes", multiple=True, help="A sentence for the card; may be repeated.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the run's data is now.")
@click.option("--tolerance", type=float, default=0.5, show_default=True, help="Points of top-1 packing may cost.")
def main(run: Path, **options: Any) -> None:
    from r2b_zoo.report.tables import console, weights_card_table
    from r2b_zoo.weights import bundled

    name = options.pop("name")
    path = package(run, name, **options)
    console().print(weights_card_table(bundled.card(name)))
    click.echo(f"Written to {path}")


if __name__ == "__main__":
    main()
