"""Lets a run take finished stages from another run, instead of training them again."""

import json
import shutil
from typing import TYPE_CHECKING

from r2b_zoo import weights
from r2b_zoo.runs import checkpoints
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.runs.plans import Plan, StagePlan
from r2b_zoo.system import files

if TYPE_CHECKING:
    import tensorflow as tf


def check(stage: StagePlan, plan: Plan, network: "tf.keras.Model") -> None:
    """Raises ValueError if the other run's stage cannot replace this one; writes nothing.

    Args:
        stage: a stage with ``from_run``.
        plan: the plan of the run that takes the stage.
        network: the network of ``stage``; its weights are overwritten.
    """
    assert stage.from_run is not None, "there is a run to take the stage from"
    other = RunFolder(stage.from_run)
    rule = f"{stage.name}.from_run must be the folder of a run whose stage {stage.name} is finished and fits"
    try:
        others = other.plan()
        if stage.name not in [planned.name for planned in others.stages]:
            raise ValueError(f"that run has only {', '.join(planned.name for planned in others.stages)}.")
        if not other.is_finished(stage.name):
            raise ValueError(f"stage {stage.name} of that run is not finished.")
        if others.dataset != plan.dataset:
            raise ValueError(f"that run is on {others.dataset} and this one on {plan.dataset}.")
        if plan.loop.validation and others.loop.validation != plan.loop.validation:
            raise ValueError(
                f"that run has validation={others.loop.validation} and this one {plan.loop.validation}, so it has "
                "trained on images that this one holds out."
            )
        weights.load(network, other.weights(stage.name))
    except (ValueError, OSError, RunFolderError) as error:
        raise ValueError(f"{rule}; received {stage.from_run}: {error}") from None


def take(stage: StagePlan, folder: RunFolder) -> None:
    """Copies the other run's stage, so that this run does not depend on the other's folder.

    Raises:
        RunFolderError: the other stage can no longer be read, or this run's folder cannot be written.
    """
    assert stage.from_run is not None, "there is a run to take the stage from"
    other = RunFolder(stage.from_run)
    result = {**other.stage_result(stage.name), "from_run": stage.from_run}
    with folder.new_stage(stage.name) as partial, folder.writing():
        shutil.copytree(other.stage(stage.name), partial, dirs_exist_ok=True)
        files.write_text(partial / "result.json", json.dumps(result, indent=2))
        # At the end, ``new_stage`` deletes the stage's folder of checkpoints, and fails if there is none.
        (partial / checkpoints.FOLDER_NAME).mkdir(exist_ok=True)
