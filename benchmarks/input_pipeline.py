"""Measures images per second of each input pipeline, and compares ImageNet's with Larq Zoo's on the same files.

\b
    python -m benchmarks.input_pipeline --data-dir TFDS            # TFDS holds imagenet2012 and cifar10, prepared
    python -m benchmarks.input_pipeline --data-dir TFDS --check    # exits 1 where a claim does not hold here

"Per core" means per second of processor time. It does not depend on the number of cores or on other load. Each ImageNet
pipeline runs in a separate process with the settings that it has in normal use (ours with TensorFlow's deterministic
algorithms); the processes take turns, and are stopped in between. The program prints medians, and medians of per-round
ratios.

Both pipelines read the same files; a temporary folder links to each file several times, so that all turns fit into one
epoch. Larq Zoo keeps the encoded photographs of an epoch in memory (147 GB for ImageNet) and reads no files in later
epochs; --later-epochs measures these.
"""

import json
import math
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np

import r2b_zoo  # noqa: F401 - before TensorFlow: selects Keras 2, which Larq Zoo needs too
from benchmarks.sides import Side

SPLITS = {"train": "training", "validation": "evaluation"}
BATCH = 32
TURN_BATCHES = 64
# The first batches fill buffers, and tf.data tunes its parallelism on them.
WARM_UP_BATCHES = 40
# With --later-epochs, an epoch has at least this many batches; all of them are read once before the turns.
LATER_EPOCH_BATCHES = 160
# A pipeline prefetches at most this many batches, including the photographs in Larq Zoo's shuffle buffer.
BEGUN_BATCHES = 40


def ours(
    name: str, folder: Optional[str], augmentation: str, split: str, batch: int, warm_up: int, connection: Connection
) -> None:
    """Runs our pipeline on the training split, with all epochs in one data set as in training, or on the test split."""
    import tensorflow as tf

    from r2b_zoo import data

    tf.config.experimental.enable_op_determinism()
    dataset = data.load(name, folder)
    if split == "train":
        later = tf.data.Dataset.range(1, sys.maxsize).flat_map(
            lambda epoch: dataset.training_batches(batch, augmentation, seed=0, epoch=epoch)
        )
        batches = dataset.training_batches(batch, augmentation, seed=0).concatenate(later)
    else:
        batches = dataset.test_batches(batch).repeat()
    _take_turns(batches, warm_up, connection)


def larq_zoos(folder: str, split: str, batch: int, warm_up: int, connection: Connection) -> None:
    from benchmarks import larq_zoo_peer

    _take_turns(larq_zoo_peer.imagenet(folder, split, batch), warm_up, connection)


def _take_turns(batches: Any, warm_up: int, connection: Connection) -> None:
    """Sends the shape of a batch, then answers each request with (images, seconds, seconds of processor time)."""
    iterator = iter(batches)
    for _ in range(warm_up):
        images, _ = next(iterator)
    connection.send(images.shape.as_list())
    while connection.recv():
        started, processor = time.perf_counter(), time.process_time()
        number = sum(int(labels.shape[0]) for _, labels in (next(iterator) for _ in range(TURN_BATCHES)))
        connection.send((number, time.perf_counter() - started, time.process_time() - processor))


def measure(sides: list[Side], rounds: int) -> dict[str, dict[str, float]]:
    """Each side's images per second, by the clock and per core, and the ratios of both to the first side's."""
    turns = np.array([[side.turn() for side in sides] for _ in range(rounds)])
    for side in sides:
        side.end()
    speeds, per_core = turns[..., 0] / turns[..., 1], turns[..., 0] / turns[..., 2]
    return {
        side.name: {
            "images_per_second": float(np.median(speeds[:, i])),
            "per_core": float(np.median(per_core[:, i])),
            "times_first": float(np.median(speeds[:, i] / speeds[:, 0])),
            "times_first_per_core": float(np.median(per_core[:, i] / per_core[:, 0])),
        }
        for i, side in enumerate(sides)
    }


