"""The networks by name."""

from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.models.bireal import BiRealNet18
from r2b_zoo.models.bnn import BNN18
from r2b_zoo.models.real_to_binary import RealToBinaryNet, StrongBaselineNet
from r2b_zoo.models.resnet18 import ResNet18
from r2b_zoo.models.topology import Network
from r2b_zoo.models.xnor import XNORNet18
from r2b_zoo.system.suggestions import did_you_mean
from r2b_zoo.weights.cards import CARDS, Card

NETWORKS: dict[str, Network] = {
    network.__name__: network
    for network in (RealToBinaryNet, StrongBaselineNet, BiRealNet18, XNORNet18, BNN18, ResNet18)
}


def list_models(pretrained: Optional[bool] = None) -> list[str]:
    """Names of the networks: all, or only those with (``pretrained`` True) or without (False) published weights."""
    return [name for name in NETWORKS if pretrained is None or CARDS[name].pretrained == pretrained]


def _known(name: str) -> str:
    by_lower_case = {known.lower(): known for known in NETWORKS}
    if name.lower() not in by_lower_case:
        raise ValueError(
            f"There is no network {name!r}; the networks are {', '.join(NETWORKS)}.{did_you_mean(name, NETWORKS)}"
        )
    return by_lower_case[name.lower()]


def card(name: str) -> Card:
    """The card of a network. Raises ValueError for an unknown name; the message lists the known ones."""
    return CARDS[_known(name)]


def options(name: str) -> dict[str, Any]:
    """Defaults of ``downsample``, ``batch_norm_momentum`` and those arguments that not all networks have.

    For example ``{"downsample": "real", "batch_norm_momentum": 0.99, "weight_scale": "none", ...}``.
    """
    return dict(NETWORKS[_known(name)].defaults)


def downsamples(name: str) -> tuple[str, ...]:
    """The values that ``downsample`` of a network may have."""
    return NETWORKS[_known(name)].downsamples


def check(name: str, **arguments: Any) -> None:
    """Raises what ``create`` would raise for these arguments, without building anything.

    ``num_classes``, ``precision``, ``width``, ``stem``, ``downsample`` and ``batch_norm_momentum`` must be given.
    """
    NETWORKS[_known(name)].check(**arguments)


def create(name: str, **arguments: Any) -> tf.keras.Model:
    """Builds a network by name; ``arguments`` are those of its constructor.

    Raises:
        ValueError: the name is unknown (the message lists the known ones), or an argument is not allowed.
    """
    return NETWORKS[_known(name)](**arguments)
