"""Compares the binary stage's images per second with those of Larq Zoo's own teacher-student model in ``fit``.

\b
    python -m benchmarks.training             # 224×224 in batches of 16, and 32×32 in batches of 128
    python -m benchmarks.training --check     # exits 1 where a claim of results/training.md does not hold here
    python -m benchmarks.training --profile   # where the time of our step goes, by operator

Both sides do the same work: width 64, a frozen teacher with real weights and binary activations, the binary student,
cross-entropy plus 0.8 times the divergence from the teacher's probabilities, Adam, 1,000 classes, and the same batch
repeatedly, so that no input pipeline is measured (benchmarks/input_pipeline.py does that). Before anything is timed,
both start from the same weights and must have the same losses on the first batch.

Each side runs in a separate process with its users' settings. Ours uses the loop of ``r2b train``, TensorFlow's
deterministic algorithms, because ``r2b train`` asks for them, and r2b-runtime if it is installed; Larq Zoo's uses
``fit``, without deterministic algorithms. The processes take turns, a few steps each, so that other load on the machine
affects both alike. The program prints medians, and medians of per-round ratios.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Optional

import click
import numpy as np

import r2b_zoo  # noqa: F401 - before TensorFlow: selects Keras 2, which Larq Zoo needs too
from benchmarks.sides import Side

CLASSES = 1000
LEARNING_RATE = 2e-4
OUTPUT_MATCHING_WEIGHT = 0.8
# In these first steps, TensorFlow traces the step, chooses kernels and fills caches.
WARM_UP_STEPS = 3
# Relative tolerance of the first batch's losses: a sum in another order can flip a sign in a later layer.
LOSS_TOLERANCE = 0.01
LOGITS_SCALE = 0.01
PROFILED_STEPS = 3
PROFILE_ROWS = 16


class Setting(NamedTuple):
    """The height and width of the images, the number of images per step, and the number of steps in a turn."""

    size: int
    batch: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.size}×{self.size}, batch {self.batch}"


SETTINGS = (Setting(224, 16, 3), Setting(32, 128, 10))


class Finished(Exception):  # noqa: N818 - ends the training of a worker
    """Ends the training of a side; raised when the parent asks for no more turns."""


Losses = Callable[[dict[str, Any]], tuple[float, float]]
"""Gives (classification loss, weighted output matching loss) for the logs of the first step."""


def turns(setting: Setting, connection: Connection, losses: Losses) -> Any:
    """The callback of either side, which sends the losses of the first batch and then takes turns when asked.

    Args:
        setting: gives the number of steps in a turn.
        connection: to the parent; receives True for a turn and False to end, answers with the seconds of each step.
        losses: extracts the side's two losses from the logs of its first step.
    """
    import tensorflow as tf

    class Turns(tf.keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []
            self.left = 0
            self.started = 0.0

        def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
            now = time.perf_counter()
            if batch == 0:
                connection.send(losses(logs or {}))
            if batch + 1 < WARM_UP_STEPS:
                return
            if batch + 1 > WARM_UP_STEPS:
                self.seconds.append(now - self.started)
                self.left -= 1
            if self.left == 0:
                if self.seconds:
                    connection.send(self.seconds)
                self.seconds, self.left = [], setting.steps
                if not connection.recv():
                    raise Finished
            # Measure until the end of the next step, so that the time between two steps counts.
            self.started = time.perf_counter()

    return Turns()


def our_side(setting: Setting, weights: str, mixed_precision: str, connection: Connection) -> None:
    """Runs the loop of ``r2b train`` with its optimizer and callbacks."""
    import tensorflow as tf

    from r2b_zoo.training.loop import StageLoop, StopOnNaN, Tests
    from r2b_zoo.training.throughput import Throughput

    def losses(logs: dict[str, Any]) -> tuple[float, float]:
        return float(logs["classification"]), OUTPUT_MATCHING_WEIGHT * float(logs["output_matching"])

    loop = StageLoop(
        "binary",
        our_model(setting, Path(weights), mixed_precision),
        lambda epoch, skip: batches(setting),
        Tests(batches(setting).take(0), 0),
        steps_per_epoch=sys.maxsize,
        epochs=1,
        save=lambda progress, arrays: None,
        checkpoint_minutes=float("inf"),
    )
    with tempfile.TemporaryDirectory() as logs, contextlib.suppress(Finished):
        loop.run(
            [
                StopOnNaN("binary"),
                Throughput(setting.batch, loop.progress),
                tf.keras.callbacks.TensorBoard(logs, write_graph=False),
                turns(setting, connection, losses),
            ]
        )


def our_model(setting: Setting, weights: Optional[Path], mixed_precision: str) -> Any:
    """The compiled model of our binary stage, with weights from the folder ``weights``; None: random weights."""
    import tensorflow as tf

    from r2b_zoo import models
    from r2b_zoo import weights as weights_module
    from r2b_zoo.models.topology import global_policy
    from r2b_zoo.ops.mixed_precision import policy_name
    from r2b_zoo.training.distillation import LossWeights
    from r2b_zoo.training.optimizer import Adam
    from r2b_zoo.training.teacher_student import TeacherStudent

    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(0)
    networks = []
    for precision in ("binary_activations", "binary"):
        with global_policy(policy_name(mixed_precision)):
            network = models.create(
                "RealToBinaryNet",
                input_shape=(setting.size, setting.size, 3),
                num_classes=CLASSES,
                precision=precision,
            )
        if weights is not None:
            weights_module.load(network, weights / f"{precision}.h5")
        networks.append(network)
    teacher, student = networks
    model = TeacherStudent(student, LossWeights(output_matching=OUTPUT_MATCHING_WEIGHT), teacher)
    optimizer = Adam(LEARNING_RATE)
    optimizer.build(student.trainable_variables)
    model.compile(optimizer=optimizer)
    return model


def their_side(setting: Setting, weights: str, mixed_precision: str, connection: Connection) -> None:
    """Runs Larq Zoo's model in ``fit`` with its callbacks; writes the weights from which our side starts."""
    import tensorflow as tf

    from benchmarks import larq_zoo_peer

    tf.keras.utils.set_random_seed(0)
    model, networks = larq_zoo_peer.teacher_student((setting.size, setting.size, 3), CLASSES)
    for network in networks.values():
        # Scale the random logits down: they differ by hundreds between classes, so Keras would clip the divergence.
        logits = next(layer for layer in network.layers if layer.name.endswith("logits"))
        logits.kernel.assign(LOGITS_SCALE * logits.kernel)
    for precision, network in networks.items():
        network.save_weights(str(Path(weights) / f"{precision}.h5"))
    # Larq Zoo's loss includes the penalty on the weights of the frozen teacher, which does not change.
    penalty = float(tf.add_n(networks["binary_activations"].losses))

    def losses(logs: dict[str, Any]) -> tuple[float, float]:
        matching = float(logs["output_matching_loss"])
        return float(logs["loss"]) - penalty - matching, matching

    with tempfile.TemporaryDirectory() as logs, contextlib.suppress(Finished):
        model.fit(
            batches(setting),
            steps_per_epoch=1_000_000,
            verbose=2,
            callbacks=[
                tf.keras.callbacks.TensorBoard(logs, write_graph=False, profile_batch=0),
                turns(setting, connection, losses),
            ],
        )


