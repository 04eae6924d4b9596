"""Unpacks Debian systems of other architectures into folders, and runs their programs with qemu's user-mode emulation.

    python tests/debian.py                  # makes all of them in build/debian (a minute or two each, once)
    python tests/debian.py trixie-armhf     # makes one

Each system has Debian's Python, pip, NumPy and Pillow, and musl beside Debian's usual C library, glibc. Nothing is
installed on this machine itself, and no program of another architecture runs while the systems are made.
Needs `apt-get install qemu-user-static debootstrap`.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "debian"
_PACKAGES = "python3,python3-numpy,python3-pil,python3-pip,libstdc++6,musl"
# `make` creates the links to these libraries. update-alternatives usually does that when packages are installed, but
# here packages are only unpacked.
_ALTERNATIVES = ("blas/libblas.so.3", "lapack/liblapack.so.3")


@dataclasses.dataclass(frozen=True)
class Architecture:
    qemu: str
    cpu: str
    triplet: str  # Debian's name for the folder of libraries
    machine: str  # the name in wheels' platform tags and in build_native.py's targets


ARCHITECTURES = {
    "arm64": Architecture("aarch64", "cortex-a76", "aarch64-linux-gnu", "aarch64"),
    "armhf": Architecture("arm", "cortex-a7", "arm-linux-gnueabihf", "armv7l"),
    "riscv64": Architecture("riscv64", "rv64", "riscv64-linux-gnu", "riscv64"),
}


@dataclasses.dataclass(frozen=True)
class System:
    """A release of Debian for one architecture, unpacked in `folder`."""

    release: str
    architecture: str
    python: str  # version
    folder: pathlib.Path

    @property
    def name(self) -> str:
        return f"{self.release}-{self.architecture}"

    @property
    def arch(self) -> Architecture:
        return ARCHITECTURES[self.architecture]

    @property
    def exists(self) -> bool:
        return (self.folder / "made").exists()

    def make(self) -> None:
        """Unpacks the system into its folder, unless that is complete; discards what an interrupted call has left."""
        if self.exists:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        options = ["--foreign", f"--arch={self.architecture}", "--variant=minbase", f"--include={_PACKAGES}"]
        run([tool("debootstrap", "debootstrap"), *options, self.release, self.folder])
        archives = self.folder / "var/cache/apt/archives"
        for package in sorted(archives.glob("*.deb")):
            run(["dpkg-deb", "-x", package, self.folder])
        shutil.rmtree(archives)
        libraries = self.folder / "usr/lib" / self.arch.triplet
        for library in _ALTERNATIVES:
            (libraries / pathlib.PurePath(library).name).symlink_to(library)
        (self.folder / "made").touch()

    def run_python(self, arguments, paths=(), cwd=None) -> str:
        """Runs the system's Python with `paths` on its module path and returns what it prints.

        Raises `RuntimeError` if Python fails.
        """
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONHOME": str(self.folder / "usr"),
            # The OpenBLAS of NumPy's wheels for arm64 does not recognise the emulated processor.
            "OPENBLAS_CORETYPE": "ARMV8",
        }
        program = self.folder / f"usr/bin/python{self.python}"
        return run([*self.emulator(), program, *arguments], cwd=cwd, env=environment)

    def install(self, wheel, site) -> None:
        """Installs a wheel into the folder `site` with the system's pip, which refuses wheels of other platforms."""
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
        self.run_python([*pip, "--no-compile", "--target", site, wheel])

    def emulator(self) -> list:
        """The start of a command that runs one of the system's programs."""
        name = f"qemu-{self.arch.qemu}-static"
        return [tool(name, "qemu-user-static"), "-L", self.folder, "-cpu", self.arch.cpu]


def _system(release: str, architecture: str, python: str) -> System:
    return System(release, architecture, python, FOLDER / f"{release}-{architecture}")


SYSTEMS = {
    system.name: system
    for system in (
        _system("bookworm", "arm64", "3.11"),
        _system("bookworm", "armhf", "3.11"),
        _system("trixie", "arm64", "3.13"),
        _system("trixie", "armhf", "3.13"),
        _system("trixie", "riscv64", "3.13"),
    )
}


def run(command, **options) -> str:
    """Runs a command and returns its standard output and error, merged.

    Raises `RuntimeError` with the end of this text if the command fails.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))[:300]} failed with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def tool(name: str, package: str) -> str:
    """Returns a program's path; raises `RuntimeError`, which names the Debian package, if the program is missing."""
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"an emulated machine needs {name}: apt-get install {package}")
    return found


def main() -> None:
    names = sys.argv[1:] or list(SYSTEMS)
    for name in names:
        if name not in SYSTEMS:
            sys.exit(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")
    for name in names:
        SYSTEMS[name].make()
        print(f"{name} is in {SYSTEMS[name].folder}", flush=True)


if __name__ == "__main__":
    main()
