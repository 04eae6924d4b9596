"""Sets up an emulated arm64 machine, on which qemu-aarch64-static runs Debian 12's Python and the stock interpreters.

    python tests/arm64.py       # sets up the system and the interpreters for tests/test_arm64.py (minutes, once)

Needs `apt-get install qemu-user-static debootstrap`.
"""

import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian

FOLDER = debian.ROOT / "build" / "arm64"
SYSTEM = debian.SYSTEMS["bookworm-arm64"]

# ai-edge-litert 2.3.0 is not here, since its arm64 wheel crashes under qemu 7.2 on any model, with or without a
# delegate. tflite-runtime's extension was built for NumPy 1.
INTERPRETERS = {
    "ai-edge-litert 1.4.0": ["ai-edge-litert==1.4.0"],
    "tflite-runtime 2.14.0": ["tflite-runtime==2.14.0", "numpy<2"],
}
_TAGS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28, 31, 34, 35))]


def install(site, packages):
    """Installs arm64 wheels and their dependencies into the folder `site`."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", site]
    platforms = [f"--platform={tag}" for tag in _TAGS]
    debian.run([*pip, *platforms, "--python-version=3.11", "--only-binary=:all:", *packages])


def site(name):
    """Returns the folder for an interpreter's packages."""
    return FOLDER / name.replace(" ", "-")


def exists():
    return SYSTEM.exists and all(site(name).exists() for name in INTERPRETERS)


def main():
    SYSTEM.make()
    for name, packages in INTERPRETERS.items():
        if not site(name).exists():
            partial = site(name).with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            install(partial, packages)
            partial.rename(site(name))
    print(f"an arm64 machine for the tests is in {SYSTEM.folder}, interpreters for it in {FOLDER}")


if __name__ == "__main__":
    main()
