"""Weights that come with the package: in the constructor, the commands and fine-tuning, and their accuracy."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import r2b_zoo
from r2b_zoo import data, recipes, weights
from r2b_zoo.evaluation import classifier, verification
from r2b_zoo.recipes.finetune import PRETRAINED_STAGES
from r2b_zoo.runs import pretrained
from r2b_zoo.weights import bundled, named
from r2b_zoo.weights.cards import CARDS
from tests.conftest import TEST_DATA, skip_without
from tests.photo_folder import write_photographs

# The first two images of each class in CIFAR-10's test split, in two rows, with a column per class.
SAMPLE = Path(__file__).parent / "data" / "cifar10_test.png"
NAMES = sorted(named.BUNDLED)


@pytest.fixture(scope="module")
def card():
    return bundled.card("cifar10")


@pytest.fixture(scope="module")
def loaded():
    return classifier.load("cifar10")


@pytest.fixture(scope="module")
def sample(loaded):
    """The 20 images of ``SAMPLE``, preprocessed, and their labels."""
    sheet = np.asarray(Image.open(SAMPLE))
    tiles = sheet.reshape(2, 32, 10, 32, 3).transpose(2, 0, 1, 3, 4).reshape(20, 32, 32, 3)
    return np.stack([loaded.preprocessing(tile) for tile in tiles]), np.arange(20) // 2


def needed(card):
    return {key: card.arguments[key] for key in ("width", "stem", "input_shape", "num_classes")}


# --- what they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_say_what_they_are(name):
    card = bundled.card(name)
    assert card.bytes == named.bundled_file(name).stat().st_size <= 1_000_000
    assert len(card.class_names) == card.arguments["num_classes"]
    assert 100 / len(card.class_names) < card.top1 <= card.top5 <= 100
    assert abs(card.top1 - card.trained_top1) <= 0.5
    assert card.licence == "Apache-2.0"
    assert card.commit is None or re.fullmatch("[0-9a-f]{40}", card.commit)
    assert str(TEST_DATA) not in card.recipe
    # The recipe that the card's command names exists, and its last stage trains the card's network.
    words = dict(word.split("=") for word in card.recipe.removeprefix("r2b train ").split())
    plan = recipes.plan(words["recipe"])
    assert plan.stages[-1].network == card.network


def test_accuracy_on_twenty_images_fits_the_card(loaded, sample, card):
    images, labels = sample
    correct = (loaded.probabilities(images).argmax(axis=1) == labels).sum()
    share = card.top1 / 100
    # The limit is three standard deviations below the card's accuracy; guessing would give two of twenty.
    assert correct >= 20 * share - 3 * np.sqrt(20 * share * (1 - share))


@pytest.mark.slow
def test_the_card_has_the_accuracy_on_the_test_split(loaded, card):
    skip_without("cifar10")
    from r2b_zoo.evaluation.accuracy import evaluate_batches

    dataset = classifier.dataset_for(loaded, "cifar10", TEST_DATA)
    found = evaluate_batches(loaded.probabilities, dataset.test_batches(200))
    assert found.images == card.test_images
    # Another machine may add in another order, which changes the last bits of sums and thereby some signs.
    assert 100 * found.top1 == pytest.approx(card.top1, abs=0.1)
    assert 100 * found.top5 == pytest.approx(card.top5, abs=0.1)


def test_a_missing_file(monkeypatch, tmp_path):
    monkeypatch.setattr(named.resources, "files", lambda package: tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"The weights 'cifar10' come with r2b_zoo, but .*zip is missing: reins"
    ):
        bundled.card("cifar10")


def test_a_damaged_file(monkeypatch, tmp_path):
    damaged = named.bundled_file("cifar10").read_bytes()[:-1000]
    (tmp_path / named.FOLDER).mkdir(parents=True)
    (tmp_path / named.FOLDER / named.BUNDLED["cifar10"]).write_bytes(damaged)
    monkeypatch.setattr(named.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"cannot be read \(truncated or altered\?\): take another copy of the file"):
        classifier.load("cifar10")


# --- the constructor --------------------------------------------------------------------------------------------------


def test_the_constructor_takes_the_options_of_the_weights(loaded, sample, card):
    model = r2b_zoo.create(card.network, weights="cifar10", **needed(card))
    np.testing.assert_array_equal(model.predict(sample[0], verbose=0), loaded.probabilities(sample[0]))
    assert (weights.record_of(model).options or {}).items() <= card.arguments.items()
    assert eval(card.call, {card.network: lambda **arguments: arguments}) == {"weights": "cifar10", **needed(card)}


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"width": 48}, r"received width=48\.$"),
        ({"stem": "imagenet"}, r"received stem='imagenet'\.$"),
        ({"input_shape": (224, 224, 3)}, r"received input_shape=\(224, 224, 3\)\.$"),
        ({"input_shape": None, "width": 48}, r"received width=48, input_shape=\(224, 224, 3\)\.$"),
        ({"num_classes": 7}, r"received num_classes=7\. To train your own classes .*pass include_top=False\.$"),
        ({"precision": "real"}, r"received precision='real'\.$"),
        ({"weight_scale": "learned"}, r"received weight_scale='learned'\.$"),
        ({"gate_reduction": 2}, r"received gate_reduction=2\.$"),
        ({"include_top": False, "input_shape": (32, 32, 1)}, r"received channels=1\.$"),
    ],
)
def test_arguments_that_do_not_fit_the_weights_are_refused(card, changes, received):
    required = re.escape(f"weights='cifar10' needs width={card.arguments['width']}, stem='cifar', ")
    with pytest.raises(ValueError, match=f"^{required}.*; {received}"):
        r2b_zoo.create(card.network, weights="cifar10", **{**needed(card), **changes})


def test_weights_of_another_network(card):
    with pytest.raises(ValueError, match=f"The weights 'cifar10' are of {card.network}, not of BiRealNet18"):
        r2b_zoo.BiRealNet18(weights="cifar10", **needed(card))
    with pytest.raises(ValueError, match="are for another architecture than BNN18: layer"):
        classifier.load("cifar10", network="BNN18")


def test_features_of_images_of_any_size(card, loaded, sample):
    size = {"width": card.arguments["width"], "stem": card.arguments["stem"]}
    features = r2b_zoo.create(card.network, weights="cifar10", include_top=False, **size)
    assert features.input_shape == (None, None, None, 3)
    np.testing.assert_array_equal(
        features.get_layer("stem_conv").get_weights()[0], loaded.model.get_layer("stem_conv").get_weights()[0]
    )
    assert features(sample[0][:1, :20]).shape[-1] == 8 * size["width"]


# --- the commands -----------------------------------------------------------------------------------------------------


def test_list_shows_bundled_weights(r2b, card):
    ended = r2b("list")
    assert ended.status == 0, ended.err
    assert f"cifar10 {card.network}, width {card.arguments['width']} {card.top1:.2f} %" in ended.words
    shown = r2b("list", "cifar10")
    assert shown.status == 0, shown.err
    for part in (card.recipe, f"{card.top1:.2f} %", card.data, card.licence, "Krizhevsky", f"{card.bytes:,}"):
        assert part in shown.words, part
    of_network = r2b("list", card.network)
    assert f"cifar10: top-1 {card.top1:.2f} % on CIFAR-10" in of_network.words


def test_cards_have_a_text_and_an_html_form(card):
    assert repr(card).startswith(f"WeightsCard(name='cifar10', network='{card.network}', top1={card.top1}, ")
    assert "data='CIFAR-10, 32×32" in repr(card)
    assert "source='Krizhevsky" in repr(card)
    assert f"{card.top1:.2f} %" in card._repr_html_()
    assert "cifar10: top-1" in CARDS[card.network]._repr_html_()
    assert CARDS["BNN18"].bundled == []


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_help_names_all_weights(r2b, command):
    assert named.NAMES_IN_WORDS == "'imagenet', 'cifar10'"
    assert named.NAMES_IN_WORDS in r2b(command, "--help").words


def test_predict(r2b, loaded):
    tile = Image.open(SAMPLE)
    ended = r2b("predict", SAMPLE, "--model", "cifar10", "--top", 3)
    assert ended.status == 0, ended.err
    expected = loaded.predict(np.asarray(tile), top=3)
    assert ended.out == "".join(f"{100 * p:6.2f} %  {name}\n" for name, p in expected)


def test_the_converted_file_agrees_with_the_keras_model(r2b, loaded, sample, tmp_path):
    ended = r2b("export", "cifar10", tmp_path / "cifar10.tflite")
    assert ended.status == 0, ended.err
    file = (tmp_path / "cifar10.tflite").read_bytes()
    result = verification.verify(
        loaded.model, file, [sample[0]], labels=loaded.labels, preprocessing=loaded.preprocessing
    )
    assert result.passed, result.summary()
    assert result.images == 20
    assert classifier.load(tmp_path / "cifar10.tflite").labels == loaded.labels


def test_evaluate(r2b, loaded, sample, tmp_path):
    """Evaluates on the 20 images in a folder per class, on data of other classes, and without naming data."""
    images = loaded.preprocessing.pixels(sample[0]).numpy().round().astype(np.uint8)
    for i, (image, label) in enumerate(zip(images, sample[1], strict=True)):
        path = tmp_path / loaded.labels[label] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    ended = r2b("evaluate", "cifar10", f"data={tmp_path}", "split=all")
    assert ended.status == 0, ended.err
    correct = (loaded.probabilities(sample[0]).argmax(axis=1) == sample[1]).mean()
    assert f"top-1 {100 * correct:.1f} %, top-5 " in ended.words
    assert ended.words.startswith("cifar10 on ")
    ended = r2b("evaluate", "cifar10", "data=digits")
    assert ended.status == 1
    assert "cifar10 knows 10 classes (airplane, automobile, bird, ...), which are not those of digits" in ended.err
    ended = r2b("evaluate", "cifar10")
    assert "cifar10 does not record what it was trained on: name a data set, or a folder of photographs" in ended.err


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def test_fine_tuning_takes_network_size_and_preprocessing(card):
    plan = recipes.plan("finetune", weights="cifar10")
    assert tuple(stage.name for stage in plan.stages) == PRETRAINED_STAGES
    assert (plan.width, plan.stem, plan.image_size) == (card.arguments["width"], card.arguments["stem"], None)
    assert plan.preprocessing == card.preprocessing
    assert plan.options["gate_reduction"] == card.arguments["gate_reduction"]
    assert plan.stages[0].pretrained == "cifar10"
    model = r2b_zoo.create(card.network, **{**card.arguments, "num_classes": 2})
    pretrained.load(model, "cifar10", width=plan.width, stem=plan.stem, precision="binary")
    expected = weights.read(named.bundled_file("cifar10"))
    np.testing.assert_array_equal(model.get_layer("stem_conv").get_weights()[0], expected["stem_conv"][0])
    assert model.get_layer("logits").get_weights()[0].shape[-1] == 2


@pytest.mark.slow
def test_fine_tuning_trains(tmp_path, r2b):
    photos = write_photographs(tmp_path / "photos", number=6)
    words = [f"data.dir={photos}", "weights=cifar10", "--smoke", "--output", tmp_path / "run"]
    ended = r2b("train", "recipe=finetune", *words)
    assert ended.status == 0, ended.err
    run = classifier.load(tmp_path / "run")
    assert run.preprocessing == classifier.load("cifar10").preprocessing


def test_the_recipe_for_cifar10_does_not_start_from_the_weights_of_that_name():
    assert "cifar10" in data.list_datasets()
    assert recipes.plan("cifar10").stages[0].pretrained is None
