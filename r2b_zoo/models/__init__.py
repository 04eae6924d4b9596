"""The networks, one file per paper."""

from r2b_zoo.models.bireal import BiRealNet18
from r2b_zoo.models.bnn import BNN18
from r2b_zoo.models.parts import DOWNSAMPLES, WEIGHT_SCALES
from r2b_zoo.models.real_to_binary import RealToBinaryNet, StrongBaselineNet
from r2b_zoo.models.registry import card, check, create, downsamples, list_models, options
from r2b_zoo.models.resnet18 import ResNet18
from r2b_zoo.models.topology import BLOCK_NAMES, PRECISIONS, STEMS, intermediates
from r2b_zoo.models.xnor import XNORNet18
from r2b_zoo.weights.cards import Card

__all__ = [
    "BLOCK_NAMES",
    "BNN18",
    "DOWNSAMPLES",
    "PRECISIONS",
    "STEMS",
    "WEIGHT_SCALES",
    "BiRealNet18",
    "Card",
    "RealToBinaryNet",
    "ResNet18",
    "StrongBaselineNet",
    "XNORNet18",
    "card",
    "check",
    "create",
    "downsamples",
    "intermediates",
    "list_models",
    "options",
]
