"""The networks by name, and a card for each."""

from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo import weights
from r2b_zoo.models.bireal import BiRealNet18
from r2b_zoo.models.bnn import BNN18
from r2b_zoo.models.real_to_binary import RealToBinaryNet, StrongBaselineNet
from r2b_zoo.models.resnet18 import ResNet18
from r2b_zoo.models.topology import Network
from r2b_zoo.models.xnor import XNORNet18


@dataclass(frozen=True)
class Card:
    """What a user asks of a network before building it. Accuracies are in percent on ImageNet's validation set."""

    name: str
    paper: str
    url: str
    top1: float
    """As Martínez et al. report it (ICLR 2020, table 3)."""
    top5: float
    input: str = "224×224×3, RGB, preprocess_input"
    pretrained_top1: Optional[float] = None
    """Of the published weights, as their publisher measured it; None where there are none."""
    pretrained_top5: Optional[float] = None
    pretrained_licence: Optional[str] = None

    @property
    def pretrained(self) -> bool:
        return self.pretrained_top1 is not None

    @property
    def weights_url(self) -> Optional[str]:
        return weights.PUBLISHED[self.name, True].url if self.pretrained else None


_R2B_PAPER = "Martínez, Yang, Bulat, Tzimiropoulos: Training binary neural networks with real-to-binary convolutions"
_R2B_URL = "https://openreview.net/forum?id=BJg4NgBKvH"

NETWORKS: dict[str, tuple[Network, Card]] = {
    card.name: (constructor, card)
    for constructor, card in (
        (
            RealToBinaryNet,
            Card(
                name="RealToBinaryNet",
                paper=f"{_R2B_PAPER}, ICLR 2020",
                url=_R2B_URL,
                top1=65.4,
                top5=86.2,
                pretrained_top1=65.01,
                pretrained_top5=85.72,
                pretrained_licence="Apache-2.0",
            ),
        ),
        (
            StrongBaselineNet,
            Card(
                name="StrongBaselineNet",
                paper=f"{_R2B_PAPER}, ICLR 2020, section 4.1",
                url=_R2B_URL,
                top1=60.9,
                top5=83.0,
            ),
        ),
        (
            BiRealNet18,
            Card(
                name="BiRealNet18",
                paper="Liu, Wu, Luo, Yang, Liu, Cheng: Bi-Real Net, ECCV 2018",
                url="https://arxiv.org/abs/1808.00278",
                top1=56.4,
                top5=79.5,
            ),
        ),
        (
            XNORNet18,
            Card(
                name="XNORNet18",
                paper="Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, ECCV 2016",
                url="https://arxiv.org/abs/1603.05279",
                top1=51.2,
                top5=73.2,
            ),
        ),
        (
            BNN18,
            Card(
                name="BNN18",
                paper="Courbariaux, Hubara, Soudry, El-Yaniv, Bengio: Binarized neural networks, NeurIPS 2016",
                url="https://arxiv.org/abs/1602.02830",
                top1=42.2,
                top5=67.1,
            ),
        ),
        (
            ResNet18,
            Card(
                name="ResNet18",
                paper="He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016",
                url="https://arxiv.org/abs/1512.03385",
                top1=69.3,
                top5=89.2,
            ),
        ),
    )
}


def list_models(pretrained: Optional[bool] = None) -> list[str]:
    """Names of the networks; with ``pretrained`` only those that have (or do not have) published weights."""
    return [name for name, (_, card) in NETWORKS.items() if pretrained is None or card.pretrained == pretrained]


def _find(name: str) -> tuple[Network, Card]:
    by_lower_case = {known.lower(): entry for known, entry in NETWORKS.items()}
    if name.lower() not in by_lower_case:
        raise ValueError(f"There is no network {name!r}; the networks are {', '.join(NETWORKS)}.")
    return by_lower_case[name.lower()]


def card(name: str) -> Card:
    """The card of a network. Raises ValueError, listing the known names, for an unknown one."""
    return _find(name)[1]


def create(name: str, **arguments: Any) -> tf.keras.Model:
    """Builds a network by name; ``arguments`` are those of its constructor.

    Raises:
        ValueError: the name is unknown (lists the known ones), or an argument is not allowed.
    """
    return _find(name)[0](**arguments)
