"""Cards with the facts to know before building a network or using its weights. They do not need TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from r2b_zoo.system.short_repr import short_repr
from r2b_zoo.weights import loading


@dataclass(frozen=True)
class Card:
    """The facts to know before building a network. Accuracies are in percent on ImageNet's validation set.

    Attributes:
        name: name of the constructor.
        paper: authors, title, venue and year.
        url: address of the paper.
        top1: top-1 accuracy as Martínez et al. report it (ICLR 2020, table 2).
        top5: top-5 accuracy from the same table.
        parameters: number of parameters for images of 224×224×3 and 1,000 classes.
        bytes: their size in bytes when deployed, with 1 bit per binary weight and 32 bits per other parameter.
        pretrained_top1: top-1 accuracy of the published weights, as their publisher measured it; None if there are no
            such weights.
        pretrained_top5: their top-5 accuracy.
        pretrained_licence: licence of the published weights.
        input: the network's input, in words: shape, order of colours and preprocessing.
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
        from r2b_zoo.report import html, tables

        return html.together([html.table(tables.card_table(self))])

    @property
    def pretrained(self) -> bool:
        return self.pretrained_top1 is not None

    @property
    def bundled(self) -> "list[WeightsCard]":
        """Cards of the network's weights that come with the package."""
        from r2b_zoo.weights import bundled  # here, because bundled imports this module

        return [card for card in bundled.cards() if card.network == self.name]

    @property
    def weights_url(self) -> Optional[str]:
        return loading.PUBLISHED[self.name, True].url if self.pretrained else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data. Weights that come with the package are only named, since they have their own cards."""
        return {**asdict(self), "weights_url": self.weights_url, "bundled": [card.name for card in self.bundled]}


@dataclass(frozen=True)
class WeightsCard:
    """The facts to know about weights that come with the package.

    Attributes:
        name: name of the weights for ``weights=`` and the commands.
        network: name of the constructor.
        top1: top-1 accuracy of exactly these weights on the test images, in percent.
        top5: their top-5 accuracy.
        data: the data set that the weights were trained and tested on, with its version.
        source: authors, title and year of the data; empty if it has no authors.
        training_images: number of images that the weights were trained on.
        test_images: number of images on which the accuracy was measured.
        bytes: size of the weights' file, in bytes.
        arguments: arguments with which the constructor builds a network that these weights fit.
        class_names: names of the classes, in the order of the outputs.
        preprocessing: fields of the ``Preprocessing`` that turns an image into the network's input.
        trained_top1: ``top1`` at the end of training, before the weights were rounded to bits and 16-bit numbers.
        changed_classes: number of test images whose predicted class the rounding changed.
        largest_logit_difference: largest difference that the rounding made in a logit of a test image.
        logit_deviation: standard deviation of the logits over test images and classes, to compare
            ``largest_logit_difference`` with.
        recipe: the command that trains the weights.
        commit: commit of the code that trained the weights; None if it is not recorded.
        versions: versions of Python and the packages that trained the weights.
        licence: licence of the weights.
        notes: further remarks.
    """

    name: str
    network: str
    top1: float
    top5: float
    data: str
    source: str
    training_images: int
    test_images: int
    bytes: int
    arguments: Mapping[str, Any]
    class_names: Sequence[str]
    preprocessing: Mapping[str, Any]
    trained_top1: float
    changed_classes: int
    largest_logit_difference: float
    logit_deviation: float
    recipe: str
    commit: Optional[str]
    versions: Mapping[str, str]
    licence: str
    notes: Sequence[str]

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from r2b_zoo.report import html, tables

        return html.together([html.table(tables.weights_card_table(self))])

    @property
    def call(self) -> str:
        """The Python code that builds the network with these weights."""
        given = ("width", "stem", "input_shape", "num_classes")
        words = ", ".join(f"{key}={self.arguments[key]!r}" for key in given)
        return f"{self.network}(weights={self.name!r}, {words})"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the Python code that builds the network."""
        return {**asdict(self), "call": self.call}


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
