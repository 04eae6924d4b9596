"""The AAR: its contents, the faults that the check finds, and the Java code in README.md."""

import io
import re
import shutil
import subprocess
import types
import xml.etree.ElementTree as ElementTree
import zipfile

import bionic
import build_aar
import build_library
import build_native
import elf
import pytest
from conftest import ROOT

needs_javac = pytest.mark.skipif(shutil.which("javac") is None, reason="no javac: apt-get install default-jdk-headless")


def good(**changes):
    """The attributes of an elf.Library without a fault, some of them replaced by `changes`."""
    described = {
        "abi": "arm64-v8a",
        "name": build_library.LIBRARY,
        "needed": ["libc.so", "libdl.so"],
        "undefined": {"malloc", "__errno"},
        "exported": build_aar.native_methods() | {"r2b_version"},
        "alignments": [16384, 16384],
        "text_relocations": False,
        "writable_code": False,
        "executable_stack": False,
        "thread_local": False,
    }
    return types.SimpleNamespace(**{**described, **changes})


def test_a_good_library_has_no_faults():
    assert build_aar.library_faults(good(), "arm64-v8a") == []
    assert len(build_aar.native_methods()) > 20


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"abi": "x86_64"}, "it is for x86_64"),
        ({"name": "libother.so"}, "it is named 'libother.so' instead of libr2b_android.so"),
        ({"needed": ["libc.so", "libstdc++.so.6"]}, "it needs libstdc++.so.6"),
        ({"undefined": {"__errno_location"}}, "it needs the symbol __errno_location, which is not in bionic.py"),
        ({"undefined": {"strtold"}}, "it needs the symbol strtold"),
        ({"exported": build_aar.native_methods() | {"_ZN3r2b4PlanC1Ev"}}, "it exports the symbol _ZN3r2b4PlanC1Ev"),
        ({"exported": {"r2b_version"}}, "it lacks Java_zoo_r2b_Native_run"),
        ({"alignments": [16384, 4096]}, "it is laid out for pages of 4096 bytes"),
        ({"text_relocations": True}, "it changes its code while it is loaded"),
        ({"writable_code": True}, "it has code that can be written"),
        ({"executable_stack": True}, "its stack can be executed"),
        ({"thread_local": True}, "it needs thread-local variables, which API level 23 does not support"),
    ],
)
def test_faults_of_libraries(changes, fault):
    found = build_aar.library_faults(good(**changes), "arm64-v8a")
    assert any(sentence.startswith(fault) for sentence in found), found


def test_library_compiled_for_this_machine_fails_the_check(tmp_path):
    """The check finds the faults of a library that was compiled for this machine and read by elf.py."""
    if build_native.host() != "linux-x86_64" or build_native.machine_compiler() is None:
        pytest.skip("needs x86-64 Linux and a C++ compiler: apt-get install g++")
    (tmp_path / "small.cc").write_text(
        "#include <string>\nthread_local std::string text;\nint length() { return text.size(); }"
    )
    command = [*build_native.machine_compiler(), "-shared", "-fPIC", tmp_path / "small.cc", "-o", tmp_path / "small.so"]
    subprocess.run([*command, "-Wl,-z,max-page-size=4096", "-Wl,--hash-style=both"], check=True)
    found = build_aar.library_faults(elf.Library(tmp_path / "small.so"), "x86_64")
    for fault in (
        "it is named ''",
        "it needs libstdc++.so.6",
        "it is laid out for pages of 4096",
        "thread-local",
        "_Z6length",
    ):
        assert any(fault in sentence for sentence in found), (fault, found)
    with pytest.raises(ValueError, match="starts with 7f454c46"):
        elf.Library(tmp_path / "small.cc")


@pytest.fixture(scope="module")
def aar(tmp_path_factory):
    """An AAR whose native libraries contain only the name of their ABI."""
    folder = tmp_path_factory.mktemp("aar")
    for abi in build_library.ABIS:
        (folder / "jni" / abi).mkdir(parents=True)
        (folder / "jni" / abi / build_library.LIBRARY).write_bytes(abi.encode())
    return build_aar.pack(folder / "jni", folder / "dist")


