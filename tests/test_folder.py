"""A folder of the user's photographs: which files are read, how they are split and decoded, and what is refused."""

import io
import os
import shutil
import socket
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import r2b_runtime
from PIL import Image

from r2b_zoo import data
from r2b_zoo.data import folder as module
from r2b_zoo.data.dataset import left_out
from r2b_zoo.data.images import PILLOW_DCT, Header, read_image
from tests.passes import check_changes, check_epochs, one_pass, same

SIZE = 48


def load(path, **options):
    return data.load("folder", path, **{"image_size": SIZE, **options})


def picture(seed, height=40, width=56):
    """A smooth RGB image with many colours."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def write_classes(root: Path, classes=("cat", "dog", "newt"), number=20, suffix=".jpg") -> Path:
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(number):
            picture(1000 * c + i).save(root / name / f"{i:03}{suffix}")
    return root


HIDDEN = ("@eaDir", "System Volume Information", "lost+found", "__MACOSX", "$RECYCLE.BIN", ".thumbnails", "#recycle")


@pytest.fixture
def pictures(tmp_path):
    return write_classes(tmp_path / "pictures")


def files_of(photographs, root):
    return [str(photograph.path.relative_to(root)) for photograph in photographs]


# --- every kind of image ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Three classes with every kind of image, and two files that cannot be read."""
    root = write_classes(tmp_path_factory.mktemp("mixed") / "mixed", number=20)
    image = picture(1)
    image.convert("L").save(root / "cat" / "grey.jpg")
    image.convert("CMYK").save(root / "cat" / "cmyk.jpg")
    image.save(root / "cat" / "png.PNG")
    image.convert("L").save(root / "cat" / "grey.png")
    image.convert("RGBA").save(root / "dog" / "rgba.png")
    image.convert("P").save(root / "dog" / "palette.png")
    image.save(root / "dog" / "bitmap.bmp")
    image.save(root / "dog" / "webp.webp", lossless=True)
    image.save(root / "dog" / "gif.gif")
    image.save(root / "newt" / "progressive.jpeg", progressive=True, quality=60)
    grey = np.asarray(image.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(root / "newt" / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(root / "newt" / "turned.jpg", exif=exif)
    (root / "newt" / "text.jpg").write_text("no image")
    whole = io.BytesIO()
    image.save(whole, "JPEG")
    (root / "cat" / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    return root


def test_every_kind_of_image_is_read_and_unreadable_files_are_named(mixed):
    dataset = load(mixed)
    assert dataset.class_names == ("cat", "dog", "newt")
    assert dataset.num_classes == 3
    assert dataset.train_size + dataset.test_size == 72
    truncated, text = dataset.skipped
    assert truncated.startswith("cat/truncated.jpg is left out: ")
    assert "truncated" in truncated
    assert text.startswith("newt/text.jpg is left out: cannot identify image file")


def test_batches_hold_the_preprocessed_files_bit_for_bit(mixed):
    dataset = load(mixed)
    images, labels = one_pass(dataset.test_batches(16))
    expected = [dataset.preprocessing(read_image(photograph.path)) for photograph in dataset.test]
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, [photograph.label for photograph in dataset.test])
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    training, _ = one_pass(dataset.training_batches(dataset.train_size, "none", seed=0))
    everything = {dataset.preprocessing(read_image(photograph.path)).tobytes() for photograph in dataset.train}
    assert {image.tobytes() for image in training} == everything


def test_exif_rotation_is_applied_and_16_bit_images_are_read(mixed):
    upright = np.asarray(picture(1))
    assert read_image(mixed / "newt" / "turned.jpg").shape == (56, 40, 3)
    difference = read_image(mixed / "newt" / "turned.jpg").astype(int) - np.rot90(upright, -1)
    assert np.abs(difference).mean() < 5
    grey = np.asarray(picture(1).convert("L"))
    np.testing.assert_array_equal(read_image(mixed / "newt" / "deep.png"), np.repeat(grey[..., np.newaxis], 3, axis=2))
    sizes = {p.path.name: (p.header.height, p.header.width) for p in (*load(mixed).train, *load(mixed).test)}
    assert sizes["turned.jpg"] == (56, 40)
    assert sizes["000.jpg"] == (40, 56)


def test_tensorflow_decodes_a_jpeg_as_pillow_does(photographs, tmp_path):
    """A file must give the same pixels in training (TensorFlow) as in ``r2b predict`` and on a board (Pillow)."""
    import tensorflow as tf

    for i, photograph in enumerate(photographs):
        for options in ({"quality": 75}, {"quality": 95, "subsampling": 0}, {"progressive": True}):
            Image.fromarray(photograph).save(tmp_path / f"{i}.jpg", **options)
            found = tf.io.decode_jpeg((tmp_path / f"{i}.jpg").read_bytes(), channels=3, dct_method=PILLOW_DCT)
            np.testing.assert_array_equal(found, read_image(tmp_path / f"{i}.jpg"))


def test_large_photographs_are_resized_one_by_one(mixed, monkeypatch):
    dataset = load(mixed)
    assert dataset._fits_in_batches
    together = one_pass(dataset.test_batches(4)), one_pass(dataset.training_batches(4, "resized_crop_flip", seed=1))
    largest = max(item.header.height * item.header.width for item in dataset.train + dataset.test)
    monkeypatch.setattr(module, "LARGEST_BATCHED", largest - 1)
    monkeypatch.setattr(r2b_runtime, "resize_batch", None)
    assert not dataset._fits_in_batches
    alone = one_pass(dataset.test_batches(4)), one_pass(dataset.training_batches(4, "resized_crop_flip", seed=1))
    for found, expected in zip(alone, together, strict=True):
        same(found, expected)


def test_order_and_crops_are_functions_of_seed_epoch_and_position(mixed):
    dataset = load(mixed)
    check_epochs(dataset, "resized_crop_flip", 10, skips=(1, 4))
    check_changes(dataset, "resized_crop_flip")


def test_a_sample_of_each_class(mixed):
    dataset = load(mixed)
    images, inputs, labels = dataset.test_sample(6, one_per_class=True)
    assert labels.tolist() == [0, 1, 2]
    assert images.shape == inputs.shape == (3, SIZE, SIZE, 3)


def test_a_sample_equals_the_test_batches_for_every_kind_of_image(mixed):
    """``test_sample`` reads files in eager mode, and ``test_batches`` in a graph."""
    dataset = load(mixed, all_to_test=True)
    shown, inputs, labels = dataset.test_sample(dataset.test_size)
    batches, batch_labels = one_pass(dataset.test_batches(dataset.test_size))
    np.testing.assert_array_equal(inputs, batches)
    np.testing.assert_array_equal(labels, batch_labels)
    assert (shown.dtype, shown.shape) == (np.uint8, (72, SIZE, SIZE, 3))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".gif"])
