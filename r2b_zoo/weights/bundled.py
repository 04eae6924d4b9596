"""Weights that come with the package: their cards, and the networks they fit.

The cards are stored in the weights files in ``r2b_zoo/weights/data``; ``python -m benchmarks.package_weights`` writes
these files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from r2b_zoo import weights
from r2b_zoo.weights import named
from r2b_zoo.weights.cards import WeightsCard
from r2b_zoo.weights.named import BUNDLED


def card(name: str) -> WeightsCard:
    """The card of weights that come with the package.

    Raises:
        KeyError: no weights of that name come with the package.
        FileNotFoundError, ValueError: the weights' file is missing or damaged.
    """
    path = named.bundled_file(name)
    found = weights.architecture(path)
    return WeightsCard(
        name=name, network=found["network"], arguments=arguments_of(found), bytes=path.stat().st_size, **found["card"]
    )


def cards() -> list[WeightsCard]:
    """The cards of all weights that come with the package."""
    return [card(name) for name in BUNDLED]


def arguments_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments for a network that weights fit; ``found`` is what ``architecture`` returns."""
    return {
        "width": found["width"],
        "stem": found["stem"],
        "input_shape": (*found["size"], found["channels"]),
        "num_classes": found["num_classes"],
        "precision": found["precision"],
        **found["options"],
    }


def options_of(network: str, reference: Any, own: Sequence[str]) -> dict[str, Any]:
    """The values that weights of the package require for a network's own options, which not every network has.

    The constructor uses these values for options that its caller does not give.

    Args:
        network: name of the constructor.
        reference: the constructor's ``weights`` argument.
        own: names of the network's own options, for example ``gate_reduction``.

    Returns:
        Values by name of the option; {} if the weights do not come with the package, or are of another network.
    """
    if not isinstance(reference, str) or reference not in BUNDLED:
        return {}
    found = weights.architecture(named.bundled_file(reference))
    return {key: value for key, value in found["options"].items() if key in own and network == found["network"]}


def locate(network: str, name: str, **arguments: Any) -> Path:
    """The file of weights that come with the package, for a network with these arguments; see ``weights.locate``.

    Raises:
        ValueError: the weights are of another network, or need other arguments.
    """
    path = named.bundled_file(name)
    found = weights.architecture(path)
    if network != found["network"]:
        raise ValueError(f"The weights {name!r} are of {found['network']}, not of {network}.")
    required = arguments_of(found)
    if not arguments["include_top"]:
        # Without top, the network takes images of any size and has no classes.
        del required["input_shape"], required["num_classes"]
        required["channels"] = found["channels"]
    required = {key: value for key, value in required.items() if key in arguments}
    wrong = {key: arguments[key] for key, value in required.items() if not _fits(arguments[key], value)}
    if wrong:
        hint = " To train your own classes on these features, pass include_top=False." * ("num_classes" in wrong)
        raise ValueError(f"weights={name!r} needs {_in_words(required)}; received {_in_words(wrong)}.{hint}")
    return path


def _fits(value: Any, required: Any) -> bool:
    """Whether an argument equals the required one; in a shape, None fits any size."""
    if not isinstance(required, tuple):
        return bool(value == required)
    return len(value) == len(required) and all(a in (None, b) for a, b in zip(value, required, strict=True))


def _in_words(arguments: Mapping[str, Optional[Any]]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
