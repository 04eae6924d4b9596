"""The values that the tests of the operators draw from, and the README's table of them.

    python tested.py     # prints the table

The table is made from the values, so that it shows what is tested.
"""

import lce_model

CHANNELS = (1, 31, 32, 33, 64, 100, 256)
# Each is (lowest value, highest value), but GROUPS lists all values.
BATCHES, STRIDES, DILATIONS, KERNELS, WINDOWS, GROUPS = (1, 3), (1, 3), (1, 2), (1, 5), (1, 3), (1, 2, 4)
OUTPUTS = {"float32": "float32", "int8": "int8", "int32": "bit-packed with thresholds"}
PADDINGS = {
    "VALID": {"padding": lce_model.VALID, "pad_values": 0},
    "SAME with zeros": {"padding": lce_model.SAME, "pad_values": 0},
    "SAME with ones": {"padding": lce_model.SAME, "pad_values": 1},
}
ACTIVATIONS = {
    "none": lce_model.NONE,
    "RELU": lce_model.RELU,
    "RELU_N1_TO_1": lce_model.RELU_N1_TO_1,
    "RELU6": lce_model.RELU6,
}
TYPES = ("float32", "int8", "bool")
DEPTHWISE_CHANNELS, MULTIPLIERS = (1, 3, 8, 31, 48, 64), (1, 2, 3)
FUSING = (
    "CONV_2D",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "MEAN",
    "ADD",
    "SUB",
    "MUL",
    "PRELU",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "MINIMUM",
    "MAXIMUM",
    "ROUND",
    "LOGISTIC",
    "SOFTMAX",
    "RESHAPE",
    "FULLY_CONNECTED",
)
SPREADING = ("TRANSPOSE_CONV", "RESIZE_BILINEAR")
MOVING = ("CONCATENATION", "SPLIT", "STRIDED_SLICE", "PAD", "PADV2")
BYTE_CHANNELS, BYTE_KERNELS = (1, 3, 8, 31, 48, 64), (1, 7)
BYTE_ACTIVATIONS = ("none", "RELU", "RELU6")
FLOAT_OPERATORS = (*FUSING, "DEPTHWISE_CONV_2D", *SPREADING, *MOVING)


def table():
    """The README's table of operators, in Markdown."""
    span = "{0[0]} to {0[1]}".format
    rows = {
        "`LceBconv2d`": f"outputs: {', '.join(OUTPUTS.values())}; {', '.join(PADDINGS)}; strides {span(STRIDES)}, "
        f"dilations {span(DILATIONS)}, kernels {span(KERNELS)} in both directions; "
        f"{', '.join(map(str, GROUPS))} groups; "
        f"fused {', '.join(name for name in ACTIVATIONS if name != 'none')}; {', '.join(map(str, CHANNELS))} channels; "
        f"batches {span(BATCHES)}, resized inputs; scales per channel and per pixel",
        "`LceQuantize`, `LceDequantize`": ", ".join(TYPES),
        "`LceBMaxPool2d`": f"VALID, SAME; windows and strides {span(WINDOWS)}; channels as for LceBconv2d",
        f"float32 {', '.join(FUSING)}": "where weights and shapes are constant; fused into the binary "
        "convolutions where that saves passes over memory",
        "float32 DEPTHWISE_CONV_2D": f"{', '.join(map(str, DEPTHWISE_CHANNELS))} channels; depth multipliers "
        f"{', '.join(map(str, MULTIPLIERS))}; VALID, SAME; strides {span(STRIDES)}, dilations {span(DILATIONS)}, "
        f"kernels {span(KERNELS)} in both directions; fused activations",
        f"float32 {', '.join(SPREADING)}": f"VALID, SAME; strides {span(STRIDES)}; with and without aligned corners "
        "and half-pixel centers; where shapes are constant",
        f"float32 {', '.join(MOVING)}": "up to 4 dimensions, along any of them; strides of either sign, masks of "
        "begin, end and dropped axes; where shapes are constant",
        "int8 CONV_2D": f"integers of LiteRT's reference kernel; a scale for each output channel or for all; "
        f"{', '.join(map(str, BYTE_CHANNELS))} channels; VALID, SAME; strides {span(STRIDES)}, dilations "
        f"{span(DILATIONS)}, kernels {span(BYTE_KERNELS)} in both directions; fused "
        f"{', '.join(name for name in BYTE_ACTIVATIONS if name != 'none')}; batches {span(BATCHES)}",
        "int8 FULLY_CONNECTED": "integers of LiteRT's reference kernel; scales, channels and activations as for int8 "
        "CONV_2D",
        "QUANTIZE, DEQUANTIZE": "float32, uint8 and int8 to int8 and uint8; uint8 and int8 to float32; from uint8 to "
        "int8 of the same scale, and from the int8 of a convolution to float32, without a tensor in between",
        "int8 MAX_POOL_2D, PAD, RESHAPE": "VALID, SAME; windows of 2 and 3; no activation; where shapes are constant",
        "everything else": "refused by name; in an interpreter, the interpreter itself (XNNPACK) runs it",
    }
    lines = ["| operator | tested with |", "|---|---|", *(f"| {name} | {form} |" for name, form in rows.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