def test_a_sample_has_both_classes_if_each_has_only_six_images(tmp_path, suffix):
    dataset = load(write_classes(tmp_path, ("a", "b"), 6, suffix))
    assert dataset.test_sample(20, one_per_class=True)[2].tolist() == [0, 1]


def test_images_with_unusual_names_are_read_and_other_files_are_listed(pictures):
    cat = pictures / "cat"
    for suffix in (".jfif", ".jpe", "", ".jpg_large", ".JPG.tmp"):
        picture(3).save(cat / f"jpeg{suffix}", "JPEG")
    for suffix in (".ppm", ".tga", ".tif", ".apng", ".jp2"):
        picture(4).save(cat / f"other{suffix}", {".apng": "PNG"}.get(suffix))
    picture(5).save(cat / "says.png", "JPEG")
    (cat / "notes.txt").write_text("no image")
    (cat / "empty").write_bytes(b"")
    (cat / "phone.HEIC").write_bytes(b"")
    whole = io.BytesIO()
    picture(6).save(whole, "PNG")
    (cat / "half").write_bytes(whole.getvalue()[:300])
    Image.fromarray(np.asarray(picture(7))).save(cat / "camera.dng", "TIFF")
    picture(8).save(pictures / "lost.jpg")
    (pictures / "README").write_text("About these pictures.")
    dataset = load(pictures, all_to_test=True)
    assert dataset.test_size == 71
    images, _ = one_pass(dataset.test_batches(dataset.test_size))
    for image, photograph in zip(images, dataset.test, strict=True):
        np.testing.assert_array_equal(image, dataset.preprocessing(read_image(photograph.path)))
    reasons = dict(sentence.split(" is left out: ") for sentence in dataset.skipped)
    assert "truncated" in reasons.pop("cat/half")
    assert list(reasons.items()) == [
        ("cat/camera.dng", ".dng is not read, convert it to JPEG or PNG"),
        ("cat/phone.HEIC", ".HEIC is not read, convert it to JPEG or PNG"),
        ("cat/empty", "it is not an image"),
        ("cat/notes.txt", "it is not an image"),
        ("lost.jpg", "it is not in the folder of a class"),
    ]


