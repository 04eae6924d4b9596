"""Draws random graphs of the binary and float32 operators that the runtime supports.

A graph starts with its input. Motifs (a gated half block, a shortcut that halves the map, a chain of element-wise
operators, ...) and single operators are added to it, each on a randomly chosen existing value. The operators are then
put into a random valid order, since some faults show only if certain operators run between two others.
"""

import dataclasses

import lce_model
import numpy as np
from drawing import CHANNELS, Value, options
from drawn_layouts import Layouts


class Motifs(Layouts):
    """A `Drawing` that can also add typical pieces of networks."""

    def gate(self, x, channels):
        """Average → dense → dense → sigmoid: one factor for each image and channel, [n, 1, 1, channels]."""
        value = self.average(x)
        hidden = self.dense(value, self.one((1, 8)), keep=False)
        value = self.dense(hidden, channels, keep=False)
        value = self.logistic(value)
        return self.reshape(value, (x.shape[0], 1, 1, channels))

    def shortcut(self, x, channels, stride):
        """An average pool if `stride` is above 1, then a 1x1 convolution if the number of channels changes.

        Returns None if the convolution would be too large.
        """
        if stride > 1:
            x = self.pool(x, "AVERAGE_POOL_2D", (min(2, x.shape[1]), min(2, x.shape[2])), 2, lce_model.SAME)
        return x if x.channels == channels else self.conv(x, channels, 1)

    def half_block(self):
        x = self.value(is_map=True)
        stride, channels = self.one((1, 1, 2)), x.channels if self.chance(0.5) else self.one(CHANNELS)
        normed = self.arithmetic(self.arithmetic(x, name="MUL"), name="ADD") if self.chance(0.7) else x
        y = self.bconv(self.quantize(normed), "float32", channels, stride)
        if y is None:
            return
        if self.chance(0.7):
            y = self.arithmetic(y, self.gate(self.one((x, normed)), channels), "MUL")
        if self.chance(0.7):
            y = self.prelu(y)
        skip = self.shortcut(self.one((x, normed)), channels, stride)
        if skip is not None:
            self.arithmetic(y, skip, "ADD")

    def chain(self):
        """A chain of element-wise operators: usually 2 to 9 of them, rarely 70."""
        x = self.value()
        for _ in range(self.one((2, 3, 5, 9)) if self.chance(0.95) else 70):
            kind = self.one(("arithmetic",) * 4 + ("prelu", "clamp"))
            x = getattr(self, kind)(x)

    def swish(self):
        x = self.value()
        self.arithmetic(x, self.logistic(x), "MUL")

    def itself(self):
        x = self.clamp(self.value(), "RELU_N1_TO_1")
        self.arithmetic(x, x, self.one(("MUL", "ADD", "SUB")))

    def one_channel(self):
        """Multiplies each channel of a map by a one-channel attention map, or adds the attention map to it."""
        x = self.value(is_map=True)
        attention = self.conv(x, 1, 1)
        if attention is None:
            return
        if self.chance(0.5):
            attention = self.logistic(attention)
        if attention.shape[:3] == x.shape[:3]:
            self.arithmetic(x, attention, self.one(("MUL", "ADD")))

    def join(self):
        """An element-wise operator on two maps of the same shape."""
        x = self.value(is_map=True)
        others = [v for v in self.values if v.shape == x.shape and v.dtype == x.dtype and v is not x]
        if others:
            self.arithmetic(x, self.one(others), self.one(("ADD", "ADD", "MUL", "SUB")))

    def pooled_conv(self):
        """A convolution followed by a pool, with a shortcut around both if the shapes match."""
        x = self.value(is_map=True)
        y = self.conv(x, x.channels, min(3, *x.shape[1:3]))
        if y is None:
            return
        if self.chance(0.5):
            y = self.prelu(y)
        kernel = (min(self.one((2, 3)), y.shape[1]), min(self.one((2, 3)), y.shape[2]))
        y = self.pool(y, self.one(("MAX_POOL_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D")), kernel, self.one((1, 2)))
        if y.shape == x.shape:
            self.arithmetic(y, x, "ADD")

    def dense_block(self):
        """Concatenates a map with a binary convolution of it, one to three times, as DenseNets do."""
        x = self.value(is_map=True)
        for _ in range(self.one((1, 2, 3))):
            normed = self.arithmetic(self.arithmetic(x, name="MUL"), name="ADD") if self.chance(0.5) else x
            new = self.bconv(self.quantize(normed), "float32", self.one((8, 32, 33, 64)))
            if new is None:
                return
            joined = self.builtin(
                "CONCATENATION",
                [x, new],
                (*x.shape[:3], x.channels + new.channels),
                options("ConcatenationOptions", axis=3),
            )
            if joined is None:
                return
            x = joined

    def improvement(self):
        """Adds a binary convolution of a map to the second half of its channels, as MeliusNets do."""
        x = self.value(is_map=True)
        if x.channels % 2:
            return
        kept, changed = self.split_channels(x)
        new = self.bconv(self.quantize(x), "float32", changed.channels)
        if new is not None:
            parts = [kept, self.arithmetic(changed, new, "ADD")]
            self.builtin("CONCATENATION", parts, x.shape, options("ConcatenationOptions", axis=3))

    def layout(self):
        """One operator of drawn_layouts.py, sometimes followed by an element-wise one."""
        x = self.value(is_map=True)
        kinds = (
            "transpose_conv",
            "split",
            "strided_slice",
            "strided_slice",
            "pad",
            "pad",
            "resize_bilinear",
            "extreme",
        )
        y = getattr(self, self.one(kinds))(x)
        if isinstance(y, Value) and self.chance(0.5):
            self.arithmetic(y)

    def split_channels(self, x):
        """Splits the channels of `x` into two halves."""
        half = (*x.shape[:3], x.channels // 2)

        def write(model, indices, *outs):
            table = options("SplitOptions", numSplits=2)
            model.builtin("SPLIT", [model.constant(3, "int32"), *indices], outs, table)

        return self.add_several("SPLIT", [x], [half, half], write)

    def blurred_pool(self):
        """A max pool, a depthwise convolution of stride 2 and sometimes a 1x1 convolution, as in QuickNets.

        Maps smaller than 3x3 have no depthwise convolution.
        """
        x = self.value(is_map=True)
        y = self.pool(x, "MAX_POOL_2D", (min(3, x.shape[1]), min(3, x.shape[2])), 1, lce_model.SAME)
        if min(y.shape[1:3]) >= 3:
            y = self.depthwise(y, 3, 2)
        if y is not None and self.chance(0.7):
            self.conv(y, self.one(CHANNELS), 1)

    def skip(self):
        """Halves a map, enlarges it again and concatenates it with the original, as U-Nets do."""
        x = self.value(is_map=True)
        small = self.pool(x, "MAX_POOL_2D", (1 + (x.shape[1] > 1), 1 + (x.shape[2] > 1)), 2, lce_model.SAME)
        size = list(x.shape[1:3])
        table = options("ResizeBilinearOptions", halfPixelCenters=self.chance(0.5))
        large = self.builtin("RESIZE_BILINEAR", [small], x.shape, table, [(np.int32(size), "int32")])
        parts, shape = [x, large], (*x.shape[:3], 2 * x.channels)
        joined = self.builtin("CONCATENATION", parts, shape, options("ConcatenationOptions", axis=3))
        if joined is not None and self.chance(0.5):
            self.conv(joined, x.channels, min(3, *x.shape[1:3]))

    def classifier(self):
        x = self.average(self.value(is_map=True), keep_dims=True)
        self.softmax(self.dense(x, 10))

    def binary(self):
        """One operator on bits, followed by LceQuantize if its output is int8."""
        bits = self.value("bits", is_map=True)
        if bits is None:
            bits = self.quantize(self.value(is_map=True))
        x = getattr(self, self.one(("bconv", "bconv", "bconv", "bmaxpool", "dequantize", "reshaped")))(bits)
        if x is not None and x.dtype == "int8":
            self.quantize(x)

    def single(self):
        """One operator on a float32 value."""
        x = self.value()
        names = ["arithmetic", "prelu", "clamp", "logistic", "softmax", "quantize", "dense"]
        names += ["concat", "split", "strided_slice", "pad", "extreme"]
        if x.is_map:
            names += ["conv", "conv", "pool", "average", "reshaped", "depthwise", "transpose_conv", "resize_bilinear"]
        getattr(self, self.one(names))(x)

    MOTIFS = (
        "half_block", "half_block", "half_block", "chain", "swish", "itself", "one_channel", "join", "pooled_conv",
        "dense_block", "improvement", "blurred_pool", "skip", "layout", "layout", "classifier",
        "binary", "binary", "binary", "binary", "single", "single", "single",
    )  # fmt: skip

    def grow(self):
        for _ in range(self.one((1, 2, 3, 4, 6))):
            getattr(self, self.one(self.MOTIFS))()
        if not any(o.name.startswith("Lce") for o in self.operators):  # the delegate claims no graph without one
            self.dequantize(self.quantize(self.value()))

    # ---- the file ----

    def ordered(self):
        """Draws an order in which each operator follows those whose outputs it reads; often the original order."""
        last = float(self.one((0, 2, 1e6)))
        keys = {id(o): i + self.rng.uniform(0, last) if last else i for i, o in enumerate(self.operators)}
        waiting, made, order = list(self.operators), {id(self.input)}, []
        while waiting:
            ready = [o for o in waiting if all(id(v) in made for v in o.inputs)]
            following = min(ready, key=lambda o: keys[id(o)])
            waiting.remove(following)
            made.update(map(id, following.outputs))
            order.append(following)
        return order


@dataclasses.dataclass
class Graph:
    """A drawn graph.

    Attributes:
        model: bytes of the `.tflite` file.
        probe: bytes of a file of the same graph, whose outputs are those of `model` and then all other float32
            results.
        outputs: number of outputs of `model`.
        signs: indices of those outputs of `probe` whose signs LceQuantize takes.
        operators: names of the operators, in the order of the file.
        shape: shape of the float32 input.
    """

    model: bytes
    probe: bytes
    outputs: int
    signs: list
    operators: list
    shape: tuple


def draw(seed):
    """Draws the graph of a seed, which is a number or a list of numbers."""
    rng = np.random.default_rng(seed)
    drawing = Motifs(rng)
    drawing.grow()
    operators = drawing.ordered()
    results = [value for o in operators for value in o.outputs]
    outputs = [v for v in results if not v.consumers or rng.random() < 0.15]
    rng.shuffle(outputs)
    floats = [v for v in results if v.dtype == "float32" and v not in outputs]
    signed = {id(o.inputs[0]) for o in operators if o.name == "LceQuantize" and o.inputs[0].dtype == "float32"}

    probed = outputs + floats
    return Graph(
        drawing.written(operators, outputs),
        drawing.written(operators, probed),
        len(outputs),
        [i for i, v in enumerate(probed) if id(v) in signed],
        [o.name for o in operators],
        drawing.input.shape,
    )
