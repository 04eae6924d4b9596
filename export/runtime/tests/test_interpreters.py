"""Tests which stock interpreter is used, and the error messages if none can be."""

import types

import pytest
import r2b_runtime
from conftest import delegated
from r2b_runtime import delegate, library


class Current:
    def __init__(self, model_path=None, model_content=None, experimental_delegates=None, num_threads=None):
        pass


class Old:
    def __init__(self, model_path=None, model_content=None):
        pass


@pytest.fixture
def installed(monkeypatch):
    """A function that takes `{package: module or exception}`.

    It makes these packages the only stock interpreters that are found. Importing one raises its exception, if any.
    """

    def install(packages):
        monkeypatch.delitem(delegate.sys.modules, "tensorflow", raising=False)
        monkeypatch.setattr(delegate.importlib.util, "find_spec", lambda name: packages.get(name))

        def import_module(name):
            found = packages[name.split(".")[0]]
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(delegate.importlib, "import_module", import_module)

    return install


def module(stock=Current, **more):
    return types.SimpleNamespace(Interpreter=stock, **{"load_delegate": lambda path, options: None, **more})


def test_prefers_litert(installed):
    packages = {"ai_edge_litert": module(), "tflite_runtime": module()}
    installed(packages)
    assert r2b_runtime.stock_interpreter() is packages["ai_edge_litert"]


def test_takes_tflite_runtime_where_litert_is_broken(installed):
    packages = {"ai_edge_litert": ImportError("no GLIBC_2.27"), "tflite_runtime": module()}
    installed(packages)
    assert r2b_runtime.stock_interpreter() is packages["tflite_runtime"]


def test_takes_an_installed_tensorflow_last(installed):
    lite = module(experimental=module())
    packages = {"tensorflow": types.SimpleNamespace(lite=lite), "tflite_runtime": ImportError("broken")}
    installed(packages)
    assert r2b_runtime.stock_interpreter().Interpreter is lite.Interpreter


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ({}, r"needs a TensorFlow Lite interpreter: pip install ai-edge-litert \(on 32-bit ARM: tflite-runtime\)$"),
        ({"ai_edge_litert": module(Old)}, "has no experimental_delegates: pip install --upgrade ai-edge-litert"),
        (
            {"tflite_runtime": types.SimpleNamespace(Interpreter=Current)},
            "has no load_delegate: pip install --upgrade tflite-runtime",
        ),
        (
            {"tflite_runtime": AttributeError("_ARRAY_API not found")},
            r"tflite-runtime is installed but cannot be used \(_ARRAY_API not found\), try pip install 'numpy<2'",
        ),
    ],
)
def test_import_errors_say_what_to_install(installed, packages, message):
    installed(packages)
    with pytest.raises(ImportError, match=message):
        r2b_runtime.load_delegate()


def test_installation_without_a_delegate(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    with pytest.raises(
        RuntimeError,
        match=r"without its compiled library \(.*r2b_runtime.* for .* on .*\).*install ./export/runtime",
    ):
        r2b_runtime.load_delegate()


def test_delegate_of_another_platform(monkeypatch, tmp_path):
    library_path = tmp_path / r2b_runtime.library_path().name
    library_path.write_bytes(b"\x7fELF of another machine")
    monkeypatch.setattr(delegate, "library_path", lambda: library_path)
    with pytest.raises(
        RuntimeError,
        match=r"does not load here .* made for another platform: install the wheel that is made",
    ):
        r2b_runtime.load_delegate()


def test_error_names_the_environment_variable_that_chose_the_kernels(monkeypatch):
    monkeypatch.setenv("R2B_RUNTIME_KERNELS", "mmx")
    with pytest.raises(ValueError, match=r"kernels 'mmx'.*portable.*environment's R2B_RUNTIME_KERNELS: unset it"):
        r2b_runtime.load_delegate()
    with pytest.raises(ValueError, match=r"kernels 'sse'.*portable$"):
        r2b_runtime.load_delegate(kernels="sse")


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", 257, 10**11])
def test_invalid_numbers_of_threads_are_refused(threads):
    with pytest.raises(ValueError, match=f"num_threads must be a whole number from 1 to 256; received {threads!r}"):
        r2b_runtime.Interpreter(_some_model(), num_threads=threads)


def test_damaged_models(tmp_path):
    model = _some_model()
    with pytest.raises(ValueError, match=r"the model is not a .tflite file: it has b'' at byte 4"):
        r2b_runtime.Interpreter(b"")
    with pytest.raises(ValueError, match=r"the model is damaged or was not copied whole: .*; convert or copy it again"):
        r2b_runtime.Interpreter(model[: len(model) // 2])
    path = tmp_path / "model.tflite"
    path.write_bytes(model[: len(model) // 2])
    with pytest.raises(ValueError, match=r"'.*model.tflite' is damaged or was not copied whole"):
        r2b_runtime.Interpreter(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"'.*model.tflite' is empty; copy or convert it again"):
        r2b_runtime.Interpreter(path)


def test_interpreter_too_old_for_an_operator():
    lce_model = _lce_model()
    model = lce_model.Model()
    x, out = model.input((1, 4)), model.tensor((1, 4))
    model.builtin("RELU", [x], [out])
    model._model.operatorCodes[0].version = 99
    model.output(out)
    with pytest.raises(
        RuntimeError, match=r"is too old for this model \(.*'RELU' version '99'.*pip install --upgrade "
    ):
        delegated(model.bytes()).allocate_tensors()


def test_operator_that_nobody_knows():
    lce_model = _lce_model()
    model = lce_model.Model()
    x, out = model.input((1, 4)), model.tensor((1, 4))
    model.custom("Frobnicate", [x], [out])
    model.output(out)
    with pytest.raises(
        RuntimeError, match=r"neither r2b-runtime nor .* knows \(.*Frobnicate.*convert it again without"
    ):
        delegated(model.bytes()).allocate_tensors()


def test_error_contains_only_the_delegates_own_message():
    lce_model = _lce_model()
    model = lce_model.Model()
    x, out = model.input((1, 4)), model.tensor((1, 4))
    model.custom("LceFrobnicate", [x], [out])
    model.output(out)
    with pytest.raises(RuntimeError, match=r"^LceFrobnicate \(node 0\): .*update r2b-runtime[^\n]*$"):
        delegated(model.bytes()).allocate_tensors()


def test_stock_methods_are_there():
    made = delegated(_some_model())
    made.allocate_tensors()
    made.invoke()
    assert made.get_tensor(made.get_output_details()[0]["index"]).shape == (1, 3)
    assert made.delegate is not None
    with pytest.raises(AttributeError, match=r"frobnicate"):
        made.frobnicate()


def test_interpreter_version_is_a_known_package_and_a_number():
    name, version = r2b_runtime.interpreter_version().split()
    assert name in ("tensorflow", "ai-edge-litert", "tflite-runtime")
    assert version[0].isdigit()


def _lce_model():
    pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")
    import lce_model

    return lce_model


def _some_model():
    _lce_model()
    import small_classifier

    return small_classifier.model()