def test_many_files_that_are_no_images_are_no_reason_to_refuse(pictures):
    for path in list(pictures.rglob("*.jpg")):
        path.with_suffix(".xml").write_text("<annotation/>")
    dataset = load(pictures)
    assert len(dataset.skipped) == 60
    assert dataset.train_size + dataset.test_size == 60


def test_folders_beside_train_and_val_are_reported_as_left_out(tmp_path):
    for name, number in (("train", 20), ("val", 2), ("test", 2), ("old", 1)):
        write_classes(tmp_path / name, ("a", "b"), number)
    dataset = load(tmp_path)
    assert dataset.test_size == 4
    assert dataset.skipped == tuple(f"{name} is left out: the classes are in train and val" for name in ("old", "test"))


def test_the_description_has_the_size_that_the_network_sees(mixed):
    dataset = load(mixed)
    assert dataset.description == f"photographs in mixed, {SIZE}×{SIZE}"
    assert dataset.with_preprocessing(dataset.preprocessing.with_size(96, 64)).description.endswith("mixed, 96×64")


def test_at_most_ten_skipped_files_are_listed(mixed):
    dataset = load(mixed)
    assert left_out(replace(dataset, skipped=()), "the report") == ""
    assert left_out(dataset, "the report").splitlines() == [
        "Skipped 2 files:",
        *(f"    {sentence}" for sentence in dataset.skipped),
    ]
    many = replace(dataset, skipped=tuple(f"{i}.jpg is left out: empty" for i in range(13)))
    lines = left_out(many, "the report").splitlines()
    assert len(lines) == 12
    assert lines[-1] == "    and 3 more, see the report"


def test_labels_follow_the_order_of_a_networks_classes(mixed):
    dataset = load(mixed, all_to_test=True)
    assert (dataset.train_size, dataset.test_size) == (0, 72)
    other = dataset.with_class_names(("newt", "owl", "cat", "dog"))
    assert other.class_names == ("newt", "owl", "cat", "dog")
    for photograph in other.test:
        assert other.class_names[photograph.label] == photograph.path.parent.name
    with pytest.raises(ValueError, match=r"The network does not know cat, newt; its 2 classes are dog, Cat\. Name the"):
        dataset.with_class_names(("dog", "Cat"))
    with pytest.raises(ValueError, match=r"more than one class named 'cat': remove the folder of that name"):
        dataset.with_class_names(("cat", "dog", "newt", "cat"))


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [module.BY_NAME, module.BY_RANK])
def test_the_automatic_split_depends_on_names_and_seed_alone(pictures, tmp_path, rule):
    dataset = load(pictures, split_rule=rule)
    test = files_of(dataset.test, pictures)
    assert not set(test) & set(files_of(dataset.train, pictures))
    assert len(test) + dataset.train_size == 60
    moved = shutil.copytree(pictures, tmp_path / "elsewhere" / "train")
    assert files_of(load(moved.parent, split_rule=rule).test, moved) == test
    assert files_of(load(pictures, split_seed=1, split_rule=rule).test, pictures) != test


def test_the_split_of_earlier_versions_has_a_fifth_of_each_class(pictures):
    test = files_of(load(pictures, split_rule=module.BY_RANK).test, pictures)
    assert [sum(name.startswith(c) for name in test) for c in ("cat", "dog", "newt")] == [4, 4, 4]
    with pytest.raises(ValueError, match=r"split_rule must be one of 'by name', 'by rank'; received 'by hand'"):
        load(pictures, split_rule="by hand")


