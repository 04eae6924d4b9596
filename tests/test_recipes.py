"""Recipes: what overrides and switches change, and what is refused before anything is trained."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Optional

import pytest
from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo import recipes
from r2b_zoo.recipes import STAGE_NAMES, cifar100
from r2b_zoo.recipes.overrides import parse
from r2b_zoo.recipes.recipe import SMOKE_BATCH, Recipe, Stage, plan_of
from r2b_zoo.runs.later_fields import BEFORE, BEFORE_OF_STAGE, with_later_fields


def plan(*words):
    return recipes.plan("digits", **parse(words))


def differences(changed, plain):
    """The fields that differ, as {"stage.field": (new, old)}; both plans must have stages of the same names."""
    assert [stage.name for stage in changed.stages] == [stage.name for stage in plain.stages]
    found = {}
    for new, old in zip(changed.stages, plain.stages, strict=True):
        before = fields_of(old)
        for field, value in fields_of(new).items():
            if value != before[field]:
                found[f"{new.name}.{field}"] = (value, before[field])
    return found


def fields_of(stage):
    values = asdict(stage)
    weights = values.pop("loss_weights")
    return {**values, **{f"{loss}_weight": weight for loss, weight in weights.items()}}


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("binary.epochs=3", "binary.epochs", 3),
        ("teacher.learning_rate=2e-3", "teacher.learning_rate", 2e-3),
        ("gate=false", "gate", False),
        ("gate=True", "gate", True),
        ("real.initial_weights=none", "real.initial_weights", None),
        ("real.taught_by=teacher", "real.taught_by", "teacher"),
        ("binary.decay_epochs=[1, 2.5]", "binary.decay_epochs", [1, 2.5]),
        ("augmentation='none'", "augmentation", "none"),
        ("stem=", "stem", ""),
        ("stem=a=b", "stem", "a=b"),
    ],
)
def test_words_become_values(word, key, value):
    parsed = parse([word])
    assert parsed == {key: value}
    assert type(parsed[key]) is type(value)


@pytest.mark.parametrize("word", ["gate", "=3", "--gate"])
def test_a_word_that_sets_nothing(word):
    with pytest.raises(ValueError, match=rf"set as key=value, for example binary\.epochs=3; received '{word}'"):
        parse([word])


def test_a_field_that_is_set_twice():
    with pytest.raises(ValueError, match=r"Field 'seed' is set twice"):
        parse(["seed=1", "gate=false", "seed=2"])


def test_the_data_folder_has_two_spellings_and_becomes_an_absolute_path(monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    for word in ("data.dir=photos", "data_dir=photos", f"data_dir={tmp_path}/photos"):
        assert plan(word).data_dir == str(tmp_path / "photos")
    assert recipes.plan("digits", **{"data.dir": "photos"}) == plan("data_dir=photos")
    assert plan("data_dir=gs://bucket/tfds").data_dir == "gs://bucket/tfds"
    assert plan("data_dir=~/photos").data_dir == str(Path("~/photos").expanduser())
    with pytest.raises(ValueError, match=r"Field 'data_dir' is set twice"):
        plan("data.dir=photos", "data_dir=other")


def test_an_override_changes_one_field():
    epochs = plan().stages[-1].epochs
    assert differences(plan("binary.epochs=3"), plan()) == {"binary.epochs": (3, epochs)}
    assert differences(plan("real.weight_decay=1e-4"), plan()) == {"real.weight_decay": (1e-4, 0.0)}
    assert plan("seed=5").seed == 5
    assert plan("width=24").width == 24


def test_a_field_of_the_recipe_holds_for_every_stage_without_its_own():
    changed = plan("batch_size=32", "binary.batch_size=16", "real.augmentation=none")
    assert [stage.batch_size for stage in changed.stages] == [32, 32, 32, 16]
    assert [stage.augmentation for stage in changed.stages] == ["affine", "none", "affine", "affine"]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_unknown_recipe():
    with pytest.raises(ValueError, match=r"There is no recipe 'imagnet'; the recipes are digits, cifar10"):
        recipes.plan("imagnet")


@pytest.mark.parametrize(
    ("field", "suggestion"),
    [("binary.epoch", "binary.epochs"), ("binry.epochs", "binary.epochs"), ("attention_maching", "attention_matching")],
)
def test_an_unknown_field_suggests_near_ones_and_names_all(field, suggestion):
    with pytest.raises(
        ValueError, match=rf"Recipe digits has no field '{field}'\. Did you mean .*{suggestion}"
    ) as error:
        recipes.plan("digits", **{field: 3})
    for known in ("dataset", "progressive", "smoke", "teacher, real, binary_activations, binary", "weight_decay"):
        assert known in str(error.value)


def test_a_field_unlike_all_others_gets_no_suggestion():
    with pytest.raises(ValueError, match=r"Recipe digits has no field 'xyzzy'\. Its fields are dataset, data_dir"):
        recipes.plan("digits", xyzzy=1)


def test_a_stage_is_no_field():
    with pytest.raises(ValueError, match=r"Recipe digits has no field 'binary'"):
        recipes.plan("digits", binary=3)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("binary.epochs=many", "binary.epochs must be a whole number; received 'many'"),
        ("binary.epochs=3.5", r"binary.epochs must be a whole number; received 3\.5"),
        ("gate=maybe", "gate must be true or false; received 'maybe'"),
        (
            "teacher.decay_epochs=4",
            r"teacher.decay_epochs must be a list of numbers, for example \[40,60,70\]; received 4",
        ),
        ("binary.batch_size=big", "binary.batch_size must be a whole number; received 'big'"),
        ("width=none", "width must be a whole number; received None"),
    ],
)
def test_a_value_of_the_wrong_type(word, message):
    with pytest.raises(ValueError, match=message):
        plan(word)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("binary.epochs=0", r"binary\.epochs must be at least 1; received 0"),
        ("real.batch_size=0", r"real\.batch_size must be at least 1; received 0"),
        ("teacher.learning_rate=0.0", r"teacher\.learning_rate must be a number above 0; received 0\.0"),
        ("teacher.learning_rate=1e999", r"teacher\.learning_rate must be a number above 0; received inf"),
        ("real.temperature=-1.0", r"real\.temperature must be a number above 0; received -1\.0"),
        ("real.decay=0.0", r"real\.decay must be a number above 0; received 0\.0"),
        ("binary.weight_decay=-0.1", r"binary\.weight_decay must be a number of at least 0; received -0\.1"),
        ("binary.warmup_epochs=-1.0", r"binary\.warmup_epochs must be a number of at least 0; received -1\.0"),
        (
            "binary.output_matching_weight=-1.0",
            r"binary\.output_matching_weight must be a number of at least 0; received -1",
        ),
        ("teacher.classification_weight=0.0", r"teacher has no loss: one of classification_weight, attention_"),
        ("teacher.attention_matching_weight=1.0", r"teacher has no teacher to match: teacher\.taught_by must name"),
        ("real.taught_by=none", r"real has no teacher to match: real\.taught_by must name an earlier stage"),
        ("real.taught_by=binary", r"real\.taught_by must be None or an earlier stage \(teacher\); received 'binary'"),
        ("teacher.initial_weights=real", r"teacher\.initial_weights must be None or an earlier stage \(none\)"),
        ("strategy=tpu", r"strategy must be one of .none., .mirrored., .multi_worker.; received .tpu."),
        ("mixed_precision=half", r"mixed_precision must be one of .float32., .bfloat16., .float16.; received .half."),
        ("width=0", r"width must be at least 1; received 0"),
        ("image_size=0", r"image_size must be at least 1; received 0"),
        ("real.trained=stem", r"real\.trained must be one of 'all', 'classifier'; received 'stem'"),
        (
            "binary.pretrained=imagenet",
            r"binary starts either from binary\.pretrained or from .* received 'imagenet' and 'binary_act",
        ),
        ("real.batch_norm_statistics=new", r"real\.batch_norm_statistics must be one of 'running', .*; received 'new'"),
        (
            "binary.trained=classifier",
            r"binary\.trained='classifier' keeps the statistics of batch norms, so .* received 'before'",
        ),
        ("binary.mixup=-1.0", r"binary\.mixup must be a number of at least 0; received -1\.0"),
        ("validation=1.0", r"validation must be 0 \(none\) or the share .*, for example 0\.1; received 1\.0"),
        ("seed=-1", r"seed must be in 0–2147483647; received -1"),
        ("seed=2147483648", r"seed must be in 0–2147483647; received 2147483648"),
    ],
)
def test_a_value_out_of_range(word, message):
    with pytest.raises(ValueError, match=message):
        plan(word)


def test_matching_weights_that_are_switched_off_need_no_teacher():
    switched = plan("real.taught_by=none", "attention_matching=false", "output_matching=false")
    assert switched.stages[1].taught_by is None


# --- switches ---------------------------------------------------------------------------------------------------------


def test_the_schedule_of_the_paper():
    plain = plan()
    assert [stage.name for stage in plain.stages] == list(STAGE_NAMES)
    assert [stage.precision for stage in plain.stages] == ["real", "real", "binary_activations", "binary"]
    assert [stage.taught_by for stage in plain.stages] == [None, "teacher", "real", "binary_activations"]
    assert [stage.initial_weights for stage in plain.stages] == [None, None, "real", "binary_activations"]
    assert plain.stages[0].network == "ResNet18"
    assert {stage.network for stage in plain.stages[1:]} == {"RealToBinaryNet"}
    assert [stage.loss_weights["attention_matching"] > 0 for stage in plain.stages] == [False, True, True, False]
    assert [stage.loss_weights["output_matching"] > 0 for stage in plain.stages] == [False, True, True, True]
    assert plain.switched_off == ()


def test_without_gate_the_strong_baseline_is_trained():
    changed = differences(plan("gate=false"), plan())
    assert changed == {f"{name}.network": ("StrongBaselineNet", "RealToBinaryNet") for name in STAGE_NAMES[1:]}
    assert plan("gate=false").switched_off == ("the gate (the learned scale of the strong baseline takes its place)",)


@pytest.mark.parametrize("loss", ["attention_matching", "output_matching"])
def test_without_a_loss_its_weight_is_zero_everywhere(loss):
    plain = plan()
    changed = differences(plan(f"{loss}=false"), plain)
    weights = {stage.name: stage.loss_weights[loss] for stage in plain.stages}
    assert changed == {f"{name}.{loss}_weight": (0.0, weight) for name, weight in weights.items() if weight}
    assert plan(f"{loss}=false").switched_off == (loss.replace("_", " "),)


def test_without_progressive_teachers_weights_still_become_binary_after_activations():
    plain, direct = plan(), plan("progressive=false")
    assert [stage.name for stage in direct.stages] == ["teacher", "binary_activations", "binary"]
    assert [stage.taught_by for stage in direct.stages] == [None, "teacher", "teacher"]
    assert [stage.initial_weights for stage in direct.stages] == [None, None, "binary_activations"]
    for stage, same in zip(direct.stages, (plain.stages[0], *plain.stages[2:]), strict=True):
        own = {"taught_by": stage.taught_by, "initial_weights": stage.initial_weights}
        assert asdict(stage) == {**asdict(same), **own}
    assert direct.switched_off == ("the progressive teachers (the real teacher teaches every student)",)


def test_a_skipped_stage_passes_on_its_teacher_and_weights():
    def who(*words):
        return {stage.name: (stage.taught_by, stage.initial_weights) for stage in plan(*words).stages}

    assert who("real.skip=true") == {
        "teacher": (None, None),
        "binary_activations": ("teacher", None),
        "binary": ("binary_activations", "binary_activations"),
    }
    assert who("real.skip=true", "binary_activations.skip=true") == {
        "teacher": (None, None),
        "binary": ("teacher", None),
    }
    without = "attention_matching=false", "output_matching=false"
    assert who("teacher.skip=true", *without)["real"] == (None, None)
    assert plan("real.skip=true").switched_off == ("stage real",)
    with pytest.raises(
        ValueError, match=r"real has no teacher to match: .* \(for all stages: attention_matching=false"
    ):
        plan("teacher.skip=true")
    with pytest.raises(
        ValueError, match=r"A run needs at least one stage, and teacher, real, .* are left out \(skip=tr"
    ):
        plan(*(f"{name}.skip=true" for name in STAGE_NAMES))


def test_the_folder_of_another_run_becomes_an_absolute_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert plan("teacher.from_run=other").stages[0].from_run == str(tmp_path / "other")


def test_patience_without_a_validation_split_is_pointed_out():
    (note,) = plan("patience=3").notes
    assert note.startswith("patience=3 with validation=0 chooses the best epoch on the test images")
    assert plan("patience=3", "validation=0.1").notes == plan("validation=0.1").notes == ()


# --- the paper --------------------------------------------------------------------------------------------------------

REAL_WEIGHTS = ("teacher", "real", "binary_activations")


@pytest.mark.parametrize(
    ("recipe", "batch_size", "augmentation", "binary_augmentation", "mixup", "epochs", "steps"),
    [
        ("cifar100", 128, "crop_flip_rotate", "crop_flip_rotate", True, 350, (150.0, 250.0, 320.0)),
        ("imagenet", 256, "resized_crop_flip_colour", "resized_crop_flip", False, 75, (40.0, 60.0, 70.0)),
    ],
)
def test_the_papers_numbers(recipe, batch_size, augmentation, binary_augmentation, mixup, epochs, steps):
    stages = {stage.name: stage for stage in recipes.plan(recipe).stages}
    for name, stage in stages.items():
        is_binary = name == "binary"
        assert stage.batch_size == batch_size
        assert stage.augmentation == (binary_augmentation if is_binary else augmentation)
        assert (stage.mixup > 0) == mixup
        assert stage.learning_rate == (2e-4 if is_binary else 1e-3)
        assert stage.l2_penalty == (0.0 if is_binary else 1e-5)
        assert stage.weight_decay == 0.0
        assert stage.warmup_epochs == (0.0 if is_binary else 5.0)
        if name != "teacher":
            assert (stage.epochs, stage.schedule, stage.decay_epochs) == (epochs, "steps", steps)


@pytest.mark.parametrize("recipe", recipes.list_recipes())
def test_the_binary_stage_of_every_recipe_matches_logits_alone_and_has_no_warm_up(recipe):
    whole = recipes.plan(recipe)
    binary = whole.stages[-1]
    assert (binary.loss_weights["attention_matching"], binary.warmup_epochs) == (0.0, 0.0)
    assert binary.loss_weights["output_matching"] > 0
    assert binary.batch_norm_statistics == "before"
    assert whole.options["weight_scale"] == "mean"


def rows_of_table_3():
    """The name and the command-line arguments of each row of table 3, read from the docstring of ``cifar100``."""
    lines = (cifar100.__doc__ or "").splitlines()
    first = next(i for i, line in enumerate(lines) if "stage 1   stage 2" in line) + 1
    rows = lines[first : lines.index("", first)]
    return [
        (row.strip().split("  ")[0], [word for word in words.split() if word != "(none)"])
        for row, words in zip(rows[::2], rows[1::2], strict=True)
    ]


TABLE_3: dict[str, tuple[str, dict[str, tuple[Optional[str], int, int]]]] = {
    # The students' network, and for each stage: its teacher, whether it matches attention, whether it matches logits.
    "strong baseline (SB)": ("StrongBaselineNet", {"binary_activations": (None, 0, 0), "binary": (None, 0, 0)}),
    "SB + attention": ("StrongBaselineNet", {"binary_activations": ("teacher", 1, 0), "binary": ("teacher", 0, 0)}),
    "SB + attention + logit matching": (
        "StrongBaselineNet",
        {"binary_activations": ("teacher", 1, 1), "binary": ("teacher", 0, 1)},
    ),
    "SB + gate": ("RealToBinaryNet", {"binary_activations": (None, 0, 0), "binary": (None, 0, 0)}),
    "SB + progressive": (
        "StrongBaselineNet",
        {"real": ("teacher", 1, 1), "binary_activations": ("real", 1, 1), "binary": ("binary_activations", 0, 1)},
    ),
    "Real-to-Binary": (
        "RealToBinaryNet",
        {"real": ("teacher", 1, 1), "binary_activations": ("real", 1, 1), "binary": ("binary_activations", 0, 1)},
    ),
    "real": ("ResNet18", {}),
    "real with a teacher": ("ResNet18", {"real": ("teacher", 1, 1)}),
}


def test_each_row_of_table_3_is_one_command_line():
    assert [name for name, _ in rows_of_table_3()] == list(TABLE_3)
    for name, words in rows_of_table_3():
        network, expected = TABLE_3[name]
        students = [stage for stage in recipes.plan("cifar100", **parse(words)).stages if stage.name != "teacher"]
        found = {
            stage.name: (
                stage.taught_by,
                int(stage.loss_weights["attention_matching"] > 0),
                int(stage.loss_weights["output_matching"] > 0),
            )
            for stage in students
        }
        assert found == expected, name
        assert {stage.network for stage in students} <= {network}, name
        # Stage binary starts from the weights of binary_activations, and binary_activations from random weights.
        starts = {stage.name: stage.initial_weights for stage in students}
        if "binary" in starts:
            assert (starts["binary_activations"], starts["binary"]) == (None, "binary_activations"), name


# --- records of earlier versions --------------------------------------------------------------------------------------


def recorded(*words):
    """The fields of a run as they were recorded before the fields in ``later_fields`` existed."""
    whole = plan(*words).config
    later = {*BEFORE, *(f"{stage}.{field}" for stage in STAGE_NAMES for field in BEFORE_OF_STAGE)}
    return {key: value for key, value in whole.items() if key not in later}


def test_a_record_without_later_fields_keeps_its_meaning():
    old = recipes.plan("digits", **with_later_fields(recorded("binary.learning_rate=3e-2")))
    assert old.options == {
        "weight_scale": "none",
        "downsample": "real",
        "batch_norm_momentum": 0.99,
        "prelu_slope": 0.0,
        "gate_reduction": 8,
    }
    assert old.loop.validation == 0.0
    assert {stage.batch_norm_statistics for stage in old.stages} == {"running"}
    assert {(stage.mixup, stage.l2_penalty, stage.from_run) for stage in old.stages} == {(0.0, 0.0, None)}
    direct = recipes.plan("digits", **with_later_fields(recorded("progressive=false")))
    assert [(stage.name, stage.taught_by, stage.initial_weights) for stage in direct.stages] == [
        ("teacher", None, None),
        ("binary", "teacher", None),
    ]
    now = plan("weight_scale=learned", "validation=0.1").config
    assert with_later_fields(now) == now


def test_all_switches_together():
    bare = plan("gate=false", "attention_matching=false", "output_matching=false", "progressive=false")
    assert len(bare.switched_off) == 4
    binary = bare.stages[-1]
    assert (binary.network, binary.loss_weights["attention_matching"], binary.loss_weights["output_matching"]) == (
        "StrongBaselineNet",
        0.0,
        0.0,
    )


def test_smoke_is_short_and_otherwise_the_same():
    changed = differences(plan("smoke=true"), plan())
    assert {key.split(".")[1] for key in changed} == {"epochs", "warmup_epochs", "max_steps_per_epoch", "batch_size"}
    assert {stage.batch_size for stage in plan("smoke=true").stages} == {SMOKE_BATCH}
    assert {stage.batch_size for stage in plan("smoke=true", "batch_size=8").stages} == {8}
    assert {(stage.epochs, stage.max_steps_per_epoch) for stage in plan("smoke=true").stages} == {(1, 2)}
    assert {stage.max_steps_per_epoch for stage in plan().stages} == {None}


# --- stages that a recipe declares ------------------------------------------------------------------------------------


@component
class TwoStages(Recipe):
    """A recipe with stages of other names than the paper's."""

    width: int = Field(8)
    warm: Stage = ComponentField(PartialComponent(Stage, trained="classifier", epochs=2, warmup_epochs=0.0))
    cold: Stage = ComponentField(PartialComponent(Stage, initial_weights="warm", epochs=3, warmup_epochs=0.0))


