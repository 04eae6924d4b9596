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
# # What a bit does
#
# A binary convolution uses one bit of every weight and of every activation: its sign. This notebook
# computes one binary convolution by hand, with `xor` and counting. It then shows three parts of the
# paper's network that make up for the lost bits: the scale **α**, the **shortcut**, and the
# **gate**.

# %%
import matplotlib.pyplot as plt
import numpy as np
import r2b_zoo
from r2b_zoo import RealToBinaryNet  # loads TensorFlow with Keras 2, and without its messages
from sklearn.datasets import load_sample_image

photograph = load_sample_image("china.jpg")[60:300, 200:440]
image = np.asarray(photograph[::4, ::4], np.float32) / 127.5 - 1

# %% [markdown]
# ## A photograph, and what is left of it
#
# The left picture is the photograph. For the right one, each of the three colours of a pixel is
# scaled to −1…1, and only its sign is kept: three bits for each pixel instead of twenty-four. One
# can still see what the photograph shows. Binary networks rely on this.

# %%
figure, panels = plt.subplots(1, 2, figsize=(7, 3.5))
panels[0].imshow(photograph[::4, ::4])
panels[0].set_title("24 bits a pixel", fontsize=10)
panels[1].imshow((np.sign(image) + 1) / 2)
panels[1].set_title("3 bits a pixel", fontsize=10)
for panel in panels:
    panel.axis("off")

# %% [markdown]
# ## Multiplying signs is `xor`
#
# Write +1 as bit 0 and −1 as bit 1. The product of two signs is −1 exactly where their bits differ,
# which is where `xor` gives a one. The dot product of two rows of *n* signs is therefore *n* minus
# twice the number of ones. No multiplication is left, and a processor compares 32, 64 or 512 pairs
# of bits in one instruction.

# %%
rng = np.random.default_rng(0)
a, b = rng.choice([-1, 1], (2, 64))
bits_a, bits_b = np.packbits(a < 0), np.packbits(b < 0)
differ = int(np.unpackbits(bits_a ^ bits_b).sum())
print(f"by multiplying  {a @ b}")
print(f"by counting     {64 - 2 * differ}   (64 − 2 · {differ})")

# %% [markdown]
# ## A layer of the network, by hand
#
# The first binary convolution of a Real-to-Binary network reads the output of a batch norm. Here
# that convolution is computed with NumPy's `packbits`, `^` and a count of ones, and compared with
# the layer itself.

# %%
import tensorflow as tf

tf.keras.utils.set_random_seed(0)
shape = {"input_shape": (60, 60, 3), "width": 32, "stem": "cifar", "num_classes": 10}
network = RealToBinaryNet(weights=None, weight_scale="none", **shape)
layer = network.get_layer("block1a_conv")
before = network.get_layer("block1a_batch_norm").output
reads = tf.keras.Model(network.inputs, before)(image[np.newaxis], training=False).numpy()
kernel = layer.kernel.numpy()


def patches(x: np.ndarray) -> np.ndarray:
    """The 3×3 surroundings of each pixel of x, bool (H, W, C), as packed bits; 0 outside of x."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    around = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.packbits(np.stack(around, axis=2).reshape(height, width, -1), axis=-1)


def count(bits: np.ndarray) -> np.ndarray:
    return np.unpackbits(bits, axis=-1).sum(axis=-1, dtype=np.int32)


def binary_convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolves the signs of x (H, W, channels) with those of kernel (3, 3, channels, outputs)."""
    inputs, inside = patches(x < 0), patches(np.ones(x.shape, bool))
    weights = np.packbits((kernel < 0).reshape(-1, kernel.shape[-1]).T, axis=-1)
    differ = (inputs[:, :, np.newaxis] ^ weights) & inside[:, :, np.newaxis]
    return count(inside)[..., np.newaxis] - 2 * count(differ)


by_hand = binary_convolution(reads[0], kernel)
by_layer = layer(reads).numpy()[0]
largest_difference = float(np.abs(by_hand - by_layer).max())
print(f"{by_hand.shape}, largest difference {largest_difference}")

# %% [markdown]
# The two results are exactly equal, because a binary convolution gives whole numbers. Its kernel
# takes one bit for each weight:

# %%
size = kernel.size
print(f"{size:,} weights: {size * 4:,} bytes as floats, {size // 8:,} as bits")

# %% [markdown]
# ## α: how long the arrow is
#
# The signs of a filter keep roughly its direction, but not its length. So each filter gets a scale
# α (section 4.3 of the paper, equation 3). Here α is the mean of the weights' magnitudes, as in
# XNOR-Net: no other multiple of the signs is as near to the filter as α times the signs. In the
# left figure, each point is one filter. All points lie on the line on which the nearest multiple
# equals the mean of |W|. The right figure shows the squared error of one filter for other
# multiples: it is least at α.