def listed_often(data_dir: Path, folder: Path, batches: int) -> int:
    """Links ``data_dir``'s ImageNet files into a folder, repeatedly, until each split has at least ``batches`` batches.

    Returns:
        The number of photographs in the largest split, with repetitions.
    """
    (source,) = (data_dir / "imagenet2012").iterdir()
    target = folder / "imagenet2012" / source.name
    target.mkdir(parents=True)
    info = json.loads((source / "dataset_info.json").read_text(encoding="utf-8"))
    largest = 0
    for split in info["splits"]:
        paths = sorted(source.glob(f"imagenet2012-{split['name']}.tfrecord-*"))
        photographs = sum(int(length) for length in split["shardLengths"])
        times = math.ceil(batches * BATCH / photographs)
        largest = max(largest, times * photographs)
        split["shardLengths"] *= times
        for i, path in enumerate(paths * times):
            link = target / f"imagenet2012-{split['name']}.tfrecord-{i:05}-of-{len(paths) * times:05}"
            link.symlink_to(path.resolve())
    for path in source.iterdir():
        if path.suffix in (".txt", ".json"):
            (target / path.name).write_bytes(path.read_bytes())
    (target / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    return largest


def as_folder(data_dir: Path, folder: Path) -> None:
    """Writes the photographs of ImageNet's test split as JPEG files into two folders, as if they were two classes."""
    from r2b_zoo.data.imagenet import imagenet

    dataset = imagenet(data_dir)
    for i, encoded in enumerate(dataset._test_records().map(dataset._encoded)):
        path = folder / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded["jpeg"].numpy())


# Our pipeline is claimed to be at least this many times as fast as Larq Zoo's.
CLAIM = 1.3


@click.command(help=__doc__)
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--only-imagenet", is_flag=True, help="Skip the data sets on which Larq Zoo is not compared.")
@click.option("--later-epochs", is_flag=True, help="Measure with all encoded photographs in Larq Zoo's memory.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the numbers to this file.")
@click.option("--check", is_flag=True)
def main(
    data_dir: Path, rounds: int, only_imagenet: bool, later_epochs: bool, json_path: Optional[Path], check: bool
) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        often, photographs = Path(temporary) / "tfds", Path(temporary) / "photographs"
        warm_up = WARM_UP_BATCHES
        if later_epochs:
            warm_up += LATER_EPOCH_BATCHES
            epoch = listed_often(data_dir, often, LATER_EPOCH_BATCHES)
            if epoch > warm_up * BATCH:
                raise click.UsageError(
                    "--later-epochs reads a whole epoch before it measures: the files of a split, repeated until they "
                    f"fill {LATER_EPOCH_BATCHES} batches, may hold at most {warm_up * BATCH} photographs; received "
                    f"{epoch}. Use a smaller sample."
                )
        else:
            listed_often(data_dir, often, warm_up + rounds * TURN_BATCHES + BEGUN_BATCHES)
        for split, title in SPLITS.items():
            sides = [
                Side("larq-zoo", larq_zoos, str(often), split, BATCH, warm_up),
                Side("r2b_zoo", ours, "imagenet", str(often), "resized_crop_flip", split, BATCH, warm_up),
            ]
            if sides[0].said != sides[1].said:
                sys.exit(f"Not the same work: batches of {sides[1].said}, and {sides[0].said} with Larq Zoo.")
            results[f"imagenet, {title}"] = measure(sides, rounds)
        if not only_imagenet:
            as_folder(data_dir, photographs)
            others = (
                ("folder", str(photographs), "resized_crop_flip", 16),
                ("cifar10", str(data_dir), "crop_flip", 128),
                ("digits", None, "affine", 128),
            )
            for name, folder, augmentation, batch in others:
                for split, title in SPLITS.items():
                    side = Side("r2b_zoo", ours, name, folder, augmentation, split, batch, warm_up)
                    results[f"{name}, {title}"] = measure([side], rounds)
    click.echo("\n| pipeline | | images/s | images/s per core | × larq-zoo | per core |\n|---|---|---|---|---|---|")
    for pipeline, rows in results.items():
        for side_name, row in rows.items():
            ratios = [row["times_first"], row["times_first_per_core"]] if len(rows) > 1 else []
            cells = [f"{row['images_per_second']:,.0f}", f"{row['per_core']:,.0f}", *(f"{r:.2f}" for r in ratios)]
            click.echo(f"| {pipeline} | {side_name} | {' | '.join(cells + ['', ''][: 4 - len(cells)])} |")
    if json_path:
        json_path.write_text(json.dumps(results, indent=1))
    if check:
        sys.exit(_check(results))


def _check(results: dict[str, dict[str, dict[str, float]]]) -> int:
    holds = True
    for pipeline, rows in results.items():
        if "larq-zoo" in rows:
            found = rows["r2b_zoo"]["times_first"]
            holds &= found >= CLAIM
            click.echo(
                f"{'holds' if found >= CLAIM else 'DOES NOT HOLD':14}{pipeline}: r2b_zoo / larq-zoo {found:.2f}, "
                f"at least {CLAIM}"
            )
    return 0 if holds else 1


if __name__ == "__main__":
    main()
