"""The ResNet-18 all networks of the zoo share: stem, stages, shortcuts, head.

A file per paper supplies the block; everything else is here, so that two networks differ only in what their papers
say they differ in (He et al., CVPR 2016, table 1; Martínez et al., ICLR 2020, figure 1).

Under a mixed policy of Keras the 3×3 convolutions of the blocks compute in half precision, unless their maps are
tiny, and everything else in float32. Those have most of the operations, and a sum of ±1 comes out of them exact: up to
256 in bfloat16 and 2,048 in float16, twice that for an even number of addends. In a residual stream of half precision,
rounding would turn a sign here and there; each turns others in the next block, and a few blocks on it is another
network.
"""

import contextlib
import numbers
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import tensorflow as tf

from r2b_zoo import weights as weights_module
from r2b_zoo.layers import (
    Conv2D,
    FusedSteSign,
    FusedWeightClip,
    GlobalAverage,
    MaxPooling2D,
    PReLU,
    QuantConv2D,
    tanh,
)

PRECISIONS = ("binary", "binary_activations", "real")
STEMS = ("imagenet", "cifar")

# One row per stage: (width multiple, stride of the first convolution), two blocks each.
STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))
BLOCKS_PER_STAGE = 2
BLOCK_NAMES = tuple(f"block{i}" for i in range(1, len(STAGES) * BLOCKS_PER_STAGE + 1))
# The last block of each stage.
FEATURE_NAMES = BLOCK_NAMES[BLOCKS_PER_STAGE - 1 :: BLOCKS_PER_STAGE]

DEFAULT_INPUT_SHAPE = (224, 224, 3)
ANY_SIZE = (None, None, 3)
KERNEL_INITIALIZER = "glorot_normal"
BATCH_NORM_MOMENTUM = 0.99
# Pixels of a map that is worth computing in half precision. On a smaller one a step has more values of kernels to turn
# into that type, and into the order of its operators, than of images.
SMALLEST_HALF = 16

PathLike = Union[str, "os.PathLike[str]"]
Network = Callable[..., tf.keras.Model]
Activation = Callable[[tf.Tensor, str], tf.Tensor]


