"""Fuses the elementwise operations of a training step into few passes over memory.

Between two convolutions a network multiplies, compares and adds, and every operator of TensorFlow reads and writes all
activations: on a CPU this is most of a step's time besides its convolutions. Here XLA compiles the operations of
neighbouring layers into one pass each, and gradients of the same tensor are added where they are computed.

A layer sees only its input tensor. While the graph of a step is built, layers therefore note what a tensor was computed
from, and the next layer repeats these operations within its own pass. The result of the earlier layer is then no longer
read and drops out of the graph. The values are bit for bit those of the separate layers; gradients of parameters and of
the gate's factors are summed in another order.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import larq as lq
import tensorflow as tf

from r2b_zoo.ops.switch import Switch

# An image is summed in at most this many strips; more are no faster.
_MOST_STRIPS = 8


class _Activated(NamedTuple):
    """PReLU of x (N, H, W, C), or of x times factors (N, 1, 1, C)."""

    x: tf.Tensor
    factors: Optional[tf.Tensor]
    alpha: tf.Tensor


class _Fusion(Switch):
    """Whether layers are fused, and what layers noted about each tensor."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.to_be_signed: set[Any] = set()
        self.averages: dict[Any, tf.Tensor] = {}
        self.products: dict[Any, tuple[tf.Tensor, tf.Tensor]] = {}
        self.activated: dict[Any, _Activated] = {}


_fusion = _Fusion()


@contextlib.contextmanager
def fused_for_training() -> Iterator[None]:
    """Fuses layers that are called within the ``with`` statement, where possible.

    The values are the same, and training is faster, but compiling takes longer. With a GPU nothing is fused, because
    XLA then needs more than TensorFlow installs.
    """
    try:
        with _fusion.set_to(not tf.config.get_visible_devices("GPU")):
            yield
    finally:
        _fusion.forget()


def is_on() -> bool:
    return _fusion.on


def _one_pass(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, jit_compile=True, autograph=False)


# --- sign and average of the same activations -------------------------------------------------------------------------


def announce_sign(x: tf.Tensor) -> None:
    """Notes that the next convolution takes the sign of these activations, whose average a gate may need too."""
    if _fusion.on and None not in x.shape[1:3]:
        _fusion.to_be_signed.add(x.ref())


def sign(x: tf.Tensor, clip_value: float) -> tf.Tensor:
    """The sign, ±1, with the gradient of the identity where |x| ≤ ``clip_value``."""
    x = tf.convert_to_tensor(x)
    limit = tf.cast(clip_value, x.dtype)
    if x.ref() not in _fusion.to_be_signed:
        return _sign_alone(x, limit)
    signs, _fusion.averages[x.ref()] = _sign_and_average(x, limit)
    return signs


def average(x: tf.Tensor) -> tf.Tensor:
    """The average over all rows and columns, whose numbers must be known, (N, H, W, C) → (N, 1, 1, C)."""
    known = _fusion.averages.get(x.ref())
    return _average_alone(x) if known is None else known


@tf.custom_gradient
def _sign_alone(x: tf.Tensor, limit: tf.Tensor) -> Any:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        if tf.executing_eagerly() or x.op.type != "ReadVariableOp":
            return _passed_on(x, upstream, limit), None
        # Weights are clipped in every step, so the whole gradient usually passes, and it is faster to check that.
        within = (tf.reduce_max(x) <= limit) & (tf.reduce_min(x) >= -limit)
        return tf.cond(within, lambda: upstream, lambda: _passed_on(x, upstream, limit)), None

    return _sign(x), gradient


@tf.custom_gradient
def _average_alone(x: tf.Tensor) -> Any:
    # TensorFlow's own gradient sums over all windows of the pool. Here the whole map is the only window, so that
    # broadcasting the gradient gives the same, and is faster.
    return average_pool(x), lambda upstream: tf.broadcast_to(upstream / _area(x), tf.shape(x))


@tf.custom_gradient
def _sign_and_average(x: tf.Tensor, limit: tf.Tensor) -> Any:
    def gradient(of_sign: tf.Tensor, of_average: tf.Tensor) -> tuple[tf.Tensor, None]:
        return _passed_on_with_average(x, of_sign, of_average / _area(x), limit), None

    return (_sign(x), average_pool(x)), gradient


def average_pool(x: tf.Tensor) -> tf.Tensor:
    """The average over all rows and columns as one plain operator, (N, H, W, C) → (N, 1, 1, C)."""
    return tf.nn.avg_pool2d(x, x.shape[1:3], 1, "VALID")


def _area(x: tf.Tensor) -> int:
    return x.shape[1] * x.shape[2]


@_one_pass
def _sign(x: tf.Tensor) -> tf.Tensor:
    return lq.math.sign(x)


