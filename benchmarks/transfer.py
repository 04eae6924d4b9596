"""What weights that come with the package are worth for 40 images of classes that they have never seen.

\b
    python -m benchmarks.transfer                         # four handwritten digits, from weights=cifar10
    python -m benchmarks.transfer --seed 0 --class 0 --class 1 --weights runs/cifar10

For each seed, ten images of each class are drawn for training and fifty others for testing. They are written as PNG
files into a folder, on which recipe finetune trains twice: with weights and from nothing. Prints a Markdown table of
test top-1 and of the seconds that each took, and the paired difference with its interval.
"""

import time
from pathlib import Path

import click
import numpy as np

from benchmarks.ablation.contrasts import CONFIDENCE, interval

SEEDS = (0, 1, 2)
TRAINING_IMAGES, TEST_IMAGES = 10, 50
"""Images of a class."""


def write_photographs(folder: Path, classes: tuple[str, ...], seed: int) -> None:
    """Writes the images that the seed draws as ``train/<class>/*.png`` and ``test/<class>/*.png``."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / digits.images.max())).astype(np.uint8)
    rng = np.random.default_rng(seed)
    for name in classes:
        members = rng.permutation(np.flatnonzero(digits.target == int(name)))
        end = TRAINING_IMAGES + TEST_IMAGES
        for part, chosen in (("train", members[:TRAINING_IMAGES]), ("test", members[TRAINING_IMAGES:end])):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for index in chosen:
                Image.fromarray(pixels[index]).save(place / f"{index:04}.png")


def run(output: Path, photographs: Path, weights: str, seed: int, with_weights: bool) -> tuple[float, float]:
    """Test top-1 in percent after the last stage, and the seconds that training took."""
    import r2b_zoo
    from r2b_zoo.recipes.finetune import OF_WEIGHTS, FineTune

    start = FineTune.with_dependent_values({"weights": weights})
    # The network from nothing has the same shape, and takes images of the same size.
    of_shape = ("width", "stem", "preprocessing", "image_size", *OF_WEIGHTS)
    same = {key: start[key] for key in of_shape if key in start}
    own = {"weights": weights} if with_weights else same
    started = time.perf_counter()
    done = r2b_zoo.train("finetune", output=output, data_dir=str(photographs), seed=seed, augmentation="none", **own)
    return 100 * done.results["stages"][-1]["test_accuracy"], time.perf_counter() - started


@click.command(help=__doc__)
@click.option("--weights", default="cifar10", show_default=True, help="A name, a weights file or the folder of a run.")
@click.option("--class", "classes", multiple=True, default=("3", "5", "8", "9"), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=SEEDS, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/transfer"), show_default=True)
def main(weights: str, classes: tuple[str, ...], seeds: tuple[int, ...], output: Path) -> None:
    from r2b_zoo.system.machine import available_cores, processor_name

    lines = [f"| seed | from {weights} | seconds | from nothing | seconds | difference |", "|---|---|---|---|---|---|"]
    differences = []
    for seed in seeds:
        folder = output / f"seed-{seed}"
        write_photographs(folder / "photographs", classes, seed)
        first = run(folder / "pretrained", folder / "photographs", weights, seed, True)
        second = run(folder / "nothing", folder / "photographs", weights, seed, False)
        differences.append(first[0] - second[0])
        lines.append(
            f"| {seed} | {first[0]:.1f} | {first[1]:.0f} | {second[0]:.1f} | {second[1]:.0f} | {differences[-1]:+.1f} |"
        )
    click.echo("\n".join(lines))
    bounds = interval(differences)
    spread = "" if bounds is None else f", {CONFIDENCE:.0%} interval {bounds[0]:+.1f} to {bounds[1]:+.1f}"
    click.echo(
        f"\nTest top-1 in percent for classes {', '.join(classes)}, {TRAINING_IMAGES} training images of each; mean "
        f"difference {np.mean(differences):+.1f}{spread}. {processor_name()}, {available_cores()} cores."
    )


if __name__ == "__main__":
    main()
