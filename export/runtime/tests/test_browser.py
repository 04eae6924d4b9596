"""Tests a model's web page in headless Chromium: drawings, pictures and the webcam.

For drawings and pictures, the page must show the labels and percentages that Python's classifier predicts.
"""

import base64
import io
import json

import browser
import numpy as np
import PIL.Image
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import small_classifier
from r2b_runtime import Classifier, web
from test_web import network_for_photographs

pytestmark = [
    pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is missing: apt-get install chromium"),
    pytest.mark.skipif(not web.WASM.is_file(), reason="r2b-runtime was installed without its engine for browsers"),
]
ANSWERS = "[...document.querySelectorAll('#answers li')].map((item) => item.innerText.split('\\n'))"


def model(channels):
    return small_classifier.with_files(
        small_classifier.model(shape=(20, 20, channels)),
        height=20,
        width=20,
        channels=channels,
        mean=[100.0] * channels,
        std=[60.0] * channels,
    )


def shown(predictions):
    """Python's predictions as the page shows them: lists of a label and a percentage, such as "12.3 %"."""
    return [[label, f"{100 * share:.1f}\N{NO-BREAK SPACE}%"] for label, share in predictions]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.Browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def open_page(chromium, tmp_path):
    def opened(data):
        path = tmp_path / "page.html"
        path.write_text(web.page(data, "A model"), encoding="utf-8")
        chromium.events.clear()
        chromium.size(1200, 900)
        chromium.open(path.as_uri())
        chromium.wait_for("document.querySelector('[aria-selected=true]') !== null")
        return chromium

    yield opened
    assert chromium.faults() == []


def canvas_pixels(page):
    """The pixels of the drawing, uint8 (height, width, 4)."""
    data = page.evaluate(
        "(() => { const canvas = document.getElementById('draw');"
        "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        "let text = ''; for (const byte of data) text += String.fromCharCode(byte);"
        "return [canvas.height, canvas.width, btoa(text)]; })()"
    )
    return np.frombuffer(base64.b64decode(data[2]), np.uint8).reshape(data[0], data[1], 4)


def test_a_drawing_is_classified_as_in_python(open_page):
    data = model(1)
    page = open_page(data)
    assert page.evaluate("document.getElementById('tab-draw').ariaSelected") == "true"
    assert page.evaluate("document.getElementById('size').innerText") == f"{len(data) / 1e3:.1f}\N{NO-BREAK SPACE}kB"
    assert "3 classes" in page.text()
    assert "20×20 grey" in page.text()
    assert page.evaluate(ANSWERS) == []
    left, top, side = page.evaluate(
        "(({ left, top, width }) => [left, top, width])(document.getElementById('draw').getBoundingClientRect())"
    )
    page.mouse("mousePressed", left + side * 0.3, top + side * 0.2)
    for step in range(1, 9):
        page.mouse("mouseMoved", left + side * (0.3 + 0.04 * step), top + side * (0.2 + 0.08 * step))
    page.mouse("mouseReleased", left + side * 0.62, top + side * 0.84)
    page.wait_for("document.querySelectorAll('#answers li').length === 3")
    drawn = canvas_pixels(page)
    assert 0.02 < np.mean(drawn[..., 0] > 128) < 0.4
    assert page.evaluate(ANSWERS) == shown(Classifier(data, kernels="portable").predict(drawn))
    assert float(page.evaluate("document.getElementById('time').innerText")) < 1000
    page.evaluate("document.getElementById('action').click()")
    assert page.evaluate(ANSWERS) == []
    assert canvas_pixels(page)[..., :3].max() == 0


def drop(page, name, data):
    """Sends the page the event of a dropped file that is called `name` and contains `data`."""
    page.evaluate(
        "(() => { const files = new DataTransfer();"
        f"const bytes = Uint8Array.from(atob({json.dumps(base64.b64encode(data).decode())}), (c) => c.charCodeAt(0));"
        f"files.items.add(new File([bytes], {json.dumps(name)}, {{ type: 'image/png' }}));"
        "document.dispatchEvent(new DragEvent('drop', { dataTransfer: files, cancelable: true })); })()"
    )


def test_a_dropped_picture_is_classified_as_in_python(open_page):
    data = model(3)
    page = open_page(data)
    assert page.evaluate("document.getElementById('tab-picture').ariaSelected") == "true"
    classifier, rng = Classifier(data, kernels="portable"), np.random.default_rng(0)
    for size in ((60, 90), (31, 20)):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        stream = io.BytesIO()
        PIL.Image.fromarray(pixels).save(stream, "PNG")
        page.evaluate("document.getElementById('answers').replaceChildren()")
        drop(page, "picture.png", stream.getvalue())
        page.wait_for("document.querySelectorAll('#answers li').length === 3")
        assert page.evaluate(ANSWERS) == shown(classifier.predict(pixels))
    drop(page, "text.png", b"no picture")
    page.wait_for("!document.getElementById('problem').hidden")
    assert page.evaluate("document.getElementById('problem').innerText") == (
        "text.png is not a picture that this browser can read"
    )


def test_dropped_photographs_are_classified_as_in_python(open_page, whole_photographs):
    data = network_for_photographs()
    page, classifier = open_page(data), Classifier(data, kernels="portable")
    for pixels in whole_photographs:
        stream = io.BytesIO()
        PIL.Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
        page.evaluate("document.getElementById('answers').replaceChildren()")
        drop(page, "photograph.png", stream.getvalue())
        page.wait_for("document.querySelectorAll('#answers li').length === 5")
        assert page.evaluate(ANSWERS) == shown(classifier.predict(pixels))


def test_the_webcam_is_classified_until_another_tab_opens(open_page):
    page = open_page(model(3))
    page.evaluate("document.getElementById('tab-camera').click()")
    page.wait_for("document.querySelectorAll('#answers li').length === 3")
    playing = "document.getElementById('camera').srcObject?.getVideoTracks()[0].readyState ?? 'none'"
    assert page.evaluate(playing) == "live"
    assert float(page.evaluate("document.getElementById('time').innerText")) < 1000
    page.evaluate("document.getElementById('tab-picture').click()")
    assert page.evaluate(playing) == "none"
    assert page.evaluate(ANSWERS) == []


@pytest.mark.parametrize(("width", "height"), [(1200, 900), (400, 850)])
def test_nothing_is_wider_than_the_window(open_page, width, height):
    page = open_page(model(1))
    page.size(width, height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('panel').getBoundingClientRect().bottom") < height
