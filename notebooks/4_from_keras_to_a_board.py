# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From Keras to a board
#
# A network of this zoo is converted to one `.tflite` with operators of Larq Compute Engine. The
# same file runs on a Raspberry Pi, in an app and here. This notebook converts the Real-to-Binary
# network, checks that the file computes what Keras computes, looks at what else is in it, and then
# runs it as on a board.
#
# The network has random weights, so its predictions mean nothing. Its costs do not depend on the
# weights.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import r2b_runtime
import r2b_zoo
from r2b_runtime import benchmark
from r2b_zoo import IMAGENET, convert, create, verify  # loads TensorFlow, without its messages
from r2b_zoo.data.imagenet_classes import imagenet_classes
from sklearn.datasets import load_sample_images

photographs = load_sample_images().images
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## One call, and a table
#
# Sixteen convolutions become `LceBconv2d` operators, with one bit for each weight. The table says
# what became of every layer, and why.

# %%
network = create("RealToBinaryNet", weights=None)
conversion = convert(
    network, labels=[name for _, name in imagenet_classes()], preprocessing=IMAGENET, strict=True
)
conversion.save(folder / "r2b.tflite")
conversion

# %%
kinds = {"binary": 0, "float": 0, "graph": 0}
for layer in conversion.layers:
    kinds[layer.kind] += layer.bytes
as_floats = network.count_params() * 4
figure, axes = plt.subplots(figsize=(8, 1.8))
axes.barh(["as floats"], [as_floats / 1e6], color="0.7")
left = 0.0
for kind, colour in (("binary", "tab:blue"), ("float", "tab:orange"), ("graph", "0.4")):
    axes.barh(["the file"], [kinds[kind] / 1e6], left=left, color=colour, label=kind)
    left += kinds[kind] / 1e6
axes.invert_yaxis()
axes.set_xlabel("megabytes")
axes.legend(fontsize=8, loc="lower right")
figure.tight_layout()
print(f"{as_floats / conversion.total_bytes:.1f} times smaller than the same weights as floats")

# %% [markdown]
# ## The same network?
#
# `verify` runs images through Keras and through the file, and compares the outputs. Here the images
# are eight pieces of two photographs.

# %%
pieces = [
    photo[y : y + 200, x : x + 300] for photo in photographs for y in (0, 200) for x in (0, 300)
]
prepared = np.stack([IMAGENET(piece) for piece in pieces])
verification = verify(network, conversion.tflite, prepared)
verification

# %% [markdown]
# ## What the file carries
#
# The file also contains the names of the classes and the preprocessing, which turns a photograph
# into the network's input. So no other file is needed.

# %%
r2b_zoo.load(folder / "r2b.tflite")

# %% [markdown]
# ## As a board runs it
#
# `r2b_runtime` contains no Keras, no Larq and no training code. On a Raspberry Pi, a program needs
# little more than these three lines.

# %%
classifier = r2b_runtime.Classifier(str(folder / "r2b.tflite"))
answers = classifier.predict(pieces[0], top=3)
print(*(f"{100 * probability:6.2f} %  {label}" for label, probability in answers), sep="\n")

# %% [markdown]
# ## Where the time goes
#
# The figure shows the time of every step of the engine, in the order in which the steps run, with
# this machine's best instruction set and one thread. A blue bar is a binary convolution with
# everything that the engine fused into it. The tall bar at the left is the first convolution, which
# reads the photograph and stays real.

# %%
profile = benchmark.profile_model(str(folder / "r2b.tflite"), runs=15)
milliseconds = np.array([1000 * step.seconds for step in profile.steps])
colours = ["tab:blue" if step.binary else "tab:orange" for step in profile.steps]
figure, axes = plt.subplots(figsize=(10, 3))
axes.bar(range(len(milliseconds)), milliseconds, color=colours)
axes.set_xlabel("step")
axes.set_ylabel("ms")
axes.set_title(
    f"{1000 * profile.seconds:.1f} ms in all with {profile.kernels}, "
    f"{100 * profile.binary_share:.0f} % of the steps' time in steps with a binary operator",
    fontsize=10,
    loc="left",
)
figure.tight_layout()

# %%
for step in sorted(profile.steps, key=lambda step: -step.seconds)[:5]:
    print(f"{1000 * step.seconds:6.2f} ms  {step.name}")

# %% [markdown]
# On a Raspberry Pi, the same file and the same three lines of Python run with the instruction set
# of the Pi; [export/runtime](../export/runtime/README.md) says how to build the wheel for it.
