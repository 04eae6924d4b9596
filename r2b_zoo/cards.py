"""A card for each network: what a user asks before building it. Plain data, without TensorFlow."""

from dataclasses import dataclass
from typing import Optional

from r2b_zoo import weights
from r2b_zoo.short_repr import short_repr


@dataclass(frozen=True)
class Card:
    """What a user asks of a network before building it. Accuracies are in percent on ImageNet's validation set.

    Attributes:
        name: of the constructor.
        paper: authors, title, place and year.
        url: of the paper.
        top1: as Martínez et al. report it (ICLR 2020, table 2).
        top5: the same.
        parameters: for 224×224×3 and 1,000 classes.
        bytes: of the weights as deployed, 1 bit per binary one, for the same.
        pretrained_top1: of the published weights, as their publisher measured it; None where there are none.
        pretrained_top5: the same.
        pretrained_licence: of the published weights.
        input: what the network takes.
    """

    name: str
    paper: str
    url: str
    top1: float
    top5: float
    parameters: int
    bytes: int
    pretrained_top1: Optional[float] = None
    pretrained_top5: Optional[float] = None
    pretrained_licence: Optional[str] = None
    input: str = "224×224×3 RGB, as preprocess_input makes it"

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from r2b_zoo import html, tables

        return html.together([html.table(tables.card_table(self))])

    @property
    def pretrained(self) -> bool:
        return self.pretrained_top1 is not None

    @property
    def weights_url(self) -> Optional[str]:
        return weights.PUBLISHED[self.name, True].url if self.pretrained else None


_R2B_PAPER = "Martínez, Yang, Bulat, Tzimiropoulos: Training binary neural networks with real-to-binary convolutions"
_R2B_URL = "https://openreview.net/forum?id=BJg4NgBKvH"

CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card(
            name="RealToBinaryNet",
            paper=f"{_R2B_PAPER}, ICLR 2020",
            url=_R2B_URL,
            top1=65.4,
            top5=86.2,
            parameters=11_995_624,
            bytes=5_413_792,
            pretrained_top1=65.01,
            pretrained_top5=85.72,
            pretrained_licence="Apache-2.0",
        ),
        Card(
            name="StrongBaselineNet",
            paper=f"{_R2B_PAPER}, ICLR 2020, section 4.1",
            url=_R2B_URL,
            top1=60.9,
            top5=83.0,
            parameters=11_705_904,
            bytes=4_254_912,
        ),
        Card(
            name="BiRealNet18",
            paper="Liu, Wu, Luo, Yang, Liu, Cheng: Bi-Real Net, ECCV 2018",
            url="https://arxiv.org/abs/1808.00278",
            top1=56.4,
            top5=79.5,
            parameters=11_699_112,
            bytes=4_227_744,
            pretrained_top1=57.47,
            pretrained_top5=79.84,
            pretrained_licence="Apache-2.0",
        ),
        Card(
            name="XNORNet18",
            paper="Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, ECCV 2016",
            url="https://arxiv.org/abs/1603.05279",
            top1=51.2,
            top5=73.2,
            parameters=11_697_320,
            bytes=4_220_576,
        ),
        Card(
            name="BNN18",
            paper="Courbariaux, Hubara, Soudry, El-Yaniv, Bengio: Binarized neural networks, NeurIPS 2016",
            url="https://arxiv.org/abs/1602.02830",
            top1=42.2,
            top5=69.2,
            parameters=11_699_112,
            bytes=4_227_744,
        ),
        Card(
            name="ResNet18",
            paper="He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016",
            url="https://arxiv.org/abs/1512.03385",
            top1=69.3,
            top5=89.2,
            parameters=11_699_112,
            bytes=46_796_448,
        ),
    )
}
