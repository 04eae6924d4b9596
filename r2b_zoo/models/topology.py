"""The ResNet-18 topology of all networks of the zoo: stem, sections, head, and the constructor's arguments.

A file per paper supplies the block; everything else is here and in ``parts``, so that networks differ only where their
papers do (He et al., CVPR 2016, table 1; Martínez et al., ICLR 2020, figure 1).
"""

import contextlib
import inspect
import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Protocol, Union

import tensorflow as tf

from r2b_zoo import weights as weights_module
from r2b_zoo.limits import MOST_WIDTH
from r2b_zoo.models.layers import GlobalAverage, MaxPooling2D, hidden_units
from r2b_zoo.models.parts import (
    BATCH_NORM_MOMENTUM,
    DOWNSAMPLES,
    Option,
    Parts,
    plain_conv,
    require_momentum,
    require_one_of,
    require_positive,
)
from r2b_zoo.weights import bundled
from r2b_zoo.weights.named import NAMES_IN_WORDS

PRECISIONS = ("binary", "binary_activations", "real")
STEMS = ("imagenet", "cifar")

# One row per section: (width multiple, stride of the first convolution), two blocks each.
SECTIONS = ((1, 1), (2, 2), (4, 2), (8, 2))
BLOCKS_PER_SECTION = 2
# The number of blocks in each section of the networks that are built; _depth() changes it.
_blocks_of_sections: Sequence[int] = (BLOCKS_PER_SECTION,) * len(SECTIONS)
BLOCK_NAMES = tuple(f"block{i}" for i in range(1, len(SECTIONS) * BLOCKS_PER_SECTION + 1))
# Features are the outputs of the last block of each section.
FEATURE_NAMES = BLOCK_NAMES[BLOCKS_PER_SECTION - 1 :: BLOCKS_PER_SECTION]

DEFAULT_INPUT_SHAPE = (224, 224, 3)
ANY_SIZE = (None, None, 3)

PathLike = Union[str, "os.PathLike[str]"]
Activation = Callable[[Parts, tf.Tensor, str], tf.Tensor]
Block = Callable[[Parts, tf.Tensor, int, int, str], tf.Tensor]
"""``block(parts, x, filters, strides, name)`` returns the output of its last layer, which is called ``name``."""


class Network(Protocol):
    """The public constructor of a network."""

    __name__: str
    defaults: Mapping[str, Any]
    """Defaults of ``downsample``, ``batch_norm_momentum`` and those arguments that not all networks have."""
    downsamples: tuple[str, ...]
    """The values of ``downsample`` that it supports."""
    check: Callable[..., dict[str, Any]]
    """Raises what the constructor would raise for values that are not allowed, without building anything or looking for
    the weights. Returns the values of the network's options."""

    def __call__(self, **arguments: Any) -> tf.keras.Model: ...


