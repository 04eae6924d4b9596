"""Unpacks Debian's packages of the C library musl for Android's processors.

Android's C library does not run here. test_library.py runs the native libraries with musl instead, to show that they do
not depend on this machine's C library.

    python tests/musl.py       # unpacks them into build/musl, which tests/test_library.py then uses (seconds, once)

Needs apt-get and dpkg-deb, but installs nothing on this machine.
"""

import pathlib
import shutil
import subprocess

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "build" / "musl"
# Debian's name of each processor. On 32-bit ARM, Android passes floats in general registers, as armel does.
ARCHITECTURES = {"arm64-v8a": "arm64", "armeabi-v7a": "armel", "x86_64": "amd64"}


def loader(abi):
    """The dynamic loader of musl for an ABI, or None if it is not unpacked."""
    found = sorted((FOLDER / ARCHITECTURES[abi]).glob("lib/ld-musl-*.so.1"))
    return found[0] if found else None


def unpack(architecture):
    """Downloads and unpacks the package for one of Debian's architectures."""
    work = FOLDER / f"{architecture}.partial"
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "root"):
        (work / folder).mkdir(parents=True)
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::State": work / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "--quiet", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True, cwd=work)
    subprocess.run([*apt, "download", "musl"], check=True, cwd=work)
    (package,) = work.glob("musl_*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, work / "root"], check=True)
    (work / "root").rename(FOLDER / architecture)
    shutil.rmtree(work)


def main():
    for abi, architecture in ARCHITECTURES.items():
        if loader(abi) is None:
            unpack(architecture)
    print(f"musl for {', '.join(ARCHITECTURES.values())} is in {FOLDER}")


if __name__ == "__main__":
    main()
