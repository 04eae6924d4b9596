"""Compares whole networks in r2b-runtime and in LCE's interpreter on real photographs.

    python benchmarks/agreement.py --data-dir ../shared/tfds

The binary networks have random statistics, and their last layer is scaled so that the logits have a standard deviation
of 1. The correlation of both sides' logits must be at least 0.9995 for every photograph, and the predicted class must
be the same for at least 99 % of the photographs. Binary convolutions give exactly the same numbers as LCE's. Float
operators do, too, because the kernels sum in the order of LCE's interpreter on x86 (kernels.h). With an interpreter
that sums in another order, the last bits of float values differ, and so do the signs that these bits decide.

The engine and the delegate in an interpreter must give the same bits, with each of this machine's kernels and with one
and two threads. The probabilities of two trained networks must meet the same limits on images of their own test splits:
"digits", which its recipe trains here first, and "cifar10", the weights that come with the package.

ResNet18 in float is compared with the interpreter's own float operators, which are XNNPACK's: every probability must be
within 1e-6.

--explain shows how much the order of sums in float operators changes the outputs. For each network except ResNet18, a
second line compares the engine with the delegate when the interpreter runs all float operators (claim="binary").
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

import r2b_zoo  # before TensorFlow: selects Keras 2

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import networks  # noqa: E402

CORRELATION, SAME_CLASS = 0.9995, 0.99
REAL_DIFFERENCE = 1e-6
REAL = "ResNet18"


def photographs(data_dir, count):
    import tensorflow_datasets as tfds

    data = tfds.load("imagenet2012", split="train", data_dir=data_dir, download=False, shuffle_files=False)
    return np.stack([r2b_zoo.preprocess_input(example["image"].numpy()) for example in data.take(count)])


def logits_network(name, photos, **architecture):
    """The network without softmax, with random statistics and logits of standard deviation 1 on the photographs."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)  # for the weights that randomise does not draw
    model = networks.randomise(getattr(r2b_zoo, name)(weights=None, **architecture))
    dense = next(layer for layer in reversed(model.layers) if isinstance(layer, tf.keras.layers.Dense))
    dense.set_weights([dense.get_weights()[0]] + [np.zeros_like(w) for w in dense.get_weights()[1:]])
    model = tf.keras.Model(model.inputs, dense.output)
    deviation = model.predict(photos[:8], verbose=0).std()
    dense.set_weights([w / deviation for w in dense.get_weights()])
    return model


def subject(name, photos, data_dir):
    """Returns a network's file and its images: the photographs, or as many images of its own test split."""
    from r2b_zoo.conversion.converter import lce_file
    from r2b_zoo.data import load

    if name == REAL:
        return r2b_zoo.convert(networks.randomise(r2b_zoo.ResNet18(weights=None))).tflite, photos
    if name == "digits":
        with tempfile.TemporaryDirectory() as folder:
            model, data = r2b_zoo.train(name, output=folder).file.read_bytes(), load(name)
    elif name == "cifar10":
        model, data = r2b_zoo.convert(r2b_zoo.load(name).model).tflite, load(name, data_dir)
    else:
        return lce_file(logits_network(name, photos)), photos
    return model, data.test_sample(len(photos))[1]


def run(model, photos, threads=1, **options):
    import r2b_runtime

    interpreter = r2b_runtime.Interpreter(model, threads, **options)
    interpreter.allocate_tensors()
    results = []
    for photo in photos:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(results)


def unequal_paths(model, photos):
    """The kernels and threads with which the engine and the delegate give different bits."""
    import r2b_runtime

    return [
        f"{kernels}, {threads} threads"
        for kernels in r2b_runtime.available_kernels()
        for threads in (1, 2)
        if run(model, photos, threads, kernels=kernels, engine="r2b").tobytes()
        != run(model, photos, threads, kernels=kernels, engine="litert").tobytes()
    ]


def run_lce(model, photos):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(model, use_reference_bconv=True).interpreter
    return np.stack([interpreter.predict([photo[None]])[0][0] for photo in photos])


def compare(a, b):
    """Returns (smallest correlation, share of equal predicted classes, largest difference)."""
    correlation = min(np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True))
    return correlation, np.mean(a.argmax(1) == b.argmax(1)), np.abs(a - b).max()


def real(ours, model, images):
    """Compares probabilities with those of the interpreter's own operators; returns (result in words, is good)."""
    _, same, largest = compare(ours, run(model, images, engine="litert", claim="binary"))
    return f"same class {same:.0%}, largest difference {largest:.1e}", largest <= REAL_DIFFERENCE


def binary(ours, model, images):
    """Compares outputs with LCE's, and the delegate's bits with the engine's; returns (result in words, is good)."""
    theirs = run_lce(model, images)
    correlation, same, largest = compare(ours, theirs)
    unequal = unequal_paths(model, images)
    text = (
        f"correlation >= {correlation:.7f}, same class {same:.0%}, largest difference {largest:.1e}, "
        f"deviation {theirs.std():.2f}, bits of the delegate {f'not with {unequal}' if unequal else 'everywhere'}"
    )
    return text, correlation >= CORRELATION and same >= SAME_CLASS and not unequal


def main():
    everything = (*networks.BINARY, "digits", "cifar10", REAL)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default=str(ROOT.parent / "shared" / "tfds"))
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--networks", nargs="+", default=list(everything), choices=everything)
    parser.add_argument("--explain", action="store_true")
    arguments = parser.parse_args()
    photos = photographs(arguments.data_dir, arguments.photos)
    failed = False
    for name in arguments.networks:
        model, images = subject(name, photos, arguments.data_dir)
        ours = run(model, images, engine="r2b")
        text, good = (real if name == REAL else binary)(ours, model, images)
        failed |= not good
        print(f"{name:18} {text}: {'ok' if good else 'NOT MET'}", flush=True)
        if arguments.explain and name != REAL:
            correlation, same, largest = compare(ours, run(model, images, engine="litert", claim="binary"))
            print(
                f"{'  floats by XNNPACK':18} correlation >= {correlation:.7f}, same class {same:.0%}, "
                f"largest difference {largest:.1e}",
                flush=True,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
