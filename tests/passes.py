"""Reads the batches of a data set, and checks rules for order and augmentation that hold for every data set."""

import numpy as np
import tensorflow as tf


def one_pass(batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a tf.data data set of batches."""
    pairs = [(images.numpy(), labels.numpy()) for images, labels in batches]
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def check_epochs(dataset, augment: str, batch_size: int, skips=(1, 2)) -> None:
    """Checks that order and augmentation depend on seed, epoch and position, and on nothing else."""

    def epoch(number, **options):
        return dataset.training_batches(batch_size, augment, **{"seed": 5, "epoch": number, **options})

    first, second = one_pass(epoch(0)), one_pass(epoch(1))
    steps = dataset.train_size // batch_size
    assert len(first[0]) == len(second[0]) == steps * batch_size
    # Change the global seed in between, which must make no difference.
    tf.keras.utils.set_random_seed(999)
    same(one_pass(epoch(1)), second)
    # One tf.data pipeline over both epochs must give the same batches.
    together = one_pass(tf.data.Dataset.range(2).flat_map(epoch))
    same(together, tuple(np.concatenate(parts) for parts in zip(first, second, strict=True)))
    for skip in skips:
        assert skip < steps
        same(one_pass(epoch(1, skip=skip)), tuple(part[skip * batch_size :] for part in second))
    assert len(list(epoch(1, skip=steps))) == 0
    other_seed = one_pass(epoch(0, seed=6))
    for other in (second, other_seed):
        assert (other[1] != first[1]).mean() > 0.3
        assert differ(other[0], first[0]) > 0.95


def check_changes(dataset, augment: str) -> None:
    """Checks that another epoch has another order, and changes the same images differently."""
    plain, changed = (
        [one_pass(dataset.training_batches(dataset.train_size, name, seed=5, epoch=epoch)) for epoch in (0, 1)]
        for name in ("none", augment)
    )
    # Find the position of each image by its unchanged pixels.
    places = [{image.tobytes(): i for i, image in enumerate(images)} for images, _ in plain]
    assert places[0].keys() == places[1].keys()
    assert [places[0][key] for key in places[0]] != [places[1][key] for key in places[0]]
    images = [changed[epoch][0][[places[epoch][key] for key in places[0]]] for epoch in (0, 1)]
    assert differ(*images) > 0.9


def differ(images: np.ndarray, others: np.ndarray) -> float:
    """The share of images, 0 to 1, in which some value differs by more than 0.001."""
    return float((np.abs(images - others).max(axis=(1, 2, 3)) > 1e-3).mean())


def same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