@needs_javac
def test_what_is_packed(aar):
    with zipfile.ZipFile(aar) as files:
        names = set(files.namelist())
        assert {f"jni/{abi}/libr2b_android.so" for abi in ("arm64-v8a", "armeabi-v7a", "x86_64")} < names
        manifest = ElementTree.fromstring(files.read("AndroidManifest.xml"))
        assert manifest.get("package") == "zoo.r2b"
        level = manifest.find("uses-sdk").get("{http://schemas.android.com/apk/res/android}minSdkVersion")
        assert int(level) == bionic.API_LEVEL
        assert files.read("R.txt") == b""
        rules = files.read("proguard.txt").decode()
        assert all(
            name in rules for name in ("zoo.r2b.Native", "zoo.r2b.EngineException", "org.tensorflow.lite.Delegate")
        )
        classes = zipfile.ZipFile(io.BytesIO(files.read("classes.jar"))).namelist()
        assert build_aar._class_faults(files.read("classes.jar")) == []
    assert {"zoo/r2b/Engine.class", "zoo/r2b/Classifier.class", "zoo/r2b/R2bDelegate.class"} < set(classes)
    assert {"META-INF/zoo.r2b/LICENSE", "META-INF/zoo.r2b/LICENSE-libcxx.txt"} < set(classes)


def test_the_same_files_make_the_same_archive():
    files = {"b": b"2", "a": b"1"}
    assert build_aar.archive(files) == build_aar.archive(dict(sorted(files.items())))


@needs_javac
def test_the_maven_repository(aar):
    folder = aar.parent / "maven" / "zoo" / "r2b" / "r2b-android" / build_native.version()
    name = f"r2b-android-{build_native.version()}"
    assert {path.name for path in folder.iterdir()} == {f"{name}.aar", f"{name}.pom", f"{name}-sources.jar"}
    assert (folder / f"{name}.aar").read_bytes() == aar.read_bytes()
    pom = ElementTree.fromstring((folder / f"{name}.pom").read_text())
    fields = [pom.find(f"{{http://maven.apache.org/POM/4.0.0}}{field}").text for field in ("groupId", "artifactId")]
    assert fields == ["zoo.r2b", "r2b-android"]
    assert pom.find("{http://maven.apache.org/POM/4.0.0}packaging").text == "aar"
    assert "zoo/r2b/Engine.java" in zipfile.ZipFile(folder / f"{name}-sources.jar").namelist()


@needs_javac
def test_faults_of_archives(aar, tmp_path):
    with zipfile.ZipFile(aar) as files:
        content = {name: files.read(name) for name in files.namelist() if not name.startswith("jni/")}
    del content["R.txt"]
    content["classes.jar"] = build_aar.archive({"android/graphics/Bitmap.class": b"", "zoo/r2b/New.class": bytes(8)})
    broken = tmp_path / "broken.aar"
    broken.write_bytes(build_aar.archive(content))
    found = build_aar.faults(broken)
    for fault in (
        "it lacks R.txt",
        "it lacks jni/x86_64/libr2b_android.so",
        "classes.jar holds android/graphics/Bitmap.class, which the app already contains",
        "classes.jar holds zoo/r2b/New.class, which is not Java 8",
        "classes.jar lacks zoo/r2b/Engine.class",
    ):
        assert fault in found


@needs_javac
def test_java_code_of_the_readme_compiles(tmp_path):
    blocks = re.findall(r"```java\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    files = []
    for block in blocks:
        (name,) = re.findall(r"^(?:final )?class (\w+)", block, re.MULTILINE)
        files.append(tmp_path / f"{name}.java")
        files[-1].write_text(block)
    build_aar.compile_java(tmp_path / "classes", files)
    assert (tmp_path / "classes" / "Labels.class").is_file()


def test_what_is_missing_is_named(monkeypatch, capsys):
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        without.delenv("JAVA_HOME", raising=False)
        with pytest.raises(RuntimeError, match=r"jni\.h comes with a JDK: apt-get install default-jdk-headless"):
            build_library.jni_headers()
        with pytest.raises(RuntimeError, match="compiling the Java classes needs a JDK"):
            build_aar.compile_java("nowhere")
    with monkeypatch.context() as without:
        without.setattr(build_native.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(RuntimeError, match="compiling for Android needs a cross compiler: pip install ziglang"):
            build_library.compiler_folder()
    monkeypatch.setattr(build_library.sys, "argv", ["build_library.py", "mips"])
    with pytest.raises(SystemExit):
        build_library.main()
    assert "there is no ABI 'mips'; there are arm64-v8a, armeabi-v7a, x86_64" in capsys.readouterr().err
