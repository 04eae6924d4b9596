"""The recipes: each experiment has a file, which describes its stages as data."""

from typing import Any

from r2b_zoo.recipes.cifar10 import Cifar10
from r2b_zoo.recipes.cifar100 import Cifar100
from r2b_zoo.recipes.digits import Digits
from r2b_zoo.recipes.finetune import FineTune
from r2b_zoo.recipes.imagenet import ImageNet
from r2b_zoo.recipes.recipe import STAGE_NAMES, Recipe, plan_of
from r2b_zoo.runs.plans import LoopPlan, Plan, StagePlan
from r2b_zoo.system.suggestions import did_you_mean

RECIPES: dict[str, type[Recipe]] = {
    "digits": Digits,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "imagenet": ImageNet,
    "finetune": FineTune,
}
DEFAULT_RECIPE = "digits"

__all__ = [
    "DEFAULT_RECIPE",
    "RECIPES",
    "STAGE_NAMES",
    "LoopPlan",
    "Plan",
    "Recipe",
    "StagePlan",
    "list_recipes",
    "plan",
]


def list_recipes() -> list[str]:
    return list(RECIPES)


def plan(name: str = DEFAULT_RECIPE, **overrides: Any) -> Plan:
    """The plan of a recipe, with checked values, from which a run trains.

    Args:
        name: name of the recipe, one of ``list_recipes()``.
        **overrides: new values of the recipe's fields; those of a stage's fields as ``**{"binary.epochs": 3}``.

    Raises:
        ValueError: the recipe or a field is unknown (the message lists the known ones), or a value is not allowed.
    """
    if name not in RECIPES:
        raise ValueError(
            f"There is no recipe {name!r}; the recipes are {', '.join(RECIPES)}.{did_you_mean(name, RECIPES)}"
        )
    return plan_of(RECIPES[name], name, overrides)