# %%
filters = kernel.reshape(-1, kernel.shape[-1]) * rng.uniform(0.2, 2, kernel.shape[-1])
signs = np.where(filters < 0, -1.0, 1.0)
alpha = np.abs(filters).mean(axis=0)
nearest = (filters * signs).sum(axis=0) / (signs**2).sum(axis=0)
scales = np.linspace(0, 3, 61)
errors = [np.square(filters[:, 0] - s * alpha[0] * signs[:, 0]).sum() for s in scales]
error_without = float(np.square(filters - signs).sum())
error_with = float(np.square(filters - alpha * signs).sum())

figure, panels = plt.subplots(1, 2, figsize=(8, 3))
panels[0].plot(alpha, nearest, "o", markersize=5)
panels[0].plot([0, alpha.max()], [0, alpha.max()], color="0.6", zorder=0)
panels[0].set_xlabel("mean |W| of the filter")
panels[0].set_ylabel("nearest multiple of its signs")
panels[1].plot(scales, errors)
panels[1].axvline(1, color="0.6", linestyle=":")
panels[1].set_xlabel("multiple of α")
panels[1].set_ylabel("squared error of one filter")
figure.tight_layout()
print(
    f"squared error of all filters: {error_without:,.0f} with signs alone, {error_with:,.2f} with α"
)

# %% [markdown]
# ## The shortcut: what a sign throws away is carried past it
#
# A binary convolution reads only signs. All later layers would lack what the signs have lost, so
# every binary convolution has a shortcut around it, which passes on the real values. A binary
# convolution and its shortcut form a half block. The maps below show one channel of the first half
# block: its input, the signs after the batch norm, the output of the binary convolution after the
# gate, and the output of the half block.

# %%
with_alpha = RealToBinaryNet(weights=None, weight_scale="mean", **shape)
with_alpha.set_weights(network.get_weights())
values_of = [with_alpha.get_layer("block1a_batch_norm").input]
values_of += [
    with_alpha.get_layer(name).output for name in ("block1a_batch_norm", "block1a_gate", "block1a")
]
block = tf.keras.Model(with_alpha.inputs, values_of)
incoming, normalised, gated, leaving = (
    values.numpy()[0] for values in block(image[np.newaxis], training=False)
)
# Of the channels with 30–70 % negative signs, take the one whose input varies most over the image.
even = np.abs((normalised < 0).mean(axis=(0, 1)) - 0.5) < 0.2
channel = int((incoming.std(axis=(0, 1)) * even).argmax())
pictures = {
    "comes in": incoming[..., channel],
    "its sign": np.where(normalised[..., channel] < 0, -1, 1),
    "binary convolution, gated": gated[..., channel],
    "leaves, with the shortcut": leaving[..., channel],
}
figure, panels = plt.subplots(1, 4, figsize=(11, 3))
for panel, (title, values) in zip(panels, pictures.items()):
    panel.imshow(values, cmap="RdBu_r", vmin=-np.abs(values).max(), vmax=np.abs(values).max())
    panel.set_title(title, fontsize=10)
    panel.axis("off")


def alike(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


with_shortcut, without_shortcut = alike(leaving, incoming), alike(gated, incoming)
print("correlation with what came in:")
print(f"{without_shortcut:.2f} without the shortcut, {with_shortcut:.2f} with it")

# %% [markdown]
# ## The gate: a scale that looks at the image
#
# α is the same for every image. The gate computes a factor for each channel from the real
# activations before the sign: it averages them over the image, and applies two small dense layers
# and a sigmoid. So two images get two sets of factors, for few more operations.

# %%
gate = network.get_layer("block1a_gate")
other = np.asarray(load_sample_image("flower.jpg")[60:300:4, 200:440:4], np.float32) / 127.5 - 1
factors = []
for picture in (image, other):
    values = tf.keras.Model(network.inputs, before)(picture[np.newaxis], training=False)
    factors.append(gate([values, tf.ones_like(values)]).numpy()[0, 0, 0])
figure, axes = plt.subplots(figsize=(8, 2.5))
axes.bar(np.arange(len(factors[0])) - 0.2, factors[0], 0.4, label="china.jpg")
axes.bar(np.arange(len(factors[1])) + 0.2, factors[1], 0.4, label="flower.jpg")
axes.set_xlabel("channel")
axes.set_ylabel("factor")
axes.legend(fontsize=8)
gate_cost = r2b_zoo.cost(network).of("gate").flops / r2b_zoo.cost(network).flops
print(f"the gates need {100 * gate_cost:.1f} % of this network's work")

# %% [markdown]
# This network has not been trained, so its factors are near a half. Even so, they differ between
# the two images. `r2b demo` trains all four stages of the paper on handwritten digits.