@_one_pass
def _passed_on(x: tf.Tensor, upstream: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """The gradient of the sign."""
    return tf.where(tf.abs(x) <= limit, upstream, tf.zeros_like(upstream))


@_one_pass
def _passed_on_with_average(x: tf.Tensor, upstream: tf.Tensor, of_each_pixel: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """The sum of the gradients of sign and average."""
    return _passed_on(x, upstream, limit) + of_each_pixel


# --- gate, PReLU, shortcut --------------------------------------------------------------------------------------------


def note_product(product: tf.Tensor, x: tf.Tensor, factors: tf.Tensor) -> None:
    """Notes the product of a channel gate for ``prelu``: x (N, H, W, C) times factors (N, 1, 1, C) ≥ 0."""
    if _fusion.on:
        _fusion.products[product.ref()] = (x, factors)


def prelu(x: tf.Tensor, alpha: tf.Variable) -> Optional[tf.Tensor]:
    """max(x, 0) + α · min(x, 0); if x is the product of a gate, the same pass computes that product.

    Returns None for arguments without one α per channel, or without a known image size.
    """
    if x.shape.rank != 4 or None in x.shape[1:] or alpha.shape != (1, 1, x.shape[-1]):
        return None
    x, factors = _fusion.products.get(x.ref(), (x, None))
    made_of = _Activated(x, factors, tf.convert_to_tensor(alpha))
    output = _prelu_of(made_of, None)
    _fusion.activated[output.ref()] = made_of
    return output


def add(inputs: Sequence[tf.Tensor]) -> Optional[tf.Tensor]:
    """The sum of two tensors of the same shape, at least one of them from ``prelu``; None for other inputs."""
    if len(inputs) != 2:
        return None
    for value, other in (inputs, inputs[::-1]):
        made_of = _fusion.activated.get(value.ref())
        if made_of is not None and value.shape[1:] == other.shape[1:]:
            return _prelu_of(made_of, other)
    return None


def _prelu_of(made_of: _Activated, shortcut: Optional[tf.Tensor]) -> tf.Tensor:
    given = {"x": made_of.x, "alpha": made_of.alpha, "factors": made_of.factors, "shortcut": shortcut}
    names = [name for name, operand in given.items() if operand is not None]

    @tf.custom_gradient
    def compute(*operands: tf.Tensor) -> Any:
        values = dict(zip(names, operands, strict=True))
        x, alpha, factors = values["x"], values["alpha"], values.get("factors")

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            gradients = {"x": _prelu_gradient(x, alpha, factors, upstream), "shortcut": upstream}
            if factors is None:
                (below,) = _sums_by_sign(x, upstream, (tf.minimum,))
            else:
                above, below = _sums_by_sign(x, upstream, (tf.maximum, tf.minimum))
                gradients["factors"] = tf.where(factors > 0, above + alpha * below, tf.zeros_like(factors))
                below *= factors
            gradients["alpha"] = tf.reshape(tf.reduce_sum(below, 0), alpha.shape)
            return [gradients[name] for name in names]

        return _prelu(x, alpha, factors, values.get("shortcut")), gradient

    return compute(*(given[name] for name in names))


@_one_pass
def _prelu(x: tf.Tensor, alpha: tf.Tensor, factors: Optional[tf.Tensor], shortcut: Optional[tf.Tensor]) -> tf.Tensor:
    if factors is not None:
        x = x * factors
    output = tf.maximum(x, 0) + alpha * tf.minimum(x, 0)
    return output if shortcut is None else output + shortcut


@_one_pass
def _prelu_gradient(x: tf.Tensor, alpha: tf.Tensor, factors: Optional[tf.Tensor], upstream: tf.Tensor) -> tf.Tensor:
    """The gradient with respect to x. At 0 it is 0, like that of Keras' relu(x) - α · relu(-x)."""
    product = x if factors is None else x * factors
    gradient = tf.where(product > 0, upstream, tf.where(product < 0, alpha * upstream, tf.zeros_like(x)))
    return gradient if factors is None else gradient * factors


_Limit = Callable[[tf.Tensor, int], tf.Tensor]


def _sums_by_sign(x: tf.Tensor, upstream: tf.Tensor, limits: tuple[_Limit, ...]) -> list[tf.Tensor]:
    """Σ limit(x, 0) · upstream over the pixels of every image, (N, 1, 1, C), for each limit (minimum or maximum)."""
    strips = _sums_of_strips(x, upstream, limits)
    pixels = strips.shape[2]
    return tf.split(tf.nn.avg_pool2d(strips, (1, pixels), 1, "VALID") * pixels, len(limits), axis=1)


@_one_pass
def _sums_of_strips(x: tf.Tensor, upstream: tf.Tensor, limits: tuple[_Limit, ...]) -> tf.Tensor:
    """The sums of ``_sums_by_sign`` before the sum over the pixels of a strip, (N, limits, pixels of a strip, C).

    XLA is slow at sums over pixels, and writing whole products for another operator to sum is slow too. XLA therefore
    adds a few strips of the image to one strip, and a pooling operator sums the pixels of that strip.
    """
    strips = max(divisor for divisor in range(1, _MOST_STRIPS + 1) if _area(x) % divisor == 0)
    shape = [-1, strips, _area(x) // strips, x.shape[-1]]
    parts, upstreams = (tf.split(tf.reshape(whole, shape), strips, axis=1) for whole in (x, upstream))
    sums = []
    for limit in limits:
        products = [limit(part, 0) * above for part, above in zip(parts, upstreams, strict=True)]
        sums.append(functools.reduce(tf.add, products))
    return tf.concat(sums, axis=1)
