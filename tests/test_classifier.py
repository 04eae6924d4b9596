"""Everything that classifies images: runs, weights files and converted files."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
import pytest

import r2b_zoo
from r2b_zoo import weights
from r2b_zoo.data.imagenet_classes import decode_predictions, imagenet_classes
from r2b_zoo.data.preprocessing import IMAGENET
from r2b_zoo.evaluation import classifier
from r2b_zoo.evaluation.classifier import Classifier
from r2b_zoo.runs.folder import RunFolderError
from tests.converted import converted
from tests.small import SHALLOW, SMALL, shallow, small_network

# Classifiers work in the same way whatever the depth of their network, so two blocks suffice.
pytestmark = pytest.mark.usefixtures("shallow")

SIZE = 32


def load(*arguments, **options) -> Any:
    """Loads a classifier; the result is Any, since the tests use attributes that are None in other classifiers."""
    return r2b_zoo.load(*arguments, **options)


@pytest.fixture
def photograph(rng):
    """Random pixels in place of a photograph, uint8 (60, 80, 3)."""
    return rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_classifies_with_its_last_stage(smoke_run):
    loaded = load(smoke_run.path)
    assert loaded.name.endswith("smoke, stage binary")
    assert loaded.labels == tuple("0123456789")
    assert loaded.model.name == "RealToBinaryNet"
    assert loaded.dataset.name == "digits"
    _, inputs, labels = loaded.dataset.test_sample(355)
    accuracy = np.mean(loaded.probabilities(inputs).argmax(axis=1) == labels)
    assert accuracy == pytest.approx(smoke_run.stage_result("binary")["test_accuracy"], abs=1.5 / 355)


def test_another_stage_of_a_run_can_be_loaded(smoke_run):
    loaded = load(str(smoke_run.path), stage="teacher")
    assert loaded.model.name == "ResNet18"
    saved = weights.read(smoke_run.weights("teacher"))
    np.testing.assert_array_equal(loaded.model.get_layer("logits").get_weights()[0], saved["logits"][0])
    with pytest.raises(ValueError, match=r"has no stage 'student'; its stages are teacher, real, "):
        load(smoke_run.path, stage="student")


@pytest.mark.parametrize("option", [{"network": "ResNet18"}, {"precision": "real"}, {"input_size": 64}])
def test_options_are_refused_where_they_do_not_apply(smoke_run, option):
    ((name, value),) = option.items()
    for reference in (smoke_run.path, smoke_run.tflite_path):
        with pytest.raises(ValueError, match=rf"{name} is not an option of '.*'; received {name}={value!r}"):
            load(reference, **option)
    for reference in (smoke_run.tflite_path, "cifar10", "imagenet"):
        with pytest.raises(ValueError, match=r"stage is not an option of '.*'; received stage='teacher': leave it out"):
            load(reference, stage="teacher")


def test_converted_file_alone_classifies_like_its_run(smoke_run):
    run, file = load(smoke_run.path), load(smoke_run.tflite_path)
    assert file.model is None
    assert file.labels == run.labels
    assert file.preprocessing == run.preprocessing
    images, inputs, _ = run.dataset.test_sample(50)
    image = images[7]
    assert [label for label, _ in file.predict(image, 3)] == [label for label, _ in run.predict(image, 3)]
    np.testing.assert_allclose(file.probabilities(inputs), run.probabilities(inputs), atol=2e-3)


def test_weights_of_a_stage(smoke_run):
    path = smoke_run.weights("binary_activations")
    loaded = load(path, input_size=8)
    assert loaded.model.input_shape == (None, 8, 8, 1)
    assert loaded.labels is None
    run = load(smoke_run.path, stage="binary_activations")
    images, inputs, _ = run.dataset.test_sample(20)
    np.testing.assert_array_equal(loaded.probabilities(inputs), run.probabilities(inputs))
    with pytest.raises(
        ValueError, match=r"weights\.h5 does not record how an image is prepared for it: name a data set instead"
    ):
        loaded.predict(images[0])


# --- weights files ----------------------------------------------------------------------------------------------------


def test_weights_of_another_network_are_recognised(tmp_path):
    weights.save(small_network("BiRealNet18", "binary", SHALLOW), tmp_path / "weights.h5")
    loaded = load(tmp_path / "weights.h5", input_size=SIZE)
    assert loaded.model.name == "BiRealNet18"
    assert loaded.model.input_shape == (None, SIZE, SIZE, 3)
    assert loaded.model.output_shape == (None, 10)


def test_weights_without_a_record_need_the_networks_name(tmp_path):
    small_network("BiRealNet18", "binary", SHALLOW).save_weights(tmp_path / "weights.h5")  # as Keras writes it
    with pytest.raises(
        ValueError, match=r"weights\.h5 does not record which network its weights belong to: name it with --network"
    ):
        load(tmp_path / "weights.h5", input_size=SIZE)
    loaded = load(tmp_path / "weights.h5", network="BiRealNet18", input_size=SIZE)
    assert loaded.model.name == "BiRealNet18"
    with pytest.raises(ValueError, match=r"are for another architecture than BNN18: layer "):
        load(tmp_path / "weights.h5", network="BNN18", input_size=SIZE)


@pytest.fixture(scope="module")
def imagenet_file(tmp_path_factory):
    """Path of weights for ImageNet's classes, of a narrow network, as Keras saves them: without a record."""
    with shallow():
        network = r2b_zoo.RealToBinaryNet(**{**SMALL, "num_classes": 1000})
    path = tmp_path_factory.mktemp("weights") / "imagenet.h5"
    network.save_weights(path)
    return path


