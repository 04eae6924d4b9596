"""Adds random instances of further operators to a random graph: CONCATENATION, SPLIT, STRIDED_SLICE, PAD, PADV2,
RESIZE_BILINEAR, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, MINIMUM and MAXIMUM."""

import math

import lce_model
import numpy as np
from drawing import CHANNELS, MOST_PRODUCTS, Drawing, extent, options


class Layouts(Drawing):
    """A `Drawing` that can also add the operators of this module."""

    def depthwise(self, x, kernel=None, stride=None):
        n, h, w, channels = x.shape
        kernels, strides, dilation, padding = self.window(x.shape, dilations=(1, 1, 1, 2))
        if kernel:
            kernels, strides, dilation, padding = [kernel] * 2, [stride or 1] * 2, [1, 1], lce_model.SAME
        if max(strides) > 1:
            dilation = [1, 1]  # TensorFlow Lite has no dilation with strides
        multiplier = 1 if kernel else self.one((1, 1, 1, 2, 3))
        outputs = channels * multiplier
        if math.prod(kernels) * outputs * n * h * w > MOST_PRODUCTS:
            return None
        weights = self.scales((1, *kernels, outputs)) * 2.0 ** -round(math.log2(math.prod(kernels)) / 2)
        table = self.window_options("DepthwiseConv2DOptions", strides, dilation, padding, depthMultiplier=multiplier)
        size = [extent(s, *window, padding) for s, *window in zip((h, w), kernels, strides, dilation)]
        bias = self.numbers(outputs, unit=0.125)
        constants = [(weights, "float32"), (bias, "float32")]
        return self.builtin("DEPTHWISE_CONV_2D", [x], (n, *size, outputs), table, constants)

    def transpose_conv(self, x):
        n, h, w, channels = x.shape
        outputs = self.one(CHANNELS)
        kernels, strides = ([self.one(sizes) for _ in range(2)] for sizes in ((1, 2, 3, 4, 5), (1, 2, 2, 3)))
        padding = self.one((lce_model.SAME, lce_model.VALID))
        if padding == lce_model.SAME:
            size = [s * stride for s, stride in zip((h, w), strides)]
        else:
            size = [(s - 1) * stride + max(k, stride) for s, k, stride in zip((h, w), kernels, strides)]
        depth = math.prod(kernels) * channels
        if depth * outputs * n * h * w > MOST_PRODUCTS:
            return None
        weights = self.scales((outputs, *kernels, channels)) * 2.0 ** -round(math.log2(depth) / 2)
        bias = self.numbers(outputs, unit=0.125) if self.chance(0.7) else None
        table = options("TransposeConvOptions", padding=padding, strideH=strides[0], strideW=strides[1])

        def write(model, indices, out):
            operands = [model.constant([n, *size, outputs], "int32"), model.constant(weights), *indices]
            if bias is not None:
                operands.append(model.constant(bias))
            model.builtin("TRANSPOSE_CONV", operands, [out], table, version=1 if bias is None else 3)

        return self.add("TRANSPOSE_CONV", [x], (n, *size, outputs), write)

    def extreme(self, x):
        """Adds the minimum or maximum of `x` and a constant (number or vector), or of `x` and a value of its shape."""
        name = self.one(("MINIMUM", "MAXIMUM"))
        table = options("MaximumMinimumOptions")
        others = [v for v in self.values if v.shape == x.shape and v.dtype == x.dtype]
        if self.chance(0.3):
            return self.builtin(name, [x, self.one(others)], x.shape, table)
        constant = self.numbers(self.one(((), (1,), (x.channels,))))
        first = self.chance(0.3)

        def write(model, indices, out):
            operands = [*indices, model.constant(constant)]
            model.builtin(name, operands[::-1] if first else operands, [out], table)

        return self.add(name, [x], x.shape, write)

    def concat(self, x):
        """Concatenates `x` along an axis with values, possibly `x` itself, that match it along all other axes."""
        axis = len(x.shape) - 1 if self.chance(0.7) else self.one(range(len(x.shape)))

        def others(v):
            return (v.dtype, *v.shape[:axis], None, *v.shape[axis + 1 :])

        found = [v for v in self.values if len(v.shape) == len(x.shape) and others(v) == others(x)]
        parts = [x] + [self.one(found) for _ in range(self.one((1, 1, 2, 3)))]
        self.rng.shuffle(parts)
        shape = list(x.shape)
        shape[axis] = sum(v.shape[axis] for v in parts)
        table = options("ConcatenationOptions", axis=axis - len(shape) if self.chance(0.5) else axis)
        return self.builtin("CONCATENATION", parts, shape, table)

    def split(self, x):
        """Splits `x` along an axis into 1 to 4 equal parts."""
        axis = len(x.shape) - 1 if self.chance(0.6) else self.one(range(len(x.shape)))
        parts = self.one([p for p in (1, 2, 2, 3, 4) if x.shape[axis] % p == 0])
        shape = list(x.shape)
        shape[axis] //= parts
        number = axis - len(shape) if self.chance(0.3) else axis

        def write(model, indices, *outs):
            table = options("SplitOptions", numSplits=parts)
            model.builtin("SPLIT", [model.constant(number, "int32"), *indices], outs, table)

        return self.add_several("SPLIT", [x], [shape] * parts, write)

    def taken(self, size):
        """Draws the positions that a slice takes from an axis of length `size`: at least one, sometimes descending."""
        first, last = sorted(int(v) for v in self.rng.integers(0, size, 2))
        step = self.one((1, 1, 1, 2, 3))
        if self.chance(0.3):
            return range(size)[:: self.one((1, 2))]
        return range(last, first - 1, -step) if self.chance(0.15) else range(first, last + 1, step)

    def slice_limits(self, size):
        """Draws a slice of an axis of length `size`.

        Returns:
            A tuple (positions, limits, masks). `positions` is a range. `limits` is (begin, end, stride); a negative
            begin or end counts from the end of the axis. `masks` is (no_begin, no_end): whether the operator ignores
            begin or end.
        """
        taken = self.taken(size)
        begin, end = taken.start, taken.stop if taken.stop >= 0 else -size - 1
        whole = range(size) if taken.step > 0 else range(size)[::-1]
        no_begin = begin == whole.start and self.chance(0.5)
        no_end = taken.stop == whole.stop and self.chance(0.5)
        if self.chance(0.2):
            begin -= size
        return taken, (7 if no_begin else begin, 0 if no_end else end, taken.step), (no_begin, no_end)

    def strided_slice(self, x):
        """Slices every axis; sometimes takes a single position of one axis and drops that axis."""
        dropped = self.one((1, 2)) if len(x.shape) == 4 and self.chance(0.2) else None
        limits, shape, masks = [], [], {"beginMask": 0, "endMask": 0, "shrinkAxisMask": 0}
        for axis, size in enumerate(x.shape):
            if axis == dropped:
                at = int(self.rng.integers(-size, size))
                limits.append((at, at + 1, 1))
                masks["shrinkAxisMask"] = 1 << axis
                continue
            taken, numbers, (no_begin, no_end) = self.slice_limits(size)
            limits.append(numbers)
            shape.append(len(taken))
            masks["beginMask"] |= no_begin << axis
            masks["endMask"] |= no_end << axis
        constants = [(np.int32(values), "int32") for values in zip(*limits)]
        return self.builtin("STRIDED_SLICE", [x], shape, options("StridedSliceOptions", **masks), constants)

    def pad(self, x):
        amounts = [(0, 0)] * len(x.shape)
        for axis in range(len(x.shape)):
            if self.chance(0.6 if axis in (1, 2) else 0.3):
                amounts[axis] = (self.one((0, 1, 2)), self.one((0, 1, 3)))
        shape = [before + size + after for size, (before, after) in zip(x.shape, amounts)]
        constants = [(np.int32(amounts), "int32")]
        if self.chance(0.6):
            return self.builtin("PAD", [x], shape, options("PadOptions"), constants)
        constants.append((np.float32(self.one((-1.0, 0.5))), "float32"))
        return self.builtin("PADV2", [x], shape, options("PadV2Options"), constants)

    def resize_bilinear(self, x):
        n, h, w, channels = x.shape
        size = [self.one((1, 2, 3, s, 2 * s, s + 1)) for s in (h, w)]
        corners = self.chance(0.3)
        table = options(
            "ResizeBilinearOptions", alignCorners=corners, halfPixelCenters=not corners and self.chance(0.6)
        )
        return self.builtin("RESIZE_BILINEAR", [x], (n, *size, channels), table, [(np.int32(size), "int32")])
