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
# # Four stages
#
# A binary network that is trained from random weights learns badly, because the slope of a sign is
# zero almost everywhere. The paper trains four networks in turn, and each teaches the next: **a
# real teacher → a real student → binary activations → binary weights too**. This notebook trains
# all four on handwritten digits.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from r2b_zoo import attention_maps, train  # loads TensorFlow, without its messages

os.chdir(tempfile.mkdtemp())  # the runs are written here
# The network is narrow and has no gate, and the epochs are few, so that this notebook takes about a
# minute. The recipe's own network is twice as wide and has the gate, and each stage is trained for
# five to eight times as many epochs; results/digits.md has the accuracy that it reaches.
SHORT = {
    "width": 8,
    "gate": False,
    "teacher.epochs": 4,
    "teacher.warmup_epochs": 1,
    "real.epochs": 3,
    "real.warmup_epochs": 1,
    "binary_activations.epochs": 5,
    "binary_activations.warmup_epochs": 1,
    "binary.epochs": 5,
}

# %%
run = train("digits", output="all", **SHORT)

# %% [markdown]
# ## Where each stage starts
#
# The third stage starts from the weights of the second. It replaces the input of every convolution
# that will be binary by its signs: the accuracy falls, and training raises it again. The fourth
# stage also replaces the weights by their signs, but scales each filter by the mean magnitude α of
# its weights, so the accuracy falls less.

# %%
run.figure("accuracy")

# %%
ends = {stage["name"]: stage for stage in run.results["stages"]}
figure, axes = plt.subplots(figsize=(7, 2.4))
for row, stage in enumerate(ends.values()):
    end = 100 * stage["test_accuracy"]
    if stage["start"]:
        start = 100 * stage["start"]["accuracy"]
        axes.annotate("", (end, row), (start, row), arrowprops={"arrowstyle": "->", "color": "0.4"})
        axes.plot(start, row, "o", color="white", markeredgecolor="0.4")
    axes.plot(end, row, "o", color="C0")
    axes.text(end + 1, row, f"{end:.1f}", va="center", fontsize=9)
axes.set_yticks(range(len(ends)), list(ends))
axes.invert_yaxis()
axes.set_xlim(0, 108)
axes.set_xlabel("test top-1 in percent: before the first step, and after the last")
for side in ("top", "right"):
    axes.spines[side].set_visible(False)
figure.tight_layout()

# %% [markdown]
# ## Where teacher and student look
#
# The student does not learn from the teacher's answers alone. *Attention matching* compares the
# attention maps of teacher and student after each block. An attention map shows how strong the
# activations are at each place of the image, and is bright where they are strong. The figure has a
# row for each of four test images, with maps of both networks after three of their blocks.

# %%
attention_maps(run, stages=("teacher", "binary"))

# %% [markdown]
# ## One idea off
#
# What if training were not progressive? `progressive=False` leaves the real student out: the
# teacher teaches a network whose activations are binary from the first step. The teacher comes from
# the run above and is not trained again. The last stage, binary weights, is skipped, because the
# stage of binary activations already shows the difference.

# %%
without = train(
    "digits",
    output="without",
    progressive=False,
    **{**SHORT, "teacher.from_run": str(run.path), "binary.skip": True},
)

# %%
figure, axes = plt.subplots(figsize=(7, 2.6))
for label, one in (("progressive", run), ("without", without)):
    log = np.genfromtxt(one.folder.log_path("binary_activations"), delimiter=",", names=True)
    axes.plot(1 + np.arange(len(log)), 100 * log["val_accuracy"], "o-", label=label)
axes.set_xlabel("epoch of binary activations")
axes.set_ylabel("test top-1, %")
axes.legend(frameon=False)
for side in ("top", "right"):
    axes.spines[side].set_visible(False)
figure.tight_layout()

# %% [markdown]
# The student that starts from the real student's weights is ahead from its first epoch. This
# comparison cannot say whether the lead remains after long training: it has one seed, few epochs
# and 355 test images, so one image is 0.3 points. `python -m benchmarks.ablation`
# compares the ideas with four seeds, on photographs.

# %%
reached = {}
for label, one in (("progressive", run), ("without", without)):
    for stage in one.results["stages"]:
        reached[label, stage["name"]] = stage["test_accuracy"]
        print(f"{label:>12}  {stage['name']:<19} {stage['test_accuracy']:.1%}")

# %% [markdown]
# ## Another idea off
#
# `attention_matching=False` and `output_matching=False` switch off the paper's other ideas for
# training. `gate=False`, which is set above, switches off its channel rescaling; on the command
# line, this is `r2b train recipe=digits gate=false`.
# [What a bit does](2_what_a_bit_does.ipynb) shows what the gate and α do, and
# [From Keras to a board](4_from_keras_to_a_board.ipynb) converts and runs a network.