@contextlib.contextmanager
def global_policy(policy: Any) -> Iterator[None]:
    """Keras layers that are made within the ``with`` statement have this dtype policy by default."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


@contextlib.contextmanager
def _depth(*blocks: int) -> Iterator[None]:
    """Networks that are made within the ``with`` statement have ``len(blocks)`` sections of ``blocks[i]`` blocks each.

    Tests that do not depend on depth use it to save time for tracing, converting and loading. ``_depth(1, 1)`` gives
    networks with a block that keeps the shape, and one that changes it.
    """
    global _blocks_of_sections
    before = _blocks_of_sections
    _blocks_of_sections = blocks
    try:
        yield
    finally:
        _blocks_of_sections = before


def _stem(parts: Parts, x: tf.Tensor, width: int, stem: str, activation: Activation) -> tf.Tensor:
    kernel_size, strides = (7, 2) if stem == "imagenet" else (3, 1)
    x = plain_conv(x, width, kernel_size, strides, "stem_conv")
    x = activation(parts, parts.batch_norm(x, "stem_batch_norm"), "stem_activation")
    if stem == "imagenet":
        x = MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    return x


def _head(x: tf.Tensor, num_classes: int) -> tf.Tensor:
    x = GlobalAverage(name="global_pool")(x)
    x = tf.keras.layers.Dense(num_classes, name="logits")(x)
    return tf.keras.layers.Softmax(name="probabilities")(x)


_ARGUMENTS = """
    Args:
        input_shape: (height, width, channels) of the image. Height and width may be None. Default: (224, 224, 3), and
            without top (None, None, 3) for a network that takes any size.
        input_tensor: a Keras tensor to build on instead. Layers before it keep their weights if a weights file has none
            for them.
        weights: None (random), the path of a weights file, or the name of weights for this network that are published
            or come with this package ({weights}). Those of this package also set the arguments that not
            all networks have, unless these are given.
        include_top: whether global pooling and the classifier are part of the network.
        features_only: whether to return the activations at the end of each of the four sections, for detection or
            segmentation; there is no top then, whatever include_top is.
        num_classes: outputs of the classifier.
        precision: "binary"; "binary_activations" (real weights); "real" (tanh where the binary network has sign).
        width: channels of the first section; the others have 2, 4 and 8 times as many. The papers have 64.
        stem: "imagenet" (7×7 stride 2, then max pool) or "cifar" (3×3 stride 1).
        downsample: {downsample}
        batch_norm_momentum: the share of every batch norm's running statistics that a step keeps. With 0.99 the
            statistics take a few hundred steps to catch up with the weights; short runs need a smaller value.{options}

    Returns:
        A model from normalised images (N, H, W, channels) to probabilities (N, num_classes). Without top, it gives the
        output of the last block: (N, H / 32, W / 32, 8 · width) with the imagenet stem, (N, H / 8, W / 8, 8 · width)
        with the cifar stem. With features_only, it gives a list of the outputs of block2, block4, block6 and block8.
        They have width, 2 · width, 4 · width and 8 · width channels; H and W are divided by 4, 8, 16 and 32 with the
        imagenet stem, and by 1, 2, 4 and 8 with the cifar stem. Quotients are rounded up.

    Raises:
        ValueError: an argument is not one of the allowed values, or the weights do not fit.
        TypeError: the network has no argument of that name.
"""
_DOWNSAMPLE = """whether the convolutions of the shortcuts are "real" or "binary". With "binary", they have the
            network's precision, as its other convolutions do. Martínez et al. have both kinds in tables 1 and 3. In the
            paper, "real" ones gain 3 to 4 points on ImageNet."""
_REAL_DOWNSAMPLE = """only "real": nothing in this network is binary."""


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
    options: Optional[Mapping[str, Option]] = None,
) -> Network:
    """Makes the public constructor of a network, with the signature all networks share.

    Args:
        name: name of the constructor and of the models it makes.
        block: the paper's block.
        doc: what is special about the network; a description of the arguments is added to it.
        stem_activation: activation after the first convolution.
        sign: the paper's quantiser of activations.
        kernel: the paper's quantiser of weights.
        precisions: the supported precisions; the first is the default.
        fixed_size: whether the network needs a fixed input size, because it has weights for every row and column.
        options: arguments of the network that not all networks have.
    """
    own = dict(options or {})
    downsamples = DOWNSAMPLES if "binary" in precisions else DOWNSAMPLES[:1]

    def check(
        *,
        num_classes: int,
        precision: str,
        width: int,
        stem: str,
        downsample: str,
        batch_norm_momentum: float,
        input_shape: Optional[Sequence[Optional[int]]] = None,
        weights: Optional[PathLike] = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The network's own options, with defaults for those that are not given."""
        require_one_of(f"precision of {name}", precision, precisions)
        require_one_of("stem", stem, STEMS)
        require_one_of(f"downsample of {name}", downsample, downsamples)
        require_positive("width", width)
        if width > MOST_WIDTH:
            raise ValueError(f"width must be in 1–{MOST_WIDTH}; received {width}.")
        require_positive("num_classes", num_classes)
        require_momentum("batch_norm_momentum", batch_norm_momentum)
        if input_shape is not None:
            _check_input_shape(tuple(input_shape))
        options = _checked(name, own, {**bundled.options_of(name, weights, list(own)), **options})
        if "gate_reduction" in options:
            hidden_units(width, options["gate_reduction"])  # raises if the first, smallest gates had no hidden units
        return options

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
        downsample: str = DOWNSAMPLES[0],
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        **options: Any,
    ) -> tf.keras.Model:
        options = check(
            weights=weights,
            num_classes=num_classes,
            precision=precision,
            width=width,
            stem=stem,
            downsample=downsample,
            batch_norm_momentum=batch_norm_momentum,
            **options,
        )
        include_top = include_top and not features_only
        # As in keras.applications, a network without top takes images of any size.
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
            input_shape=tuple(image.shape[1:]),
            downsample=downsample,
            **options,
        )

        policy = tf.keras.mixed_precision.global_policy()
        parts = Parts(precision, sign, kernel, policy, downsample, batch_norm_momentum, options)
        with global_policy(policy.variable_dtype):
            x = _stem(parts, image, width, stem, stem_activation)
            names = iter(BLOCK_NAMES)
            features = []
            # Lengths may differ: a shallow network has fewer sections.
            for (multiple, strides), blocks in zip(SECTIONS, _blocks_of_sections, strict=False):
                for i in range(blocks):
                    x = block(parts, x, width * multiple, strides if i == 0 else 1, next(names))
                features.append(x)
            if include_top:
                x = _head(x, num_classes)
        inputs = image if input_tensor is None else tf.keras.utils.get_source_inputs(input_tensor)
        model = tf.keras.Model(inputs, features if features_only else x, name=name)
        if weights_path is not None:
            outside = () if input_tensor is None else tf.keras.Model(inputs, input_tensor).layers
            weights_module.load(model, weights_path, outside=outside)
        return model

    constructor.__name__ = constructor.__qualname__ = name
    descriptions = "".join(f"\n        {argument}: {option.doc}" for argument, option in own.items())
    arguments = _ARGUMENTS.replace("{options}", descriptions).replace("{weights}", NAMES_IN_WORDS)
    arguments = arguments.replace("{downsample}", _DOWNSAMPLE if len(downsamples) > 1 else _REAL_DOWNSAMPLE)
    constructor.__doc__ = doc.rstrip() + "\n" + arguments
    constructor.__signature__ = _signature(constructor, own)  # type: ignore[attr-defined]
    shared = {"downsample": DOWNSAMPLES[0], "batch_norm_momentum": BATCH_NORM_MOMENTUM}
    constructor.defaults = {**shared, **{key: option.default for key, option in own.items()}}  # type: ignore[attr-defined]
    constructor.downsamples = downsamples  # type: ignore[attr-defined]
    constructor.check = check  # type: ignore[attr-defined]
    return constructor  # type: ignore[return-value]  # mypy sees no attributes of functions