def test_weights_for_imagenets_classes(imagenet_file, photograph):
    loaded = load(imagenet_file, input_size=SIZE)
    assert loaded.preprocessing == IMAGENET.with_size(SIZE, SIZE)
    assert loaded.labels[0] == "tench"
    found = loaded.predict(photograph)
    probabilities = loaded.probabilities(loaded.preprocessing(photograph)[np.newaxis])
    (expected,) = decode_predictions(probabilities)
    assert found == [(name, probability) for _, name, probability in expected]
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


def test_weights_without_classifier(tmp_path):
    network = r2b_zoo.RealToBinaryNet(input_shape=(SIZE, SIZE, 3), width=16, stem="cifar", include_top=False)
    weights.save(network, tmp_path / "features.h5")
    with pytest.raises(ValueError, match=r"features\.h5 has no classifier: it holds the weights of a network without"):
        load(tmp_path / "features.h5", input_size=SIZE)


def test_imagenet_loads_the_published_weights(monkeypatch):
    """Replaces ``create``, so that nothing is downloaded, and checks the arguments that it receives."""
    asked, network = [], r2b_zoo.RealToBinaryNet(**{**SMALL, "num_classes": len(imagenet_classes())})

    def create(name, **arguments):
        asked.append((name, arguments))
        return network

    monkeypatch.setattr(classifier.models, "create", create)
    loaded = load("imagenet")
    assert asked == [("RealToBinaryNet", {"weights": "imagenet"})]
    assert loaded.preprocessing == IMAGENET
    assert len(loaded.labels) == len(imagenet_classes())


# --- predictions ------------------------------------------------------------------------------------------------------


class Fixed(Classifier):
    """Returns fixed probabilities, whatever the image."""

    def probabilities(self, images):
        assert images.shape == (1, 224, 224, 3)
        return np.array([[0.1, 0.4, 0.2, 0.2, 0.1]])


def test_labels_are_sorted_by_probability_and_ties_keep_their_order(photograph):
    found = Fixed("fixed", IMAGENET, tuple("abcde")).predict(photograph, top=4)
    assert found == [("b", 0.4), ("c", 0.2), ("d", 0.2), ("a", 0.1)]
    assert len(Fixed("fixed", IMAGENET, tuple("abcde")).predict(photograph, top=9)) == 5


def test_classes_without_names_are_numbered(photograph):
    assert Fixed("fixed", IMAGENET, None).predict(photograph, top=1) == [("class 1", 0.4)]


def test_predictions_that_cannot_be_made(photograph):
    fixed = Fixed("fixed", IMAGENET, None)
    with pytest.raises(ValueError, match=r"top must be at least 1; received 0"):
        fixed.predict(photograph, top=0)
    with pytest.raises(ValueError, match=r"An image must be one array of shape .*received shape \(3,\)"):
        fixed.predict(np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"nameless does not record how an image is prepared for it: name a data"):
        Fixed("nameless", None, None).predict(photograph)


def test_many_threads_share_one_classifier(smoke_run):
    """Eight threads share a converted file, whose interpreter takes one input at a time, and then a Keras model."""
    for loaded in (load(smoke_run.tflite_path), load(smoke_run.path)):
        images = load(smoke_run.path).dataset.test_sample(4)[1]
        expected = [loaded.probabilities(image[np.newaxis]).tolist() for image in images]

        def work(first, loaded=loaded, images=images, expected=expected):
            turns = [(first + step) % len(images) for step in range(6)]
            return [loaded.probabilities(images[i][np.newaxis]).tolist() == expected[i] for i in turns]

        with ThreadPoolExecutor(8) as pool:
            assert all(all(answers) for answers in pool.map(work, range(8)))


