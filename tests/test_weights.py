"""Weights are saved, loaded, refused if they do not fit, and downloaded from a local server, which may fail."""

import contextlib
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import r2b_zoo
from r2b_zoo import weights
from r2b_zoo.weights import loading
from r2b_zoo.weights.loading import PublishedWeights, WeightsDownloadError
from tests.networks import randomize
from tests.small import SHALLOW, SMALL, small_network
from tests.test_training import largest_file

CONTENT = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Gives each test an empty cache, and turns off proxies and the waiting between attempts to download."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(loading.CACHE_ENVIRONMENT_VARIABLE, str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    return folder


# Files are read and checked layer by layer, so a shallow network is enough.
pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def network():
    return randomize(small_network("RealToBinaryNet", "binary", SHALLOW))


@contextlib.contextmanager
def unchanged(model):
    """Asserts that the block leaves the weights of the network unchanged."""
    before = model.get_weights()
    yield
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_model", [False, True], ids=["save_weights", "save"])
def test_saved_weights_come_back(network, tmp_path, whole_model):
    path = tmp_path / "weights.h5"
    if whole_model:
        network.save(path)
    else:
        weights.save(network, path)
    saved = network.get_weights()
    randomize(network, seed=1)
    weights.load(network, path)
    for old, new in zip(saved, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_constructor_takes_a_path(network, tmp_path, rng):
    weights.save(network, tmp_path / "weights.h5")
    again = r2b_zoo.RealToBinaryNet(**SMALL, weights=str(tmp_path / "weights.h5"))
    x = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(again(x), network(x))


def test_a_file_of_another_network_names_the_first_layer_that_differs(network, tmp_path):
    other = small_network("BiRealNet18", "binary", SHALLOW)
    write(tmp_path / "bireal.h5", {layer.name: layer.get_weights() for layer in other.layers})
    message = (
        r"bireal\.h5 are for another architecture than RealToBinaryNet: layer 'stem_activation' "
        r"has shapes \[\(1, 1, 16\)\] in the network and is missing in the file"
    )
    with unchanged(network), pytest.raises(ValueError, match=message):
        weights.load(network, tmp_path / "bireal.h5")


def test_a_file_that_records_another_network_of_the_same_shapes(tmp_path):
    weights.save(small_network("ResNet18", "real", SHALLOW), tmp_path / "resnet.h5")
    bnn = small_network("BNN18", "binary", SHALLOW)
    with (
        unchanged(bnn),
        pytest.raises(ValueError, match=r"resnet\.h5 are for another architecture: ResNet18, not BNN18"),
    ):
        weights.load(bnn, tmp_path / "resnet.h5")


def test_a_file_with_other_classes_names_both_shapes(network, tmp_path):
    arrays = {layer.name: layer.get_weights() for layer in network.layers}
    arrays["logits"] = [np.zeros((32, 3)), np.zeros(3)]
    write(tmp_path / "three.h5", arrays)
    with (
        unchanged(network),
        pytest.raises(
            ValueError,
            match=r"'logits' has shapes \[\(32, 10\), \(10,\)\] in the network and has shapes \[\(32, 3\), \(3",
        ),
    ):
        weights.load(network, tmp_path / "three.h5")


def test_a_file_with_a_layer_too_many(network, tmp_path):
    arrays = {layer.name: layer.get_weights() for layer in network.layers}
    write(tmp_path / "more.h5", {**arrays, "extra": [np.zeros(3)]})
    with (
        unchanged(network),
        pytest.raises(
            ValueError, match=r"layer 'extra' is missing in the network and has shapes \[\(3,\)\] in the file"
        ),
    ):
        weights.load(network, tmp_path / "more.h5")


def write(path, arrays):
    """Writes an HDF5 file as Keras does, with the arrays of each layer by its name."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(arrays)
        for name, values in arrays.items():
            names = [f"{name}/{i}" for i in range(len(values))]
            file.create_group(name).attrs["weight_names"] = names
            for weight_name, value in zip(names, values, strict=True):
                file[name][weight_name] = value


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
def test_a_truncated_file(network, tmp_path, keep):
    path = tmp_path / "weights.h5"
    weights.save(network, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with (
        unchanged(network),
        pytest.raises(
            ValueError, match=r"weights\.h5 cannot be read \(truncated, altered or another format\?\): .*save_weights"
        ),
    ):
        weights.load(network, path)


def test_a_file_that_is_no_weights_file(network, tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ValueError, match=r"text\.h5 cannot be read .*must be an HDF5 file"):
        weights.load(network, tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["measurements"] = [1, 2, 3]
    with pytest.raises(ValueError, match=r"other\.h5 holds no Keras layers: .*must be an HDF5 file"):
        weights.load(network, tmp_path / "other.h5")


def test_a_path_that_does_not_exist(tmp_path):
    for path in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"None, 'imagenet', 'cifar10' or the path of a weights file; there is no file"
        ):
            r2b_zoo.RealToBinaryNet(**SMALL, weights=path)


def test_a_folder_that_cannot_be_written_to(network, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(OSError, match=r"missing|file"):
            weights.save(network, folder / "weights.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_an_interrupted_save_leaves_the_old_file(network, tmp_path, monkeypatch):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"old")

    def disk_full(target, content):
        with open(target, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space left"):
        weights.save(network, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- weights="imagenet" -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 10}, r"needs num_classes=1000, received num_classes=10\. .*pass include_top=False"),
        ({"precision": "real"}, r"needs precision='binary', received precision='real'"),
        ({"width": 32}, r"needs width=64, received width=32"),
        ({"stem": "cifar"}, r"needs stem='imagenet', received stem='cifar'"),
        ({"input_shape": (224, 224, 1)}, r"needs channels=3, received channels=1"),
    ],
)
def test_arguments_that_do_not_fit_the_published_weights_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        r2b_zoo.RealToBinaryNet(weights="imagenet", **arguments)


@pytest.mark.parametrize("name", r2b_zoo.list_models(pretrained=False))
def test_networks_without_published_weights_say_so(name):
    known = "BiRealNet18, RealToBinaryNet"
    with pytest.raises(ValueError, match=rf"no published ImageNet weights for {name}, only for {known}: "):
        r2b_zoo.create(name, weights="imagenet")


@pytest.mark.parametrize(("include_top", "file"), [(True, "r2b_weights.h5"), (False, "r2b_weights_notop.h5")])
def test_without_internet_the_error_says_where_to_put_the_file(cache, monkeypatch, include_top, file):
    def no_network(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    address = f"https://github.com/larq/zoo/releases/download/r2b-v0.1.0/{file}"
    with pytest.raises(WeightsDownloadError, match=address) as raised:
        r2b_zoo.RealToBinaryNet(
            weights="imagenet", include_top=include_top, num_classes=10 if not include_top else 1000
        )
    assert f"put it at {cache / file}" in str(raised.value)
    assert "R2B_ZOO_CACHE" in str(raised.value)
    assert files_in(cache) == []


def test_an_altered_file_in_the_cache(cache):
    cache.mkdir()
    (cache / "r2b_weights.h5").write_bytes(CONTENT)
    with pytest.raises(ValueError, match=r"r2b_weights\.h5 is truncated or altered: its SHA-256 is .*Delete it"):
        r2b_zoo.RealToBinaryNet(weights="imagenet")


# --- downloads from a local server ------------------------------------------------------------------------------------


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def size_of(path):
    """Size of a file that another process may delete or rename at any moment; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` at every address.

    The first ``failures`` requests get half of it before the connection closes. With ``stall``, a request gets all but
    the last byte, and the connection stays open until ``released`` is set, at most 60 seconds.
    """

    def __init__(self, failures=0, content=CONTENT, stall=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures, self.content, self.requests = failures, content, 0
        self.stall, self.released = stall, threading.Event()

    @property
    def published(self):
        url = f"http://127.0.0.1:{self.server_port}/release-1/weights.h5"
        return PublishedWeights(url, hashlib.sha256(CONTENT).hexdigest())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        assert isinstance(server, Server)
        server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        if server.stall:
            self.wfile.write(server.content[:-1])
            server.released.wait(60)
            return
        whole = server.requests > server.failures
        self.wfile.write(server.content if whole else server.content[: len(server.content) // 2])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(**arguments):
    with Server(**arguments) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_download_lands_in_the_cache_once(cache, capsys):
    with serving() as server:
        path = weights.fetch(server.published)
        assert path == cache / "weights.h5"
        assert path.read_bytes() == CONTENT
        assert weights.fetch(server.published) == path
        assert server.requests == 1
    assert "100%" in capsys.readouterr().err, "there is no progress bar"
    assert files_in(cache) == [path]


def test_a_broken_download_is_tried_again(cache):
    with serving(failures=2) as server:
        assert weights.fetch(server.published).read_bytes() == CONTENT
        assert server.requests == 3
    assert len(files_in(cache)) == 1


@pytest.mark.parametrize("arguments", [{"failures": 99}, {"content": CONTENT[:-1]}], ids=["interrupted", "altered"])
def test_a_download_that_fails_leaves_no_file(cache, arguments):
    with (
        serving(**arguments) as server,
        pytest.raises(WeightsDownloadError, match=r"not download http://127.*by hand"),
    ):
        weights.fetch(server.published)
    assert server.requests == 1 + loading.DOWNLOAD_RETRIES
    assert files_in(cache) == []


def test_the_rest_of_a_killed_download_is_deleted_by_the_next(cache):
    left, running, own = cache / ".downloads" / "tmpold", cache / ".downloads" / "tmpnew", cache / "tmpabcdefgh"
    left.parent.mkdir(parents=True)
    for path in (left, running, own):
        path.write_bytes(CONTENT[:500])
    for path in (left, own):
        os.utime(path, (time.time() - 7200,) * 2)
    with serving() as server:
        path = weights.fetch(server.published)
    assert sorted(files_in(cache)) == sorted([path, running, own])


def test_a_download_of_another_process_may_end_while_its_file_is_looked_at(cache, monkeypatch):
    """Another process's temporary file is listed in the folder, but gone when its age is read."""
    running = cache / ".downloads" / "tmpnew"
    running.parent.mkdir(parents=True)
    running.write_bytes(CONTENT[:500])
    listed = Path.iterdir

    def listed_then_ended(folder):
        paths = list(listed(folder))
        running.unlink(missing_ok=True)
        return iter(paths)

    monkeypatch.setattr(Path, "iterdir", listed_then_ended)
    with serving() as server:
        assert weights.fetch(server.published).read_bytes() == CONTENT


def test_a_download_that_is_killed_leaves_nothing_in_the_cache_itself(cache):
    """Kills a process with SIGKILL while it waits for the server."""
    with serving(stall=True) as server:
        program = (
            "import sys; from r2b_zoo.weights import loading as it\n"
            "it.fetch(it.PublishedWeights(sys.argv[1], sys.argv[2]))"
        )
        published = server.published
        process = subprocess.Popen(
            [sys.executable, "-c", program, published.url, published.sha256],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stderr=subprocess.DEVNULL,
        )
        while not any(map(size_of, files_in(cache))):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        server.released.set()
    (left,) = files_in(cache)
    assert left.parent == cache / ".downloads"
    os.utime(left, (0, 0))
    with serving() as server:
        path = weights.fetch(server.published)
    assert list(cache.iterdir()) == [path]


def test_a_full_disk_is_reported(cache):
    message = (
        r"There is no room for weights\.h5 in .*cache \(File too large\): free some space there, or set R2B_ZOO_CACH"
    )
    with serving() as server, largest_file(50_000), pytest.raises(WeightsDownloadError, match=message):
        weights.fetch(server.published)
    assert files_in(cache) == []


def test_an_unreachable_server(cache):
    with serving() as server:
        published = server.published
    with pytest.raises(WeightsDownloadError, match=rf"{published.url} \(ConnectionError\).*put it at .*weights\.h5"):
        weights.fetch(published)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(loading.CACHE_ENVIRONMENT_VARIABLE, str(tmp_path / "file" / "cache"))
    with serving() as server, pytest.raises(WeightsDownloadError, match=r"cannot be written.*R2B_ZOO_CACHE"):
        weights.fetch(server.published)
    assert server.requests == 0


def test_the_cache_folder_follows_the_environment_variable(monkeypatch, tmp_path):
    assert loading.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(loading.CACHE_ENVIRONMENT_VARIABLE)
    assert loading.cache_folder().name == "r2b_zoo"
    monkeypatch.setenv(loading.CACHE_ENVIRONMENT_VARIABLE, "~/weights")
    assert loading.cache_folder() == Path.home() / "weights"


def test_weights_imagenet_downloads_a_file_and_loads_it(network, cache, tmp_path, monkeypatch, rng):
    """Tests weights="imagenet" end to end, with a small network's file in place of the published one."""
    weights.save(network, tmp_path / "small.h5")
    content = (tmp_path / "small.h5").read_bytes()
    with serving(content=content) as server:
        published = PublishedWeights(server.published.url, hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(loading.PUBLISHED, ("RealToBinaryNet", True), published)
        small = {"num_classes": 10, "width": 16, "stem": "cifar"}
        monkeypatch.setattr(loading, "_PUBLISHED_ARGUMENTS", {**loading._PUBLISHED_ARGUMENTS, **small})
        again = r2b_zoo.RealToBinaryNet(**SMALL, weights="imagenet")
    x = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(again(x), network(x))
    assert files_in(cache) == [cache / "weights.h5"]
