"""r2b_zoo: 1-bit neural networks that people actually use.

Importing the package selects Keras 2, but does not load TensorFlow: the first use of a name that needs TensorFlow does.
The layers of the zoo are registered with Keras as soon as Keras is imported, so that ``load_model`` finds them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from r2b_zoo.identity import __version__
from r2b_zoo.system.keras_version import select_keras_2
from r2b_zoo.system.registration import register_layers_with_keras

select_keras_2()

# public name → the module to import it from
_HOMES = {
    "RealToBinaryNet": "r2b_zoo.models",
    "StrongBaselineNet": "r2b_zoo.models",
    "ResNet18": "r2b_zoo.models",
    "BiRealNet18": "r2b_zoo.models",
    "XNORNet18": "r2b_zoo.models",
    "BNN18": "r2b_zoo.models",
    "card": "r2b_zoo.models",
    "create": "r2b_zoo.models",
    "intermediates": "r2b_zoo.models",
    "list_models": "r2b_zoo.models",
    "convert": "r2b_zoo.conversion.converter",
    "Classifier": "r2b_zoo.evaluation.classifier",
    "load": "r2b_zoo.evaluation.classifier",
    "cost": "r2b_zoo.evaluation.costs",
    "verify": "r2b_zoo.evaluation.verification",
    "train": "r2b_zoo.run",
    "Run": "r2b_zoo.run",
    "attention_maps": "r2b_zoo.run",
    "decode_predictions": "r2b_zoo.data.imagenet_classes",
    "IMAGENET": "r2b_zoo.data.preprocessing",
    "preprocess_input": "r2b_zoo.data.preprocessing",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from r2b_zoo.conversion.converter import convert
    from r2b_zoo.data.imagenet_classes import decode_predictions
    from r2b_zoo.data.preprocessing import IMAGENET, preprocess_input
    from r2b_zoo.evaluation.classifier import Classifier, load
    from r2b_zoo.evaluation.costs import cost
    from r2b_zoo.evaluation.verification import verify
    from r2b_zoo.models import (
        BNN18,
        BiRealNet18,
        RealToBinaryNet,
        ResNet18,
        StrongBaselineNet,
        XNORNet18,
        card,
        create,
        intermediates,
        list_models,
    )
    from r2b_zoo.run import Run, attention_maps, train


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'r2b_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


register_layers_with_keras()
