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
# # A tour
#
# `r2b_zoo` has networks whose weights and activations are one bit wide. It also trains and converts
# them, and has an engine that runs them. This notebook compares the networks and their costs,
# trains a small one, and draws some of the bits that it has learnt.

# %%
import matplotlib.pyplot as plt
import numpy as np
import r2b_zoo
from r2b_zoo import cost, create  # loads TensorFlow with Keras 2, and without its messages

# %% [markdown]
# ## Six networks
#
# All six have the topology of a ResNet-18. Five of them make it binary, in different ways; the
# sixth is the real network that they are compared with. The accuracies on ImageNet are those that
# Martínez et al. report (ICLR 2020, table 2). The bytes are counted from the networks of this zoo,
# with one bit for each binary weight.

# %%
cards = [r2b_zoo.card(name) for name in r2b_zoo.list_models()]
figure, axes = plt.subplots(figsize=(8, 3.5))
for card in cards:
    axes.plot(
        card.bytes / 1e6,
        card.top1,
        "D",
        markersize=7,
        color="tab:blue" if card.bytes < 1e7 else "0.3",
    )
    axes.annotate(
        card.name, (card.bytes / 1e6, card.top1), (8, -3), textcoords="offset points", fontsize=9
    )
axes.set_xscale("log")
axes.set_xlim(3, 100)
axes.set_xticks([4, 10, 40], ["4", "10", "40"])
axes.set_xlabel("megabytes of weights")
axes.set_ylabel("ImageNet top-1 in the paper, %")
axes.grid(color="0.9")
figure.tight_layout()

# %% [markdown]
# A card describes a network before you build it: its paper, accuracy, size and input.

# %%
r2b_zoo.card("RealToBinaryNet")

# %% [markdown]
# ## What the bits save
#
# The chart shows how much each kind of layer contributes to the network's multiplications, work and
# memory. More than nine tenths of the multiplications are binary. Where the chart counts work, 64
# binary multiplications count as one, because a processor does 64 of them at once. Most of the work
# is therefore in the layers that stay real, above all in the first convolution, the stem.

# %%
network_cost = cost(create("RealToBinaryNet", weights=None))
network_cost.figure()

# %%
network_cost

# %% [markdown]
# ## A network that recognises something
#
# `r2b demo` trains all four stages of the paper on handwritten digits, in a few minutes. The next
# cell trains only the last stage, from random weights and for a few epochs, and shows the progress
# in a figure. You can stop it at any time; running the cell again resumes the training.

# %%
run = r2b_zoo.train(
    "digits",
    output="runs/tour",
    progressive=False,
    attention_matching=False,
    output_matching=False,
    **{
        "teacher.skip": True,
        "binary_activations.skip": True,
        "binary.epochs": 12,
        "binary.learning_rate": 5e-3,
        "binary.batch_norm_statistics": "running",
    },
)

# %%
run

# %% [markdown]
# ## What it says
#
# Here are sixteen test images, each with the class that the network predicts and the probability of
# this class. A wrong prediction has a red title.

# %%
classifier = run.classifier
dataset = classifier.dataset
images, inputs, labels = dataset.test_sample(16)
figure, panels = plt.subplots(2, 8, figsize=(11, 3.2))
right = 0
for panel, image, label in zip(panels.flat, images, labels):
    ((name, probability),) = classifier.predict(image, top=1)
    is_right = name == dataset.class_names[label]
    right += is_right
    panel.imshow(image[..., 0], cmap="gray")
    panel.set_title(
        f"{name} · {100 * probability:.0f} %", fontsize=10, color="black" if is_right else "tab:red"
    )
    panel.axis("off")
print(f"{right} of {len(images)} right")

# %% [markdown]
# ## Pictures made of bits
#
# The first figure shows the signs of the weights of the first binary convolution. Each tile is the
# filter from one input channel to one output channel: nine bits, white for +1 and black for −1. The
# second figure shows the first test image, and the signs of the convolution's input for this image,
# in the first eight channels. The convolution sees only the signs of its input.

# %%
network = run.networks["binary"]
kernel = network.get_layer("block1a_conv").kernel.numpy()
tiles = np.where(kernel < 0, 0.0, 1.0).transpose(3, 0, 2, 1)  # output, row, input, column
sheet = np.full((16 * 4, 16 * 4), 0.5)
for output in range(16):
    for channel in range(16):
        sheet[output * 4 : output * 4 + 3, channel * 4 : channel * 4 + 3] = tiles[
            output, :, channel
        ]
figure, axes = plt.subplots(figsize=(5, 5))
axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
axes.set_xlabel("input channel")
axes.set_ylabel("output channel")
axes.set_xticks([])
axes.set_yticks([])
bits = kernel.size
print(f"{bits:,} weights in {bits // 8:,} bytes")

# %%
import tensorflow as tf

normalised = tf.keras.Model(network.inputs, network.get_layer("block1a_batch_norm").output)
seen = normalised(inputs[:1], training=False).numpy()[0]
figure, panels = plt.subplots(1, 9, figsize=(11, 1.5))
panels[0].imshow(images[0][..., 0], cmap="gray")
panels[0].set_title("the image", fontsize=9)
for channel, panel in enumerate(panels[1:]):
    panel.imshow(seen[..., channel] < 0, cmap="gray_r", vmin=0, vmax=1)
    panel.set_title(f"channel {channel}", fontsize=9)
for panel in panels:
    panel.axis("off")

# %% [markdown]
# ## Where to go on
#
# - [What a bit does](2_what_a_bit_does.ipynb): one binary convolution by hand, and what the paper
#   adds around it.
# - [From Keras to a board](4_from_keras_to_a_board.ipynb): converts a network, compares the file
#   with Keras, and times each step.