def _checked(name: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a network's own options, with defaults for those that are not given."""
    for argument, value in given.items():
        if argument not in known:
            own = f"; its own arguments are {', '.join(known)}" if known else ""
            raise TypeError(f"{name} has no argument {argument!r}{own}.")
        known[argument].check(f"{argument} of {name}", value)
    return {argument: given.get(argument, option.default) for argument, option in known.items()}


def _signature(constructor: Callable[..., Any], options: Mapping[str, Option]) -> inspect.Signature:
    """The constructor's signature, with the network's own options by name."""
    signature = inspect.signature(constructor)
    shared = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=type(option.default))
        for name, option in options.items()
    ]
    return signature.replace(parameters=[*shared, *own])


def intermediates(model: tf.keras.Model) -> dict[str, tf.Tensor]:
    """The symbolic outputs of the eight blocks by name, ``block1`` to ``block8``, and ``logits`` if there is a top.

    Attention matching compares these outputs of teacher and student. Those in ``FEATURE_NAMES`` are the features.

    Raises:
        ValueError: the model has no layer ``block1``, so it is not a network of the zoo.
    """
    layers = {layer.name for layer in model.layers}
    if BLOCK_NAMES[0] not in layers:
        raise ValueError(
            f"Only networks of the zoo have blocks, layers called {BLOCK_NAMES[0]} to {BLOCK_NAMES[-1]}; "
            f"received {model.name}, which has none: build it with r2b_zoo.create."
        )
    names = [
        *(name for name in BLOCK_NAMES if name in layers),
        *(["logits"] if model.layers[-1].name == "probabilities" else []),
    ]
    return {name: model.get_layer(name).output for name in names}


def blocks_of(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The outputs without the logits; ``outputs`` has the names of ``intermediates``."""
    return {name: value for name, value in outputs.items() if name != "logits"}


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
    except ValueError:  # Keras raises it if the value is not a tensor at all, for example an array
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