def batches(setting: Setting) -> Any:
    """The same batch of random images and labels, repeated for ever."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.normal(size=(setting.batch, setting.size, setting.size, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, setting.batch).astype("int32")
    return tf.data.Dataset.from_tensors((images, labels)).repeat().prefetch(tf.data.AUTOTUNE)


def measure(setting: Setting, rounds: int, bfloat16: bool) -> dict[str, Any]:
    """Measures each side.

    Returns:
        For each side by its name: images per second from the median step, the seconds of a step in each round, and the
        median of per-round ratios of its speed to Larq Zoo's.
    """
    with tempfile.TemporaryDirectory() as weights:
        # Start the sides one after the other: the first writes the weights that the others start from.
        sides = [Side("larq-zoo", their_side, setting, weights, "float32")]
        sides.append(Side(FLOAT32, our_side, setting, weights, "float32"))
        theirs, ours = (side.said for side in sides)
        if not np.allclose(ours, theirs, rtol=LOSS_TOLERANCE):
            sys.exit(f"Not the same work: the losses of the first batch are {ours}, and {theirs} with Larq Zoo.")
        if bfloat16:
            sides.append(Side(BFLOAT16, our_side, setting, weights, "bfloat16"))
        seconds = np.array([[np.median(side.turn()) for side in sides] for _ in range(rounds)])
        for side in sides:
            side.end()
    return {
        side.name: {
            "images_per_second": float(setting.batch / np.median(seconds[:, i])),
            "seconds_per_step": seconds[:, i].tolist(),
            "times_larq_zoo": float(np.median(seconds[:, 0] / seconds[:, i])),
        }
        for i, side in enumerate(sides)
    }


def profile(setting: Setting, mixed_precision: str) -> None:
    """Prints the milliseconds of our step by operator, summed over threads."""
    import tensorflow as tf

    model = our_model(setting, None, mixed_precision)
    step, iterator = model.make_train_function(), iter(batches(setting))
    for _ in range(WARM_UP_STEPS):
        step(iterator)
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        with tf.profiler.experimental.Profile(folder, options):
            started = time.perf_counter()
            for _ in range(PROFILED_STEPS):
                step(iterator)["loss"].numpy()
            wall = time.perf_counter() - started
        totals = _milliseconds_by_operator(next(Path(folder).rglob("*.xplane.pb")))
    milliseconds = 1e3 * wall / PROFILED_STEPS
    click.echo(f"\n{setting.name}, {mixed_precision}: {milliseconds:.0f} ms a step\n\n| operator | ms |\n|---|---|")
    rows = sorted(totals.items(), key=lambda row: -row[1])
    for name, milliseconds in rows[:PROFILE_ROWS]:
        click.echo(f"| `{name}` | {milliseconds / PROFILED_STEPS:.0f} |")
    if others := rows[PROFILE_ROWS:]:
        click.echo(f"| {len(others)} others | {sum(ms for _, ms in others) / PROFILED_STEPS:.0f} |")


def _milliseconds_by_operator(path: Path) -> dict[str, float]:
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    totals: dict[str, float] = {}
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                # Operators are called scope/name:Type; other events come from the executor and the profiler.
                name, separator, operator = names[event.metadata_id].split("#")[0].rpartition(":")
                if separator and not name.endswith(":"):
                    totals[operator] = totals.get(operator, 0.0) + event.duration_ps / 1e9
    return totals


# Our images per second are claimed to be at least this many times Larq Zoo's.
CLAIM = 1.2
FLOAT32, BFLOAT16 = "r2b_zoo", "r2b_zoo, bfloat16"


@click.command(help=__doc__)
@click.option("--size", "sizes", type=int, multiple=True, help="Only images of this size.")
@click.option("--rounds", default=8, show_default=True)
@click.option("--bfloat16", is_flag=True, help="Also measure our side in bfloat16; with --profile, only in bfloat16.")
@click.option("--profile", "profiled", is_flag=True, help="Only show where the time of our step goes.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the numbers to this file.")
@click.option("--check", is_flag=True)
def main(
    sizes: tuple[int, ...], rounds: int, bfloat16: bool, profiled: bool, json_path: Optional[Path], check: bool
) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = [setting for setting in SETTINGS if not sizes or setting.size in sizes]
    if profiled:
        for setting in settings:
            profile(setting, "bfloat16" if bfloat16 else "float32")
        return
    from r2b_zoo.ops import bit_counting

    if reason := bit_counting.why_not_counting():
        click.echo(reason, err=True)
    results: dict[str, Any] = {}
    click.echo("| binary stage | trained by | images/s | × larq-zoo |\n|---|---|---|---|")
    for setting in settings:
        sides = results[setting.name] = measure(setting, rounds, bfloat16)
        for side, row in sides.items():
            click.echo(f"| {setting.name} | {side} | {row['images_per_second']:.1f} | {row['times_larq_zoo']:.2f} |")
    if json_path:
        json_path.write_text(json.dumps(results, indent=1))
    if check:
        sys.exit(_check(results))


def _check(results: dict[str, Any]) -> int:
    """Checks every claim; returns the exit status. Where bfloat16 is not slow, it must be no slower than float32."""
    from r2b_zoo.ops.mixed_precision import why_half_precision_is_slow

    holds = True
    for setting, sides in results.items():
        claims = {FLOAT32: CLAIM}
        if BFLOAT16 in sides and why_half_precision_is_slow("bfloat16") is None:
            claims[BFLOAT16] = max(CLAIM, sides[FLOAT32]["times_larq_zoo"])
        for side, limit in claims.items():
            found = sides[side]["times_larq_zoo"]
            holds &= found >= limit
            verdict = "holds" if found >= limit else "DOES NOT HOLD"
            click.echo(f"{verdict:14}{setting}: {side} / larq-zoo {found:.2f}, at least {limit:.2f}")
    return 0 if holds else 1


if __name__ == "__main__":
    main()