def test_other_photographs_make_no_difference_to_the_split(pictures):
    """A network that was trained before photographs were added must not have seen test images of the new split."""
    before = load(pictures)
    seen = {side: set(files_of(getattr(before, side), pictures)) for side in ("train", "test")}
    for i in range(0, 20, 2):
        (pictures / "cat" / f"{i:03}.jpg").unlink()
    for i in range(30):
        shutil.copy(pictures / "dog" / "000.jpg", pictures / "dog" / f"more{i}.jpg")
    after = load(pictures)
    for side, other in (("train", "test"), ("test", "train")):
        now = set(files_of(getattr(after, side), pictures))
        assert not now & seen[other]
        assert len(now & seen[side]) >= 8


def test_the_split_tests_about_a_fifth_and_one_of_two_photographs(tmp_path):
    names = [Path(f"cat/IMG_{i:04}.jpg") for i in range(5000)]
    photographs = [module.Photograph(name, 0, Header(1, 1, True), "") for name in names]
    train, test = module._split(photographs, Path(), ["cat"], 0, module.BY_NAME)
    assert 900 < len(test) < 1100  # 1,000 ± 3.5 standard deviations
    for pair in zip(photographs[::2], photographs[1::2], strict=True):
        train, test = module._split(list(pair), Path(), ["cat"], 0, module.BY_NAME)
        assert (len(train), len(test)) == (1, 1)


@pytest.mark.parametrize("test_name", ["val", "valid", "validation", "test"])
def test_a_split_that_is_there_is_kept(tmp_path, test_name):
    write_classes(tmp_path / "train", ("a", "b"), 20)
    write_classes(tmp_path / test_name, ("a", "b"), 3)
    dataset = load(tmp_path)
    assert (dataset.train_size, dataset.test_size) == (40, 6)
    assert {photograph.path.parts[-3] for photograph in dataset.test} == {test_name}


def test_a_class_may_be_called_train(tmp_path):
    write_classes(tmp_path, ("bus", "train"), 20)
    assert load(tmp_path).class_names == ("bus", "train")


def test_subfolders_and_linked_files_are_read_but_hidden_files_are_not(pictures):
    shutil.copy(pictures / "cat" / "000.jpg", pictures / "cat" / "._000.jpg")
    (pictures / "cat" / ".DS_Store").write_bytes(b"\0")
    (pictures / ".cache").mkdir()
    (pictures / "__MACOSX").mkdir()
    (pictures / "cat" / "notes.txt").write_text("not an image, and does not say so")
    (pictures / "cat" / "holiday").mkdir()
    picture(77).save(pictures / "cat" / "holiday" / "one.jpg")
    (pictures / "dog" / "around").symlink_to(pictures / "dog")
    (pictures / "dog" / "link.jpg").symlink_to(pictures / "cat" / "001.jpg")
    dataset = load(pictures)
    assert dataset.class_names == ("cat", "dog", "newt")
    found = files_of((*dataset.train, *dataset.test), pictures)
    assert len(found) == len(set(found)) == 62
    assert {"cat/holiday/one.jpg", "dog/link.jpg"} <= set(found)
    assert dataset.skipped == ("cat/notes.txt is left out: it is not an image",)


def test_system_folders_hold_neither_classes_nor_photographs(pictures):
    """A NAS keeps thumbnails beside the photographs, and some system folders of a disk cannot be entered."""
    for hidden in HIDDEN:
        for place in (pictures, pictures / "cat"):
            (place / hidden).mkdir()
            picture(1).save(place / hidden / "SYNOPHOTO_THUMB_M.jpg")
            (place / hidden).chmod(0)
    try:
        dataset = load(pictures)
    finally:
        for path in [path for hidden in HIDDEN for path in pictures.rglob(hidden)]:
            path.chmod(0o755)
    assert dataset.class_names == ("cat", "dog", "newt")
    assert (dataset.train_size + dataset.test_size, dataset.skipped) == (60, ())