def test_classifier_of_a_file_can_be_copied_and_pickled(smoke_run):
    loaded = load(smoke_run.tflite_path)
    inputs = np.zeros((1, 8, 8, 1), np.float32)
    expected = loaded.probabilities(inputs)
    for copied in (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert copied == loaded
        np.testing.assert_array_equal(copied.probabilities(inputs), expected)


def test_number_of_labels_must_match_the_networks_outputs():
    with pytest.raises(ValueError, match=r"net has 10 outputs and 3 labels: name every output"):
        Classifier("net", IMAGENET, tuple("abc"), model=small_network("BiRealNet18", "binary", SHALLOW))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_path_with_nothing_there(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"There is no '.*none\.h5': give 'imagenet', 'cifar10', the folder of a run, a ",
    ):
        load(tmp_path / "none.h5")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no \(finished\) run: there is no config\.json in it"):
        load(tmp_path)


def test_files_that_are_damaged(tmp_path, smoke_run):
    (tmp_path / "half.tflite").write_bytes(smoke_run.tflite_path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"The \.tflite is truncated or altered: "):
        load(tmp_path / "half.tflite")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(ValueError, match=r"text\.h5 cannot be read \(truncated, altered or another format\?\)"):
        load(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
        file.create_group("dense").attrs["weight_names"] = ["kernel"]
        file["dense"]["kernel"] = np.zeros((2, 3))
    with pytest.raises(
        ValueError, match=r"other\.h5 holds no weights of a network of this zoo: it has no layer 'stem_c"
    ):
        load(tmp_path / "other.h5")


# --- data to compare on -----------------------------------------------------------------------------------------------


def test_the_data_set_of_a_run_or_the_one_that_is_named(smoke_run):
    run, file = load(smoke_run.path), load(smoke_run.tflite_path)
    assert classifier.dataset_for(run, None) is run.dataset
    assert classifier.dataset_for(file, "digits").name == "digits"
    with pytest.raises(
        ValueError, match=r"model\.tflite does not record what it was trained on: name a data set, or a folder"
    ):
        classifier.dataset_for(file, None)
    with pytest.raises(ValueError, match=r"There is no data set 'mnist', and no folder of that name; the data sets"):
        classifier.dataset_for(file, "mnist")


def test_a_data_set_of_other_classes():
    with pytest.raises(
        ValueError, match=r"fixed knows 3 classes \(a, b, c, \.\.\.\), which are not those of digits \(0, 1"
    ):
        classifier.dataset_for(Classifier("fixed", IMAGENET, tuple("abc")), "digits")


def all_of(batches):
    return np.concatenate(list(batches))


def test_images_come_from_the_test_split_or_a_folder(smoke_run, tmp_path, photograph):
    from PIL import Image

    run = load(smoke_run.path)
    np.testing.assert_array_equal(all_of(classifier.images_for(run, None, 12)), run.dataset.test_sample(12)[1])
    assert len(all_of(classifier.images_for(run, None, None))) == 355
    (tmp_path / "below").mkdir()
    Image.fromarray(photograph).save(tmp_path / "below" / "b.png")
    Image.fromarray(photograph[:40]).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    found = all_of(classifier.images_for(run, tmp_path, None))
    np.testing.assert_array_equal(found, [run.preprocessing(photograph[:40]), run.preprocessing(photograph)])
    assert len(all_of(classifier.images_for(run, tmp_path, 1))) == 1


def test_missing_or_broken_images_are_refused(smoke_run, tmp_path):
    run = load(smoke_run.path)
    with pytest.raises(ValueError, match=r"There are no images in .*: give a folder that has images"):
        all_of(classifier.images_for(run, tmp_path, None))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image: "):
        all_of(classifier.images_for(run, tmp_path, None))


def test_the_converted_file_of_a_run(smoke_run, tmp_path):
    assert classifier.converted_file(smoke_run.path) == smoke_run.tflite_path
    with pytest.raises(ValueError, match=r"There is no converted file .*model\.tflite: name the file to compare with"):
        classifier.converted_file(tmp_path)


def test_a_file_without_metadata_still_gives_probabilities(tmp_path, rng):
    converted("BiRealNet18", "binary", SHALLOW)[1].save(tmp_path / "bare.tflite")
    loaded = load(tmp_path / "bare.tflite")
    assert loaded.labels is None
    inputs = rng.normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded.probabilities(inputs).sum(axis=1), 1, rtol=1e-5)