@dataclass(frozen=True)
class Quantization:
    """What a convolution does to its input and kernel at one precision.

    ``sign`` and ``kernel`` are Larq quantisers (names or objects) of the paper at hand; ``policy`` is the one of Keras
    that it computes in.
    """

    precision: str
    sign: Any
    kernel: Any
    policy: Any = "float32"

    @property
    def input_quantizer(self) -> Any:
        """The paper's sign, or tanh where the network is real: both saturate at ±1 (Martínez et al., section 4.2)."""
        return tanh if self.precision == "real" else _quantizer(self.sign)

    @property
    def kernel_quantizer(self) -> Any:
        return _quantizer(self.kernel) if self.precision == "binary" else None

    @property
    def kernel_constraint(self) -> Any:
        """Latent weights outside ±1 get no gradient through the clipped sign, so they are kept inside."""
        return FusedWeightClip() if self.precision == "binary" else None

    def conv(self, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        """A 3×3 convolution without bias; zero padding, as every paper of the zoo has it."""
        return QuantConv2D(
            filters,
            kernel_size=3,
            strides=strides,
            padding="same",
            input_quantizer=self.input_quantizer,
            kernel_quantizer=self.kernel_quantizer,
            kernel_constraint=self.kernel_constraint,
            kernel_initializer=KERNEL_INITIALIZER,
            use_bias=False,
            dtype=self._policy_for(x, strides),
            name=name,
        )(x)

    def real_conv(self, x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        """The same where the paper has real inputs and kernels."""
        return Conv2D(
            filters,
            kernel_size=3,
            strides=strides,
            padding="same",
            kernel_initializer=KERNEL_INITIALIZER,
            use_bias=False,
            dtype=self._policy_for(x, strides),
            name=name,
        )(x)

    def _policy_for(self, x: tf.Tensor, strides: int) -> Any:
        """Of a convolution of that input."""
        height, width = x.shape[1:3]
        is_tiny = None not in (height, width) and -(-height // strides) * -(-width // strides) < SMALLEST_HALF
        return getattr(self.policy, "variable_dtype", self.policy) if is_tiny else self.policy


def _quantizer(identifier: Any) -> Any:
    """Larq's, or ours where we have a faster one of the same values."""
    return FusedSteSign() if identifier == "ste_sign" else identifier


Block = Callable[[Quantization, tf.Tensor, int, int, str], tf.Tensor]
"""``block(quantization, x, filters, strides, name)`` returns its output, made by a layer called ``name``."""


@contextlib.contextmanager
def global_policy(policy: Any) -> Iterator[None]:
    """Keras layers made in the block have that policy unless they are told otherwise."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def batch_norm(x: tf.Tensor, name: str) -> tf.Tensor:
    return tf.keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=name)(x)


def prelu(x: tf.Tensor, name: str) -> tf.Tensor:
    """PReLU with one slope per channel (He et al., ICCV 2015)."""
    return PReLU(shared_axes=[1, 2], name=name)(x)


def relu(x: tf.Tensor, name: str) -> tf.Tensor:
    return tf.keras.layers.ReLU(name=name)(x)


def real_conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        kernel_initializer=KERNEL_INITIALIZER,
        use_bias=False,
        name=name,
    )(x)


def shortcut(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
    """The identity; where the shape changes: 2×2 average pool, real 1×1 convolution, batch norm."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    if strides > 1:
        x = tf.keras.layers.AveragePooling2D(strides, padding="same", name=f"{name}_shortcut_pool")(x)
    x = real_conv(x, filters, 1, 1, f"{name}_shortcut_conv")
    return batch_norm(x, f"{name}_shortcut_batch_norm")


def _stem(x: tf.Tensor, width: int, stem: str, activation: Activation) -> tf.Tensor:
    kernel_size, strides = (7, 2) if stem == "imagenet" else (3, 1)
    x = real_conv(x, width, kernel_size, strides, "stem_conv")
    x = activation(batch_norm(x, "stem_batch_norm"), "stem_activation")
    if stem == "imagenet":
        x = MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    return x


def _head(x: tf.Tensor, num_classes: int) -> tf.Tensor:
    x = GlobalAverage(name="global_pool")(x)
    x = tf.keras.layers.Dense(num_classes, name="logits")(x)
    return tf.keras.layers.Softmax(name="probabilities")(x)


_ARGUMENTS = """
    Args:
        input_shape: (height, width, channels) of the image. Height and width may be None. Unless told: (224, 224, 3),
            and without top (None, None, 3) for a network that takes any size.
        input_tensor: a Keras tensor to build on instead.
        weights: None (random), the path of a weights file, or "imagenet" where such weights are published.
        include_top: whether global pooling and the classifier are part of the network.
        features_only: whether to return the activations at the end of each of the four stages, for a detector or a
            segmenter to build on; there is no top then, whatever include_top says.
        num_classes: outputs of the classifier.
        precision: "binary"; "binary_activations" (real weights); "real" (tanh where the binary network has sign).
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 is the papers'.
        stem: "imagenet" (7×7 stride 2, then max pool) or "cifar" (3×3 stride 1).

    Returns:
        A model from normalised images (N, height, width, channels) to probabilities (N, num_classes); without top, to
        the features of the last block, (N, height / 32, width / 32, 8 · width) with the imagenet stem. With
        features_only to a list of four, those of block2, block4, block6 and block8 (which are the layers' names): with
        the imagenet stem at strides 4, 8, 16 and 32 and with width, 2 · width, 4 · width and 8 · width channels; with
        the cifar stem at strides 1, 2, 4 and 8. Height and width are rounded up where they are no multiple.

    Raises:
        ValueError: an argument is not one of the allowed values, or the weights do not fit.
"""


def network(
    name: str,
    block: Block,
    *,
    doc: str,
    stem_activation: Activation,
    sign: Any = None,
    kernel: Any = None,
    precisions: Sequence[str] = PRECISIONS,
    fixed_size: bool = False,
) -> Network:
    """Makes the public constructor of a network, with the signature all networks share.

    Args:
        name: name of the constructor and of the models it makes.
        block: the paper's block.
        doc: what is special about the network; the arguments are described here, once.
        stem_activation: activation after the first convolution.
        sign: the paper's quantiser of activations.
        kernel: the paper's quantiser of weights.
        precisions: those the network exists in; the first is the default.
        fixed_size: whether the network has weights for every row and column, and so cannot leave them open.
    """

    def constructor(
        *,
        input_shape: Optional[Sequence[Optional[int]]] = None,
        input_tensor: Optional[tf.Tensor] = None,
        weights: Optional[PathLike] = None,
        include_top: bool = True,
        features_only: bool = False,
        num_classes: int = 1000,
        precision: str = precisions[0],
        width: int = 64,
        stem: str = "imagenet",
    ) -> tf.keras.Model:
        _require_one_of(f"precision of {name}", precision, precisions)
        _require_one_of("stem", stem, STEMS)
        _require_positive("width", width)
        _require_positive("num_classes", num_classes)
        include_top = include_top and not features_only
        # As in keras.applications: features may be of images of any size.
        default_shape = DEFAULT_INPUT_SHAPE if include_top or fixed_size else ANY_SIZE
        image = _image_input(input_shape, input_tensor, default_shape)
        weights_path = weights_module.locate(
            name,
            weights,
            include_top=include_top,
            num_classes=num_classes,
            precision=precision,
            width=width,
            stem=stem,
            channels=image.shape[-1],
        )

        policy = tf.keras.mixed_precision.global_policy()
        quantization = Quantization(precision, sign, kernel, policy)
        with global_policy(policy.variable_dtype):
            x = _stem(image, width, stem, stem_activation)
            names = iter(BLOCK_NAMES)
            features = []
            for multiple, strides in STAGES:
                for i in range(BLOCKS_PER_STAGE):
                    x = block(quantization, x, width * multiple, strides if i == 0 else 1, next(names))
                features.append(x)
            if include_top:
                x = _head(x, num_classes)
        inputs = image if input_tensor is None else tf.keras.utils.get_source_inputs(input_tensor)
        model = tf.keras.Model(inputs, features if features_only else x, name=name)
        if weights_path is not None:
            weights_module.load(model, weights_path)
        return model

    constructor.__name__ = constructor.__qualname__ = name
    constructor.__doc__ = doc.rstrip() + "\n" + _ARGUMENTS
    return constructor


def intermediates(model: tf.keras.Model) -> dict[str, tf.Tensor]:
    """The symbolic outputs of the eight blocks by name, ``block1`` to ``block8``, and ``logits`` where there is a top.

    Attention matching compares the blocks of teacher and student; features come from them too.
    """
    names = [*BLOCK_NAMES, *(["logits"] if model.layers[-1].name == "probabilities" else [])]
    return {name: model.get_layer(name).output for name in names}


def _require_one_of(argument: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}; received {value!r}.")


def _require_positive(argument: str, value: Any) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"{argument} must be a positive integer; received {value!r}.")


def _image_input(
    input_shape: Optional[Sequence[Optional[int]]],
    input_tensor: Optional[tf.Tensor],
    default_shape: Sequence[Optional[int]],
) -> tf.Tensor:
    if input_tensor is not None:
        if not _is_keras_tensor(input_tensor):
            raise ValueError(
                f"input_tensor must be a Keras tensor, as tf.keras.Input(...) returns; received {type(input_tensor)}."
            )
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(f"input_shape {tuple(input_shape)} disagrees with the shape {shape} of input_tensor.")
        _check_input_shape(shape)
        return input_tensor
    shape = tuple(default_shape if input_shape is None else input_shape)
    _check_input_shape(shape)
    return tf.keras.Input(shape=shape, name="image")


def _is_keras_tensor(value: Any) -> bool:
    try:
        return tf.keras.backend.is_keras_tensor(value)
    except ValueError:  # Keras' answer where it is no tensor at all, an array for example
        return False


def _check_input_shape(shape: Sequence[Any]) -> None:
    rule = "input_shape must be (height, width, channels), channels last, with positive integers"
    if len(shape) != 3:
        raise ValueError(f"{rule}; received {tuple(shape)}, which has {len(shape)} numbers instead of 3.")
    height, width, channels = shape
    for size in (height, width):
        if size is not None and (not isinstance(size, numbers.Integral) or int(size) < 1):
            raise ValueError(f"{rule} (None for a height or width that varies); received {tuple(shape)}.")
    if not isinstance(channels, numbers.Integral) or int(channels) < 1:
        raise ValueError(f"{rule}; received {tuple(shape)}.")
    if int(channels) > 4 and isinstance(height, numbers.Integral) and int(height) <= 4:
        raise ValueError(f"{rule}; received {tuple(shape)}, which looks like channels first.")
