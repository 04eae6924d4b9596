"""Runs those commands of README.md that need no camera, broker or systemd, on Debian systems for ARM.

    python check_page.py                       # on all of them (some minutes each to unpack, once, into build/)
    python check_page.py trixie-armhf          # on one

For each system, the script unpacks the packages of README.md's `apt install`, with their dependencies, from Debian's
archive. It then runs each later line of the blocks marked `sh` in the system's shell, under qemu. Wheels come from
../runtime/dist; one that is missing or older than the sources is built first. The script needs debootstrap and
qemu-user-static (apt-get install), an environment in which the runtime's tests run, and Linux 6.7 or newer, where a
user namespace can have its own binfmt_misc.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "runtime"), str(HERE.parent / "runtime" / "tests")]

import check_systems  # noqa: E402
import check_wheels  # noqa: E402
import debian  # noqa: E402

SYSTEMS = ("trixie-arm64", "trixie-armhf", "bookworm-arm64", "bookworm-armhf")
_FOLDER = HERE / "build"
# Commands that run after those of the page. The first reads a stream from standard input instead of a camera; the
# second prints the unit of a systemd service.
_MORE = (
    "cat photos/*.jpg | /opt/r2b/bin/r2b-run watch /opt/r2b/model.tflite - --hold 1 --threshold 0.3",
    "/opt/r2b/bin/r2b-run watch /opt/r2b/model.tflite rpicam-vid --mqtt broker --systemd",
)


def page():
    """The packages of the page's `apt install`, and a list of the commands after it, one for each line."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]
    first, *commands = lines
    prefix = "sudo apt install -y "
    if not first.startswith(prefix):
        raise RuntimeError(f"the page's first command is not {prefix!r}, but {first!r}")
    return first[len(prefix) :].split(), commands


# This script runs in new user and mount namespaces. It tells the kernel to start programs of the emulated processor
# with qemu, makes the Debian system the root, and runs a command there. Debian's qemu package contains the lines by
# which the kernel recognises each architecture's programs. The arguments are the system's folder, the home folder,
# qemu's path, qemu's name of the architecture, and the command.
_ENTER = """
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
sed "s|/usr/libexec/[^:]*:.*|$3:F|" "/usr/lib/binfmt.d/qemu-$4.conf" > /proc/sys/fs/binfmt_misc/register
mkdir -p "$1/home/pi"
mount --bind "$2" "$1/home/pi"
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
exec /usr/sbin/chroot "$1" /bin/sh -e -c 'cd && eval "$0"' "$5"
"""


class Board:
    """A Debian system with the page's packages, unpacked in a folder under build/."""

    def __init__(self, name, packages):
        system = debian.SYSTEMS[name]
        self.system = dataclasses.replace(system, folder=_FOLDER / name)
        self.root = self.system.folder
        if not self.system.exists:
            make(self.system, packages)
        shutil.rmtree(self.root / "opt" / "r2b", ignore_errors=True)

    def shell(self, command, folder):
        """Runs a command in the system's shell, with `folder` as home; returns its output, or raises `RuntimeError`."""
        qemu = debian.tool(f"qemu-{self.system.arch.qemu}-static", "qemu-user-static")
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/home/pi", "LC_ALL": "C.UTF-8", "OPENBLAS_CORETYPE": "ARMV8"}
        environment["QEMU_CPU"] = self.system.arch.cpu
        inside = ["unshare", "--user", "--mount", "--map-root-user", "/bin/sh", "-e", "-c", _ENTER, "enter"]
        return debian.run(
            [*inside, self.root, folder, qemu, self.system.arch.qemu, f'sudo() {{ "$@"; }}\n{command}'], env=environment
        )


def make(system, packages):
    """Unpacks a system with these packages into its folder, as `debian.System.make` does with other packages."""
    shutil.rmtree(system.folder, ignore_errors=True)
    system.folder.parent.mkdir(parents=True, exist_ok=True)
    include = ",".join(["python3", "libstdc++6", *packages])
    options = ["--foreign", f"--arch={system.architecture}", "--variant=minbase", f"--include={include}"]
    debian.run([debian.tool("debootstrap", "debootstrap"), *options, system.release, system.folder])
    archives = system.folder / "var/cache/apt/archives"
    for package in sorted(archives.glob("*.deb")):
        debian.run(["dpkg-deb", "-x", package, system.folder])
    shutil.rmtree(archives)
    for library in ("blas/libblas.so.3", "lapack/liblapack.so.3"):
        (system.folder / "usr/lib" / system.arch.triplet / pathlib.PurePath(library).name).symlink_to(library)
    # pip needs this file, which the package of certificates writes only when it is installed, not when it is unpacked.
    certificates = sorted((system.folder / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = system.folder / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_bytes(b"".join(certificate.read_bytes() for certificate in certificates))
    for name in ("proc", "dev"):  # debootstrap makes symbolic links if it may not mount
        if (system.folder / name).is_symlink():
            (system.folder / name).unlink()
        (system.folder / name).mkdir(exist_ok=True)
    (system.folder / "made").touch()


def check(name, packages, commands, folder):
    """Runs all commands on a system and prints them. Raises `RuntimeError` if one fails or prints something wrong."""
    board = Board(name, packages)
    home = folder / name
    shutil.copytree(folder / "home", home)
    shutil.copy(check_systems.wheel(f"linux-{board.system.arch.machine}"), home)
    for command in (*commands, *_MORE):
        printed = board.shell(command, home)
        print(f"{name}$ {command}", flush=True)
        words = command.partition("r2b-run ")[2].split()
        if words[:1] == ["predict"] and not re.search(r"^ *\d+\.\d+%  \w+$", printed, re.MULTILINE):
            raise RuntimeError(f"{name}: predict printed {printed!r} instead of classes")
        if words[:1] == ["watch"]:
            check_watch(name, printed, words)


def check_watch(name, printed, words):
    if "--systemd" in words:
        if "\nExecStart=/opt/r2b/bin/python" not in printed:
            raise RuntimeError(f"{name}: watch --systemd printed {printed!r} instead of a unit")
        return
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    if not events or any(event["event"] != "change" or event["damaged"] for event in events):
        raise RuntimeError(f"{name}: watch printed {printed!r} instead of changes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = f"one or more of {', '.join(SYSTEMS)} (default: all)"
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=names)
    arguments = parser.parse_args()
    for name in arguments.systems:
        if name not in SYSTEMS:
            parser.error(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")
    packages, commands = page()
    with tempfile.TemporaryDirectory() as name:
        home = pathlib.Path(name, "home")
        home.mkdir()
        check_wheels.write_model(sys.executable, home)
        (home / "photos").mkdir()
        shutil.copy(home / "photo.jpg", home / "photos")
        for system in arguments.systems or SYSTEMS:
            check(system, packages, commands, pathlib.Path(name))
            print(f"{system}: all commands of the page ran", flush=True)


if __name__ == "__main__":
    main()