def test_a_recipe_has_the_stages_it_declares():
    two = plan_of(TwoStages, "two", {"cold.epochs": 4, "seed": 1})
    assert [(stage.name, stage.epochs, stage.trained) for stage in two.stages] == [
        ("warm", 2, "classifier"),
        ("cold", 4, "all"),
    ]
    assert {key.split(".")[0] for key in two.config if "." in key} == {"warm", "cold"}
    assert plan_of(TwoStages, "two", two.config) == two
    with pytest.raises(ValueError, match=r"Recipe two has no field 'binary\.epochs'.*of each stage \(warm, cold\)"):
        plan_of(TwoStages, "two", {"binary.epochs": 4})
    with pytest.raises(ValueError, match=r"Recipe two has no field 'progressive'"):
        plan_of(TwoStages, "two", {"progressive": False})


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("gate=false", "seed=3"),
        ("progressive=false", "binary.epochs=2"),
        ("binary.decay_epochs=[1, 2]", "binary.schedule=steps", "real.batch_size=32"),
        ("real.augmentation='none'", "smoke=true", "binary.learning_rate=1"),
    ],
    ids=" ".join,
)
def test_the_configuration_gives_the_same_plan_again(words):
    first = plan(*words)
    again = recipes.plan(first.recipe, **json.loads(json.dumps(first.config)))
    assert again == first


def test_the_configuration_holds_every_field():
    config = plan("binary.epochs=3").config
    assert config["binary.epochs"] == 3
    assert config["gate"] is True
    fields = set(fields_of(plan().stages[0])) - {"name", "max_steps_per_epoch", "batch_size", "augmentation", "mixup"}
    for stage in STAGE_NAMES:
        assert {f"{stage}.{field}" for field in fields} <= set(config)


def test_a_plan_keeps_nothing_of_the_one_before():
    before = plan()
    plan("binary.epochs=3", "gate=false")
    assert plan() == before == recipes.plan()


def test_the_recipes_are_listed_and_the_default_is_among_them():
    assert recipes.list_recipes() == ["digits", "cifar10", "cifar100", "imagenet", "finetune"]
    assert recipes.DEFAULT_RECIPE in recipes.list_recipes()
