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
# # Your photographs
#
# You need a folder of photographs for each of your classes. This notebook takes a network that
# already knows ten other classes, and trains it on your photographs for about a minute. The result
# is one small file that recognises your classes, on this machine and on a board.
#
# The photographs here are cut from two pictures that come with scikit-learn, so that the notebook
# runs anywhere. **For your own photographs, change `photos` to their folder, and skip the cells
# that use `PLACES` or `tested`**: these cells make and show the photographs of this example.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import r2b_runtime
from PIL import Image
from r2b_zoo import load, train, verify  # loads TensorFlow, without its messages
from r2b_zoo.evaluation.accuracy import evaluate_batches
from sklearn.datasets import load_sample_images

folder = Path(tempfile.mkdtemp())
photos = folder / "photos"

# %% [markdown]
# ## A folder for each class
#
# The pieces of each class are cut from two places of a picture that do not overlap: twenty-four
# pieces for training from one place, twelve for testing from the other. With photographs of your
# own you need no such split: about a fifth of each class is automatically set aside for testing.

# %%
china, flower = load_sample_images().images
# class: picture, then the places (left, top, right, bottom) for training and for testing
PLACES = {
    "flower": (flower, (168, 90, 302, 350), (306, 90, 444, 350)),
    "leaves": (flower, (0, 0, 165, 427), (450, 0, 640, 360)),
    "tower": (china, (85, 90, 205, 340), (207, 90, 325, 340)),
    "trees": (china, (0, 345, 200, 427), (335, 300, 640, 427)),
}
rng = np.random.default_rng(0)
for name, (picture, *places) in PLACES.items():
    for split, count, (left, top, right, bottom) in zip(
        ("train", "val"), (24, 12), places, strict=True
    ):
        (photos / split / name).mkdir(parents=True)
        for number in range(count):
            size = rng.integers(56, 80)
            x, y = rng.integers(left, right - size + 1), rng.integers(top, bottom - size + 1)
            piece = Image.fromarray(picture[y : y + size, x : x + size])
            piece.save(photos / split / name / f"{number:02}.png")

figure, panels = plt.subplots(4, 6, figsize=(4.4, 3.4))
for row, name in zip(panels, PLACES, strict=True):
    for panel, path in zip(row, sorted((photos / "train" / name).iterdir())[:6], strict=True):
        panel.imshow(Image.open(path))
        panel.axis("off")
    row[0].set_title(name, fontsize=10, loc="left")

# %% [markdown]
# ## Before training
#
# The weights that come with the package were trained on CIFAR-10, which has ten classes such as
# airplane, cat and ship. The network does not know your classes, so it answers with one of these.

# %%
before = load("cifar10")
tested = {name: sorted((photos / "val" / name).iterdir()) for name in PLACES}
figure, panels = plt.subplots(1, 4, figsize=(7, 2.1))
for panel, (name, paths) in zip(panels, tested.items(), strict=True):
    picture = Image.open(paths[0])
    (answer, probability), *_ = before.predict(picture, top=1)
    panel.imshow(picture)
    panel.set_title(f"{name}: “{answer}”?\n{probability:.0%} sure", fontsize=9)
    panel.axis("off")

# %% [markdown]
# ## A minute of training
#
# The recipe has two stages. The first trains only the new classifier, on the features of the
# pretrained network. The second trains the whole network. Its learning rate is small, so that a
# small number of photographs does not flip too many signs of weights. Twenty-four pictures of a
# class are too few for the second stage, so it is left out here. With hundreds of pictures, delete
# the line with `skip`.
#
# You can stop the training with the kernel's stop button; running the cell again resumes it.

# %%
run = train(
    "finetune",
    output=folder / "run",
    **{
        "data.dir": str(photos),
        "weights": "cifar10",
        "classifier.epochs": 12,
        "finetuned.skip": True,
    },
)

# %%
run.figure("accuracy")

# %% [markdown]
# ## Look at its doubts
#
# The accuracy does not tell which photographs are misclassified. The confusion matrix shows which
# classes the network confuses, and the pictures after it may show why.

# %%
classifier = run.classifier
result = evaluate_batches(classifier.probabilities, classifier.dataset.test_batches(64))
print(f"{result.top1:.0%} of {result.images} pieces that it was not trained on")
result.confusion_figure(classifier.labels)

# %% [markdown]
# The next figure shows the six test pieces whose correct class gets the lowest probability. Look at
# them, and take more photographs like them.

# %%
doubts = []
for name, paths in tested.items():
    for path in paths:
        answers = classifier.predict(Image.open(path), top=len(PLACES))
        doubts.append((dict(answers)[name], name, answers[0][0], path))
figure, panels = plt.subplots(1, 6, figsize=(7.6, 1.9))
for panel, (probability, name, answer, path) in zip(panels, sorted(doubts)[:6], strict=True):
    panel.imshow(Image.open(path))
    panel.set_title(f"{name}: {probability:.0%}\nsays “{answer}”", fontsize=8)
    panel.axis("off")

# %% [markdown]
# ## The file
#
# Training also wrote a `.tflite`. It contains the network, with one bit for each binary weight, the
# names of your classes and the preprocessing. `verify` compares the file with the Keras network on
# every test photograph.

# %%
photographs = classifier.dataset.test_batches(64)
images = np.concatenate([np.asarray(batch) for batch, _ in photographs])
verification = verify(run.networks["classifier"], run.file.read_bytes(), images)
verification

# %% [markdown]
# On a board, three lines of Python run the same file, without TensorFlow, Larq or this package.
# [From Keras to a board](4_from_keras_to_a_board.ipynb) shows more.

# %%
board = r2b_runtime.Classifier(str(run.file))
print(f"{run.file.stat().st_size:,} bytes, classes {', '.join(board.labels)}")
agree = 0
for name, paths in tested.items():
    (answer, probability), *_ = board.predict(np.asarray(Image.open(paths[0])), top=1)
    agree += answer == classifier.predict(Image.open(paths[0]), top=1)[0][0]
    print(f"{name:>8}: {answer}, {probability:.0%}")

# %% [markdown]
# ## With your own
#
# - On the command line, one command trains the network:
#   `r2b train recipe=finetune data.dir=PHOTOS weights=cifar10`.
# - If 32×32 pixels do not show what distinguishes your classes, use weights for larger images:
#   `weights="imagenet"` downloads Larq Zoo's Real-to-Binary network for 224×224.
# - Files that cannot be read are listed and left out. Convert HEIC photographs first.