def test_a_photograph_whose_name_is_not_utf8_is_read(pictures):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(pictures / "cat" / "000.jpg", pictures / "cat" / name)
    picture(9).save(pictures / "dog" / os.fsdecode(b"\xe9.png"))
    (pictures / "cat" / os.fsdecode(b"\xe9.txt")).write_text("")
    dataset = load(pictures, all_to_test=True)
    assert {"cat/" + name, os.fsdecode(b"dog/\xe9.png")} <= set(files_of(dataset.test, pictures))
    images, _ = one_pass(dataset.test_batches(62))
    np.testing.assert_array_equal(images[-1], dataset.preprocessing(read_image(dataset.test[-1].path)))
    assert dataset.skipped == ("cat/\\udce9.txt is left out: it is not an image",)
    assert left_out(dataset, "the report").encode()


@pytest.mark.parametrize("name", [b"two\nlines", b"esc\x1b[2J", b"caf\xe9", "para\u2029graph".encode()])
def test_a_class_that_labels_cannot_hold_is_refused_before_training(pictures, name):
    shutil.copytree(pictures / "cat", pictures / os.fsdecode(name))
    with pytest.raises(ValueError, match=r"name of a class must be one line of text in UTF-8, .*: rename it") as raised:
        load(pictures)
    assert str(raised.value).isascii()
    assert str(raised.value).isprintable()


COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


def test_accents_of_another_encoding_are_the_same_class(tmp_path):
    write_classes(tmp_path / "train", (DECOMPOSED, "cup"), 20)
    write_classes(tmp_path / "val", (COMPOSED, "cup"), 2)
    dataset = load(tmp_path)
    assert dataset.class_names == (COMPOSED, "cup")
    assert dataset.test_size == 4
    for photograph in dataset.test:
        assert data.folder.normal(photograph.path.parent.name) == dataset.class_names[photograph.label]
    # A network that an earlier version of r2b_zoo trained may have names with decomposed accents.
    other = dataset.with_class_names(("cup", DECOMPOSED))
    assert [photograph.label for photograph in other.test] == [1, 1, 0, 0]


def test_two_classes_that_differ_only_in_accent_encoding_are_refused(tmp_path):
    write_classes(tmp_path, (COMPOSED, DECOMPOSED), 3)
    with pytest.raises(ValueError, match=r"which are the same but for how Unicode encodes their accents: put their"):
        load(tmp_path)


def test_only_regular_files_are_opened(pictures):
    """Opening a pipe would wait for its writer."""
    cat = pictures / "cat"
    os.mkfifo(cat / "pipe.jpg")
    (cat / "nowhere.jpg").symlink_to(cat / "gone.jpg")
    (cat / "null.jpg").symlink_to("/dev/null")
    (cat / "round.jpg").symlink_to(cat / "round.jpg")
    (cat / "folder.jpg").mkdir()
    picture(2).save(cat / "folder.jpg" / "in.jpg")
    os.mkfifo(pictures / "loose.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(cat / "socket.jpg"))
        dataset = load(pictures)
    assert dataset.train_size + dataset.test_size == 61
    assert dataset.skipped == (
        "cat/nowhere.jpg is left out: it is a link to nothing",
        "cat/null.jpg is left out: it is a device",
        "cat/pipe.jpg is left out: it is a pipe",
        "cat/round.jpg is left out: it is a link to nothing",
        "cat/socket.jpg is left out: it is a socket",
    )


def test_twenty_images_per_class_suffice_and_ten_cause_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(write_classes(tmp_path / "enough", ("a", "b"), 20))
    few = write_classes(tmp_path / "few", ("a", "b"), 10)
    for rule, counts in ((module.BY_RANK, r"a \(8\), b \(8\)"), (module.BY_NAME, r"a \(\d\), b \(\d\)")):
        with pytest.warns(UserWarning, match=rf"Few images to train on: {counts}\. Expect poor accuracy with fewer "):
            load(few, split_rule=rule)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_data_dir_must_be_an_existing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"The data set 'folder' needs data_dir=, the folder with your photographs"):
        data.load("folder")
    with pytest.raises(ValueError, match=r"data_dir must be a folder with .* per class; .*none is no folder there\."):
        load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"data_dir must be a folder with .*; .*file is a file\."):
        load(tmp_path / "file")


