"""Measures what pretrained weights gain on 40 images of four classes that are new to them.

\b
    python -m benchmarks.transfer cifar10 --data-dir TFDS   # from a network that was trained on CIFAR-10's other six
    python -m benchmarks.transfer digits                    # from weights=cifar10, on handwritten digits
    python -m benchmarks.transfer digits --seed 0 --weights runs/cifar10

For each seed, ten images of each class are drawn for training and others for testing. They are written as PNG files
into a folder, on which recipe finetune trains twice: from the weights, and from scratch. Prints a Markdown table of
test top-1 and of the seconds that each took, and the paired differences with their interval. CIFAR-10's images are
drawn from its test split. The network of the other six is trained once, on its training split, and kept in --output.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np

from benchmarks.ablation.contrasts import CONFIDENCE, interval

SEEDS = (0, 1, 2)
TRAINING_IMAGES, TEST_IMAGES = 10, 150
"""Numbers of images of each class."""
PRETRAINING = {
    "width": 32,
    "augmentation": "resized_crop_flip",
    "teacher.epochs": 3,
    "real.epochs": 1,
    "binary_activations.epochs": 2,
    "binary_activations.learning_rate": 3e-3,
    "binary.epochs": 2,
}
"""Overrides of recipe cifar10.

The width is that of weights=cifar10. The augmentation is one that data set folder supports. The runs of this command in
results/cifar10_weights.md had these epochs and this learning rate.
"""


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Attributes:
        pixels: uint8 (N, height, width) for grey images, (N, height, width, 3) for RGB.
        labels: the index of each image's class in ``names``, (N,).
        names: the names of all classes.
    """

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def write(self, folder: Path, name: str, chosen: Iterable[int]) -> None:
        """Writes the images with the indices ``chosen``, all of class ``name``, as ``<folder>/<name>/*.png``."""
        from PIL import Image

        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in chosen:
            Image.fromarray(self.pixels[index]).save(folder / name / f"{index:05}.png")

    def members(self, name: str) -> np.ndarray:
        return np.flatnonzero(self.labels == self.names.index(name))


def digits(data_dir: Optional[Path]) -> Images:
    from sklearn.datasets import load_digits

    data = load_digits()
    return Images(np.round(data.images * (255 / data.images.max())).astype(np.uint8), data.target, tuple("0123456789"))


def cifar10(data_dir: Optional[Path], split: str = "test") -> Images:
    from r2b_zoo.data import cifar

    data = cifar.cifar10(data_dir)
    part = data.test if split == "test" else data.train
    return Images(part.images, part.labels, data.class_names)


@dataclass(frozen=True)
class Task:
    read: Callable[[Optional[Path]], Images]
    classes: tuple[str, ...]
    """The new classes, unless --class names others."""


TASKS = {
    "digits": Task(digits, ("3", "5", "8", "9")),
    "cifar10": Task(cifar10, ("frog", "horse", "ship", "truck")),  # CIFAR-10's last four
}


def pretrained_on_others(output: Path, data_dir: Optional[Path], classes: tuple[str, ...]) -> str:
    """The folder of a run of recipe cifar10 on CIFAR-10 without ``classes``. Resumes an unfinished run."""
    import r2b_zoo
    from r2b_zoo.data import cifar

    photographs = output / "others"
    if not photographs.is_dir():
        for split in ("train", "test"):
            images = cifar10(data_dir, split)
            for name in images.names:
                if name not in classes:
                    images.write(photographs / split, name, images.members(name))
    preprocessing = cifar.cifar10(data_dir).preprocessing.to_dict()
    own = {"dataset": "folder", "preprocessing": preprocessing, **PRETRAINING}
    r2b_zoo.train("cifar10", output=output / "pretrained", data_dir=str(photographs), **own)
    return str(output / "pretrained")


def write_photographs(folder: Path, images: Images, classes: tuple[str, ...], seed: int) -> None:
    """Draws images of each class with the seed; writes them as ``train/<class>/*.png`` and ``test/<class>/*.png``."""
    rng = np.random.default_rng(seed)
    for name in classes:
        members = rng.permutation(images.members(name))
        images.write(folder / "train", name, members[:TRAINING_IMAGES])
        images.write(folder / "test", name, members[TRAINING_IMAGES : TRAINING_IMAGES + TEST_IMAGES])


def run(output: Path, photographs: Path, weights: str, seed: int, with_weights: bool) -> tuple[list[float], float]:
    """Test top-1 in percent after each stage, and the run's seconds, including conversion and verification."""
    import r2b_zoo
    from r2b_zoo.recipes.finetune import OF_WEIGHTS, FineTune

    start = FineTune.with_dependent_values({"weights": weights})
    # The network without weights gets the same width and options, and takes images of the same size.
    of_shape = ("width", "stem", "preprocessing", "image_size", *OF_WEIGHTS)
    same = {key: start[key] for key in of_shape if key in start}
    own: dict[str, Any] = {"weights": weights} if with_weights else same
    started = time.perf_counter()
    done = r2b_zoo.train("finetune", output=output, data_dir=str(photographs), seed=seed, augmentation="none", **own)
    return [100 * stage["test_accuracy"] for stage in done.results["stages"]], time.perf_counter() - started


def _by_stage(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


@click.command(help=__doc__)
@click.argument("task", type=click.Choice(sorted(TASKS)))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of TensorFlow Datasets, for cifar10.")
@click.option("--weights", help="A name, a weights file or the folder of a run; for the default, see above.")
@click.option("--class", "classes", multiple=True, help="A new class; repeatable.")
@click.option("--seed", "seeds", type=int, multiple=True, default=SEEDS, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/transfer"), show_default=True)
def main(
    task: str,
    data_dir: Optional[Path],
    weights: Optional[str],
    classes: tuple[str, ...],
    seeds: tuple[int, ...],
    output: Path,
) -> None:
    from r2b_zoo.system.machine import available_cores, processor_name

    classes = classes or TASKS[task].classes
    images = TASKS[task].read(data_dir)
    unknown = [name for name in classes if name not in images.names]
    if unknown:
        raise click.UsageError(f"{task} has the classes {', '.join(images.names)}; received {', '.join(unknown)}.")
    output /= task
    if weights is None:
        weights = pretrained_on_others(output, data_dir, classes) if task == "cifar10" else "cifar10"
    lines = ["| seed | with weights, by stage | seconds | from scratch, by stage | seconds | difference |"]
    lines.append("|---|---|---|---|---|---|")
    differences = []
    for seed in seeds:
        folder = output / f"seed-{seed}"
        write_photographs(folder / "photographs", images, classes, seed)
        first, took = run(folder / "pretrained", folder / "photographs", weights, seed, True)
        second, also = run(folder / "nothing", folder / "photographs", weights, seed, False)
        differences.append(first[-1] - second[-1])
        lines.append(
            f"| {seed} | {_by_stage(first)} | {took:.0f} | {_by_stage(second)} | {also:.0f} | {differences[-1]:+.1f} |"
        )
    click.echo("\n".join(lines))
    bounds = interval(differences)
    spread = "" if bounds is None else f", {CONFIDENCE:.0%} interval {bounds[0]:+.1f} to {bounds[1]:+.1f}"
    click.echo(
        f"\nTest top-1 in percent after each stage, for classes {', '.join(classes)}: {TRAINING_IMAGES} training and "
        f"{TEST_IMAGES} test images of each. Mean difference after the last stage {np.mean(differences):+.1f}{spread}. "
        f"{processor_name()}, {available_cores()} cores."
    )


if __name__ == "__main__":
    main()
