"""``r2b cost`` and ``r2b list``."""

from typing import Any, Optional

import click

from r2b_zoo.cli.answers import json_option, print_answer
from r2b_zoo.cli.command import r2b
from r2b_zoo.limits import MOST_WIDTH
from r2b_zoo.weights.named import BUNDLED


@r2b.command(
    short_help="Parameters, bytes and operations of the networks.",
    example="r2b cost\nr2b cost RealToBinaryNet --downsample real --layers\n"
    "r2b cost --input-size 32 --stem cifar --num-classes 10\nr2b cost BNN18 --json",
)
@click.argument("networks", nargs=-1)
@click.option("--input-size", type=click.IntRange(1), default=224, show_default=True, help="Height and width.")
@click.option(
    "--width",
    type=click.IntRange(1, MOST_WIDTH),
    default=64,
    show_default=True,
    help="Channels of the first section.",
)
@click.option("--stem", default="imagenet", show_default=True, help="'imagenet' or 'cifar'.")
@click.option("--num-classes", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--downsample",
    type=click.Choice(("real", "binary", "both")),
    default="both",
    show_default=True,
    help="Kind of convolution in the shortcuts.",
)
@click.option("--layers", is_flag=True, help="A row per layer; JSON has them anyway.")
@json_option
def cost(
    networks: tuple[str, ...], input_size: int, downsample: str, layers: bool, as_json: bool, **arguments: Any
) -> None:
    """Parameters, bytes and operations of the networks (all six unless named), side by side."""
    from r2b_zoo import models
    from r2b_zoo.evaluation import costs, published_costs
    from r2b_zoo.report.tables import console, cost_tables

    arguments["input_shape"] = (input_size, input_size, 3)
    counted = [
        costs.cost(models.create(name, downsample=kind, **arguments))
        for name in networks or models.list_models()
        for kind in models.downsamples(name)
        if downsample in (kind, "both")
    ]
    if not counted:
        raise ValueError(
            f"There is only real downsampling for {', '.join(networks)}: pass --downsample real, or name a network "
            "with binary convolutions."
        )
    if as_json:
        print_answer(published_costs.as_dict(counted))
        return
    for table in cost_tables(counted, layers):
        console().print(table, "")


@r2b.command(
    "list",
    short_help="The networks, weights, recipes and data sets.",
    tensorflow=False,
    example="r2b list\nr2b list RealToBinaryNet\nr2b list cifar10 --json",
)
@click.argument("name", required=False)
@json_option
def list_(name: Optional[str], as_json: bool) -> None:
    """The networks of the zoo, the weights that come with it, the recipes and the data sets.

    With the NAME of a network or of weights, prints their card instead.
    """
    from r2b_zoo import data, recipes
    from r2b_zoo.report.tables import bundled_table, card_table, console, network_table, weights_card_table
    from r2b_zoo.system.suggestions import did_you_mean
    from r2b_zoo.weights import bundled
    from r2b_zoo.weights.cards import CARDS

    out = console()
    if name in BUNDLED:
        weights_card = bundled.card(name)
        if as_json:
            print_answer({"weights": weights_card.as_dict()})
        else:
            out.print(weights_card_table(weights_card))
        return
    if name:
        if name not in CARDS:
            hint = did_you_mean(name, [*CARDS, *BUNDLED])
            raise ValueError(
                f"There is no network {name!r}; the networks are {', '.join(CARDS)}, and the weights that come with "
                f"the package are {', '.join(BUNDLED)}.{hint}"
            )
        if as_json:
            print_answer({"network": CARDS[name].as_dict()})
        else:
            out.print(card_table(CARDS[name]))
        return
    if as_json:
        print_answer(
            {
                "networks": [card.as_dict() for card in CARDS.values()],
                "weights": [card.as_dict() for card in bundled.cards()],
                "recipes": list(recipes.list_recipes()),
                "data_sets": list(data.list_datasets()),
            }
        )
        return
    out.print(network_table(list(CARDS.values())), "")
    out.print(bundled_table(bundled.cards()), "")
    out.print(f"Recipes: {', '.join(recipes.list_recipes())}")
    out.print(f"Data sets: {', '.join(data.list_datasets())}")
