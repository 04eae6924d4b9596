"""An arm64 machine under emulation: Debian's Python and the stock interpreters' wheels, run by qemu-aarch64-static.

    python tests/arm64.py       # makes both in build/arm64, which tests/test_arm64.py then uses (some minutes, once)

Needs apt-get install qemu-user-static debootstrap.
"""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "arm64"
CPU = "cortex-a76"

# tflite-runtime's extension was made for NumPy 1. (The arm64 wheel of ai-edge-litert 2.3.0 crashes under qemu 7.2 on
# any model, with a delegate or without.)
INTERPRETERS = {
    "ai-edge-litert 1.4.0": ["ai-edge-litert==1.4.0"],
    "tflite-runtime 2.14.0": ["tflite-runtime==2.14.0", "numpy<2"],
}
_TAGS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28, 31, 34, 35))]


def run(command, **options):
    """The standard output and errors of a command; raises `RuntimeError` with their end where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))[:300]} failed with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def _tool(name, package):
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"an emulated arm64 machine needs {name}: apt-get install {package}")
    return found


def make_system(folder):
    """Unpacks a Debian 12 for arm64 with Python 3.11 into `folder`, unless it is there."""
    if (folder / "usr/bin/python3.11").exists():
        return
    packages = ["--variant=minbase", "--include=python3,libstdc++6"]
    run([_tool("debootstrap", "debootstrap"), "--foreign", "--arch=arm64", *packages, "bookworm", folder])
    for package in sorted((folder / "var/cache/apt/archives").glob("*.deb")):
        run(["dpkg-deb", "-x", package, folder])


def install(site, packages):
    """Installs arm64 wheels and what they need into the folder `site`."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", site]
    platforms = [f"--platform={tag}" for tag in _TAGS]
    run([*pip, *platforms, "--python-version=3.11", "--only-binary=:all:", *packages])


def site(name):
    """The folder of an interpreter's packages in `FOLDER`."""
    return FOLDER / name.replace(" ", "-")


def python(system, paths, arguments, cwd):
    """What `python3.11 arguments` prints on the emulated machine, with `paths` on its module path."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONHOME": str(system / "usr"),
        "OPENBLAS_CORETYPE": "ARMV8",
    }
    qemu = [_tool("qemu-aarch64-static", "qemu-user-static"), "-L", system, "-cpu", CPU]
    return run([*qemu, system / "usr/bin/python3.11", *arguments], cwd=cwd, env=environment)


def main():
    make_system(FOLDER / "system")
    for name, packages in INTERPRETERS.items():
        if not site(name).exists():
            partial = site(name).with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            install(partial, packages)
            partial.rename(site(name))
    print(f"an arm64 machine for the tests is in {FOLDER}")


if __name__ == "__main__":
    main()
