"""Tests the rules for wheels on imitated wheels; `make wheels` applies the rules to the wheels that it builds."""

import ast
import importlib.resources
import pathlib
import struct
import zipfile

import build_native
import build_wheels
import pytest
import r2b_runtime

RUNTIME = pathlib.Path(build_native.__file__).parent
SOURCES = sorted([*RUNTIME.glob("*.py"), *RUNTIME.glob("src/r2b_runtime/**/*.py")])
ENTRY_POINTS = b"\0tflite_plugin_create_delegate\0tflite_plugin_destroy_delegate\0"
GOOD = b"\x7fELF\0libc.so.6\0libm.so.6\0GLIBC_2.4\0GLIBC_2.17\0" + ENTRY_POINTS
LICENSES = ["LICENSE", *build_wheels._LICENSES]
PACKAGE = ["__init__.py", "py.typed", "web/r2b.wasm"]


def wheel(folder, platform="manylinux2014_x86_64", library=GOOD, licenses=LICENSES, package=PACKAGE, **more):
    path = folder / f"r2b_runtime-0.1.0-py3-none-{platform}.whl"
    files = {"r2b_runtime/libr2b_runtime.so": library, **{f"r2b_runtime/{name}": b"" for name in package}, **more}
    files.update({f"r2b_runtime-0.1.0.dist-info/{name}": b"text" for name in licenses})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def macho(*libraries):
    """The start of a Mach-O library that loads these libraries."""
    commands = b"".join(
        struct.pack("<6I", 0xC, 24 + len(name) + 1, 24, 0, 0, 0) + name + b"\0" for name in map(str.encode, libraries)
    )
    return b"\xcf\xfa\xed\xfe" + struct.pack("<7I", 0, 0, 6, len(libraries), len(commands), 0, 0) + commands


def test_a_good_wheel_has_no_faults(tmp_path):
    assert build_wheels.faults(wheel(tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"library": GOOD + b"TfLiteDelegateCreate\0"}, "it names the symbol TfLiteDelegateCreate"),
        ({"library": GOOD + b"_ZN6tflite5errorEv\0"}, "it names the symbol _ZN6tflite5errorEv"),
        ({"library": GOOD + b"GLIBC_2.28\0"}, "it needs GLIBC_2.28; 2.17 is the newest allowed"),
        ({"library": GOOD + b"libstdc++.so.6\0"}, "it names the library libstdc++.so.6"),
        ({"library": GOOD.replace(ENTRY_POINTS, b"")}, "it lacks the entry point tflite_plugin_create_delegate"),
        ({"library": GOOD + bytes(build_wheels.MOST_BYTES)}, "bytes; at most 2,000,000 are allowed"),
        ({"licenses": ["LICENSE"]}, "it lacks LICENSE-libcxx.txt"),
        ({"package": ["__init__.py", "web/r2b.wasm"]}, "it lacks r2b_runtime/py.typed"),
        ({"package": ["__init__.py", "py.typed"]}, "it lacks r2b_runtime/web/r2b.wasm"),
        ({"r2b_runtime/libr2b_runtime.dylib": b""}, "it holds the libraries"),
        ({"platform": "manylinux2014_aarch65"}, "its name is not"),
    ],
)
def test_a_wheel_that_breaks_a_rule_has_its_fault_named(tmp_path, changes, fault):
    found = build_wheels.faults(wheel(tmp_path, **changes))
    assert any(fault in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("suffix", "library", "fault"),
    [
        (".dll", b"KERNEL32.dll\0api-ms-win-crt-heap-l1-1-0.dll\0r2b_runtime.dll\0", None),
        (".dll", b"libc++.dll\0", "it names the library libc++.dll"),
        (".dylib", macho("/usr/lib/libSystem.B.dylib") + b"/usr/lib/libstdc++.6.dylib\0", None),
        (
            ".dylib",
            macho("/usr/lib/libSystem.B.dylib", "/usr/lib/libc++.1.dylib"),
            "it names the library libc++.1.dylib",
        ),
    ],
)
def test_libraries_for_windows_and_macos_may_not_load_libcxx(suffix, library, fault):
    found = build_wheels.library_faults(library + ENTRY_POINTS, suffix)
    if fault is None:
        assert found == []
    else:
        assert any(fault in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("platform", "library", "fault"),
    [
        ("musllinux_1_2_armv7l", b"\x7fELF\0libc.so\0", None),
        ("musllinux_1_2_aarch64", b"\x7fELF\0libc.so.6\0", "it needs glibc, which a musl system does not have"),
        ("musllinux_1_2_x86_64", b"\x7fELF\0GLIBC_2.4\0", "it needs glibc, which a musl system does not have"),
        ("musllinux_1_2_x86_64", b"\x7fELF\0libstdc++.so.6\0", "it names the library libstdc++.so.6"),
        ("manylinux_2_31_riscv64", b"\x7fELF\0libc.so.6\0GLIBC_2.27\0GLIBC_2.31\0", None),
        ("manylinux_2_31_riscv64", b"\x7fELF\0GLIBC_2.32\0", "it needs GLIBC_2.32; 2.31 is the newest allowed"),
    ],
)
def test_libraries_may_need_only_the_c_library_of_their_platform_tag(tmp_path, platform, library, fault):
    found = build_wheels.faults(wheel(tmp_path, platform, library + ENTRY_POINTS))
    assert [sentence.startswith(str(fault)) for sentence in found] == [True] * (fault is not None)


def test_every_platform_has_a_tag_of_its_own():
    assert len({spec.wheel for spec in build_native.TARGETS.values()}) == len(build_native.TARGETS) == 9


@pytest.mark.parametrize(
    ("built_for", "target"), [("x86_64-pc-linux-gnu", "linux-"), ("x86_64-alpine-linux-musl", "musl-")]
)
def test_target_has_the_c_library_of_this_python(monkeypatch, built_for, target):
    if build_native.sys.platform != "linux":
        pytest.skip("musl is a C library for Linux")
    monkeypatch.setattr(build_native.sysconfig, "get_config_var", lambda name: built_for)
    assert build_native.host().startswith(target)


def test_the_installed_package_says_that_it_has_types():
    assert (importlib.resources.files(r2b_runtime) / "py.typed").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_sources_have_no_syntax_newer_than_python_3_9(path):
    """zip() must not have `strict` either: Python 3.9 parses this argument, but zip() refuses it there."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [node.lineno for node in calls if getattr(node.func, "id", "") == "zip" and node.keywords] == []


def test_check_fails_with_the_reason(tmp_path, monkeypatch, capsys):
    bad = wheel(tmp_path, library=GOOD + b"GLIBC_2.34\0")
    monkeypatch.setattr(build_wheels.sys, "argv", ["build_wheels.py", "--check", str(bad)])
    assert build_wheels.main()
    assert "it needs GLIBC_2.34" in capsys.readouterr().out
