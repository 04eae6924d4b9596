"""Tests splitting streams into JPEG images: streams in pieces of any size, damaged ones, and other formats."""

import io
import random

import numpy as np
import pytest
from r2b_runtime.watch.mjpeg import NoMjpegError, Splitter

pillow = pytest.importorskip("PIL.Image", reason="JPEG images are made with Pillow: pip install pillow")


def jpeg(seed, size=(24, 16), **options):
    """A JPEG image of noise, whose data contains stuffed bytes; `size` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    stream = io.BytesIO()
    pillow.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def with_thumbnail(image):
    """Adds another whole JPEG image, a thumbnail, in an EXIF segment, as cameras do."""
    inner = jpeg(99, (8, 8))
    segment = b"Exif\0\0" + inner
    return image[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + image[2:]


IMAGES = [
    jpeg(0),
    with_thumbnail(jpeg(1)),
    jpeg(2, progressive=True),  # several scans
    jpeg(3, restart_marker_blocks=1),
    b"\xff\xd8\xff" + jpeg(4)[2:],  # a fill byte before a marker
]


def split(data, step, largest=1 << 20):
    splitter = Splitter(largest)
    found = [image for at in range(0, len(data), step) for image in splitter.feed(data[at : at + step])]
    splitter.finish()
    return found, splitter.damaged


def test_sample_jpegs_have_stuffed_bytes_scans_and_restart_markers():
    assert b"\xff\x00" in IMAGES[0]
    assert IMAGES[2].count(b"\xff\xda") > 1
    assert b"\xff\xd0" in IMAGES[3]
    for image in IMAGES:
        pillow.open(io.BytesIO(image)).load()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 1 << 20])
def test_images_are_found_in_pieces_of_any_size(step):
    assert split(b"".join(IMAGES), step) == (IMAGES, 0)


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_headers_between_images_are_skipped(step):
    header = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    stream = b"".join(header % len(image) + image + b"\r\n" for image in IMAGES)
    assert split(stream, step) == (IMAGES, 0)


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_an_image_cut_off_anywhere_leaves_the_others_intact(step):
    first, cut, last = IMAGES[0], IMAGES[3], IMAGES[4]
    for kept in range(3, len(cut), 1 if step > 1 else 97):
        found, damaged = split(first + cut[:kept] + last, step)
        assert found[0] == first
        assert found[-1] == last, kept
        assert damaged == 1 or (damaged, len(found)) == (0, 2 + (kept == len(cut)))


def test_an_image_cut_off_by_the_end_of_the_stream_is_damaged():
    assert split(IMAGES[0] + IMAGES[1][:-1], 64) == ([IMAGES[0]], 1)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\0\0\0\1\x67\x64", "it seems to be H.264 or H.265; have the camera send MJPEG .rpicam-vid --codec mjpeg"),
        (b"YUV4MPEG2 W64 H64", "it seems to be raw video; have it encoded .ffmpeg -f mjpeg"),
        (b"\x89PNG\r\n", "it seems to be PNG images"),
        (
            b"hello, world",
            "there is no whole image in its first 0.015625 MiB, which begin with 68 65 6c 6c 6f 2c 20 77",
        ),
        (
            b"\xff\xd8\xff\xe0\0\1",
            "there is no whole image in its first 0.015625 MiB, which begin with ff d8 ff e0 00 01",
        ),
        (jpeg(0)[:-2], "a frame is larger than 0.015625 MiB; give a larger --max-frame"),
        (
            jpeg(0) + b"no more",
            "there is no further image in the 0.015625 MiB after the last one: start the camera again",
        ),
    ],
)
def test_a_stream_of_another_kind_is_refused_early(stream, message):
    endless = stream + bytes(40_000)
    with pytest.raises(NoMjpegError, match=message):
        split(endless, 1024, largest=16 << 10)


def test_random_bytes_take_no_more_memory_than_the_limit():
    data = np.random.default_rng(0).bytes(1 << 20).replace(b"\0", b"\xff\xd8\xff")
    splitter = Splitter(64 << 10)
    pieces = (splitter.feed(data[at : at + 4096]) for at in range(0, len(data), 4096))
    with pytest.raises(NoMjpegError, match=r"there is no whole image in its first 0.0625 MiB"):
        any(map(list, pieces))
    assert len(splitter._data) <= (64 << 10) + 4096


def test_all_images_of_a_long_stream_are_found():
    image = jpeg(5, (160, 120))
    found, damaged = split(image * 100, 512, largest=1 << 20)
    assert (len(found), damaged) == (100, 0)


def damaged(rng, data):
    """The data with some bytes changed, removed or inserted."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 30)):
        kind, at = rng.random(), rng.randrange(len(data))
        if kind < 0.5:
            data[at] = rng.choice([0x00, 0xFF, 0xD8, 0xD9, 0xDA, rng.randrange(256)])
        elif kind < 0.75:
            del data[at : at + rng.randrange(1, 200)]
        else:
            data[at:at] = rng.choice([b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda\0\2", bytes(rng.randrange(50))])
    return bytes(data)


def test_a_damaged_stream_gives_the_same_images_in_any_pieces():
    rng, found = random.Random(0), 0
    for _ in range(100):
        stream = damaged(rng, b"".join(IMAGES))
        images, count = split(stream, 1 << 20)
        assert split(stream, rng.randrange(1, 300)) == (images, count)
        assert all(image[:3] == b"\xff\xd8\xff" and image[-2:] == b"\xff\xd9" for image in images)
        found += len(images)
    assert 0 < found < 100 * len(IMAGES)