def test_an_empty_folder_or_a_single_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"at least 2 classes, each a folder in .*; there is none"):
        load(tmp_path)
    write_classes(tmp_path, ("cat",), 3)
    with pytest.raises(ValueError, match=r"at least 2 classes, each a folder in .*; there is one, 'cat'"):
        load(tmp_path)


def test_two_classes_that_differ_only_in_case_are_refused(pictures):
    shutil.copytree(pictures / "cat", pictures / "CAT")
    with pytest.raises(
        ValueError, match=r"has the classes 'CAT' and 'cat', which are the same but for upper and lower"
    ):
        load(pictures)


def test_two_folders_of_one_split_that_differ_only_in_case_are_refused(tmp_path):
    for name in ("train", "Val", "val"):
        write_classes(tmp_path / name, number=1)
    with pytest.raises(ValueError, match=r"has the folders 'Val' and 'val', which differ only in case: put"):
        load(tmp_path)


def test_a_class_without_images_or_with_one(pictures):
    (pictures / "owl").mkdir()
    with pytest.raises(
        ValueError,
        match=r"There are no images of owl in .*\. Every class needs at least one: add images, or remove the",
    ):
        load(pictures)
    (pictures / "owl" / "only.heic").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"of owl .*\(The first files there: owl/only\.heic is left out: \.heic is not"
    ):
        load(pictures)
    picture(5).save(pictures / "owl" / "only.jpg")
    with pytest.raises(ValueError, match=r"Class 'owl' has one image, .*only\.jpg: it needs at least 2, to train and"):
        load(pictures)


def test_train_and_val_with_different_classes_are_refused(tmp_path):
    write_classes(tmp_path / "train", ("a", "b"), 3)
    write_classes(tmp_path / "val", ("b", "c"), 3)
    with pytest.raises(ValueError, match=r"must have the same classes; only one of them has 'a', 'c'\."):
        load(tmp_path)


def test_too_many_files_that_cannot_be_read(pictures):
    for i in range(6):
        (pictures / "cat" / f"bad{i}.jpg").write_bytes(b"")
    assert len(load(pictures).skipped) == 6
    (pictures / "dog" / "phone.HEIC").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"7 of the 67 image files in .* cannot be read, more than 10 %: convert, repai"
    ):
        load(pictures)
    for i in range(6):
        (pictures / "cat" / f"bad{i}.jpg").unlink()
    assert load(pictures).skipped == ("dog/phone.HEIC is left out: .HEIC is not read, convert it to JPEG or PNG",)


def test_a_batch_larger_than_the_data(pictures):
    dataset = load(pictures, split_rule=module.BY_RANK)
    with pytest.raises(ValueError, match=r"at most the number of training images, 48 in folder; received 64"):
        dataset.check_batches(64, "resized_crop_flip")


def test_unreadable_files_are_skipped_and_unreadable_folders_refused(pictures, tmp_path):
    """Root ignores permissions, so this test switches to an unprivileged user if it runs as root."""
    is_root = os.geteuid() == 0
    places = [path for path in (pictures, *pictures.parents) if path.stat().st_uid == os.getuid() and path != Path("/")]
    rights = {path: path.stat().st_mode for path in places}
    (pictures / "newt" / "000.jpg").chmod(0)
    try:
        if is_root:
            for path in places:
                path.chmod(rights[path] | 0o055)
            os.seteuid(65534)
        (skipped,) = load(pictures).skipped
        assert skipped.startswith("newt/000.jpg is left out: ")
        assert "Permission denied" in skipped
        if is_root:
            os.seteuid(0)
        (pictures / "dog").chmod(0)
        if is_root:
            os.seteuid(65534)
        with pytest.raises(
            ValueError, match=r"The folder .*dog cannot be read \(Permission denied\): change its permis"
        ):
            load(pictures)
    finally:
        if is_root:
            os.seteuid(0)
        for path in places:
            path.chmod(rights[path])
        (pictures / "dog").chmod(0o755)
