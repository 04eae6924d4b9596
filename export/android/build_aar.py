"""Builds the Android library, an AAR, without an Android SDK or NDK, and checks it: Java classes, native libraries,
manifest.

    python build_aar.py                     # into dist/, in some minutes; needs a JDK and pip install ziglang
    python build_aar.py --jni build/jni     # from native libraries that build_library.py made
    python build_aar.py --check dist/*.aar  # only check

dist/maven is a Maven repository that Gradle reads.
"""

import argparse
import io
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import bionic
import build_library
import build_native
import build_wheels
import elf

ROOT = pathlib.Path(__file__).resolve().parent
SOURCES = ROOT / "src"
STUBS = ROOT / "stubs"  # stand-ins for classes that Android and an app's TensorFlow Lite provide
GROUP, ARTIFACT = "zoo.r2b", "r2b-android"
MOST_BYTES = 3_000_000
_JAVA_8 = 52  # version number in class files for Java 8

_MANIFEST = f"""<?xml version="1.0" encoding="utf-8"?>
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="{GROUP}">
    <uses-sdk android:minSdkVersion="{bionic.API_LEVEL}" />
</manifest>
"""
_METADATA = """aarFormatVersion=1.0
aarMetadataVersion=1.0
minCompileSdk=1
minAndroidGradlePluginVersion=1.0.0
"""
_PROGUARD = f"""# The native code finds these by their names.
-keepclasseswithmembers,includedescriptorclasses class {GROUP}.Native {{ native <methods>; }}
-keep class {GROUP}.EngineException {{ <init>(byte[]); }}
# R2bDelegate is for apps that have TensorFlow Lite; other apps do not need the interface.
-dontwarn org.tensorflow.lite.Delegate
"""
_POM = """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>{group}</groupId>
  <artifactId>{artifact}</artifactId>
  <version>{version}</version>
  <packaging>aar</packaging>
  <name>r2b-runtime for Android</name>
  <description>Runs Larq Compute Engine models, alone or as a TensorFlow Lite delegate</description>
  <licenses>
    <license>
      <name>Apache-2.0</name>
      <url>https://www.apache.org/licenses/LICENSE-2.0.txt</url>
    </license>
  </licenses>
</project>
"""


def compile_java(output, more=()):
    """Compiles the library's classes, the stubs and the Java files in `more` into the folder `output`.

    Raises `RuntimeError` if there is no javac.
    """
    if shutil.which("javac") is None:
        raise RuntimeError("compiling the Java classes needs a JDK: apt-get install default-jdk-headless")
    files = [*sorted(SOURCES.rglob("*.java")), *sorted(STUBS.rglob("*.java")), *more]
    # Android's build tools read class files for Java 8. Newer JDKs warn that it is obsolete; -options turns this off.
    command = ["javac", "--release", "8", "-Xlint:all,-options", "-Werror", "-encoding", "UTF-8", "-d", str(output)]
    subprocess.run([*command, *map(str, files)], check=True)


def archive(files):
    """Returns the bytes of a zip archive of {name: bytes or text}. The same files always give the same archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            made.writestr(entry, content)
    return stream.getvalue()


def _classes():
    """Returns the bytes of classes.jar: classes, and licences of the project and of the compiler's libraries."""
    files = {}
    with tempfile.TemporaryDirectory() as directory:
        compile_java(directory)
        own = pathlib.Path(directory, *GROUP.split("."))
        for path in own.rglob("*.class"):
            files[path.relative_to(directory).as_posix()] = path.read_bytes()
    # Not in META-INF/ itself, because another library of the app may have a META-INF/LICENSE too.
    licenses = f"META-INF/{GROUP}/"
    files[licenses + "LICENSE"] = (build_native.ROOT / "LICENSE").read_bytes()
    for name, source in build_wheels._LICENSES.items():
        files[licenses + name] = (build_library.compiler_folder() / source).read_bytes()
    return archive(files)


def pack(jni, output):
    """Writes the AAR and the Maven repository into the folder `output`; returns the AAR's path.

    The folder `jni` has a folder for each ABI, with its native library.
    """
    version = build_native.version()
    files = {
        "AndroidManifest.xml": _MANIFEST,
        "classes.jar": _classes(),
        "proguard.txt": _PROGUARD,
        "R.txt": "",
        "META-INF/com/android/build/gradle/aar-metadata.properties": _METADATA,
    }
    for abi in build_library.ABIS:
        files[f"jni/{abi}/{build_library.LIBRARY}"] = (jni / abi / build_library.LIBRARY).read_bytes()
    name = f"{ARTIFACT}-{version}"
    folder = pathlib.Path(output, "maven", *GROUP.split("."), ARTIFACT, version)
    folder.mkdir(parents=True, exist_ok=True)
    made = archive(files)
    (folder / f"{name}.aar").write_bytes(made)
    sources = {path.relative_to(SOURCES).as_posix(): path.read_bytes() for path in SOURCES.rglob("*.java")}
    (folder / f"{name}-sources.jar").write_bytes(archive(sources))
    (folder / f"{name}.pom").write_text(_POM.format(group=GROUP, artifact=ARTIFACT, version=version))
    path = pathlib.Path(output, f"{name}.aar")
    path.write_bytes(made)
    return path


def faults(path):
    """Returns what is wrong with the AAR at `path`, as a list of sentences."""
    found = []
    if path.stat().st_size >= MOST_BYTES:
        found.append(f"it has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are allowed")
    with zipfile.ZipFile(path) as files:
        names = set(files.namelist())
        needed = {"AndroidManifest.xml", "classes.jar", "R.txt", "proguard.txt"}
        needed |= {f"jni/{abi}/{build_library.LIBRARY}" for abi in build_library.ABIS}
        found += [f"it lacks {name}" for name in sorted(needed - names)]
        if "classes.jar" in names:
            found += _class_faults(files.read("classes.jar"))
        for name in sorted(name for name in names if name.startswith("jni/")):
            with tempfile.NamedTemporaryFile() as library:
                library.write(files.read(name))
                library.flush()
                found += [f"{name}: {fault}" for fault in library_faults(elf.Library(library.name), name.split("/")[1])]
    return found


def _class_faults(jar):
    found = []
    with zipfile.ZipFile(io.BytesIO(jar)) as files:
        classes = [name for name in files.namelist() if name.endswith(".class")]
        for name in classes:
            if not name.startswith(GROUP.replace(".", "/") + "/"):
                found.append(f"classes.jar holds {name}, which the app already contains")
            elif int.from_bytes(files.read(name)[6:8], "big") != _JAVA_8:
                found.append(f"classes.jar holds {name}, which is not Java 8")
        if "zoo/r2b/Engine.class" not in classes:
            found.append("classes.jar lacks zoo/r2b/Engine.class")
    return found


def native_methods():
    """The names of the C functions that implement the native methods of Native.java."""
    text = (SOURCES / "zoo" / "r2b" / "Native.java").read_text()
    return {f"Java_zoo_r2b_Native_{name}" for name in re.findall(r"static native \S+ (\w+)\(", text)}


def library_faults(library, abi):
    """The rules of Android and the promises of README.md that an `elf.Library` for `abi` breaks, as sentences."""
    system = bionic.libraries(build_library.ABIS[abi].arch)
    offered = {symbol for symbols in system.values() for symbol in symbols}
    own = re.compile(r"Java_zoo_r2b_Native_\w+|r2b_\w+|tflite_plugin_\w+")
    odd = sorted(set(library.alignments) - {build_library.PAGE_BYTES})
    rules = {
        f"it is for {library.abi}": library.abi != abi,
        f"it is named '{library.name}' instead of {build_library.LIBRARY}": library.name != build_library.LIBRARY,
        f"it is laid out for pages of {', '.join(map(str, odd))} bytes": odd,
        "it changes its code while it is loaded": library.text_relocations,
        "it has code that can be written": library.writable_code,
        "its stack can be executed": library.executable_stack,
        f"it needs thread-local variables, which API level {bionic.API_LEVEL} does not support": library.thread_local,
    }
    found = [sentence for sentence, broken in rules.items() if broken]
    found += [f"it needs {name}" for name in library.needed if name not in system]
    found += [f"it needs the symbol {name}, which is not in bionic.py" for name in sorted(library.undefined - offered)]
    found += [f"it exports the symbol {name}" for name in sorted(library.exported) if not own.fullmatch(name)]
    found += [f"it lacks {name}" for name in sorted(native_methods() - library.exported)]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "dist")
    parser.add_argument(
        "--jni", type=pathlib.Path, default=None, metavar="FOLDER", help="folder of libraries that are already built"
    )
    parser.add_argument("--check", type=pathlib.Path, default=None, metavar="AAR", help="only check this")
    arguments = parser.parse_args()
    path = arguments.check
    if path is None:
        jni = arguments.jni or ROOT / "build" / "jni"
        for abi in () if arguments.jni else build_library.ABIS:
            print(build_library.build(abi, jni / abi), flush=True)
        path = pack(jni, arguments.output)
    wrong = faults(path)
    print(f"{path}: {path.stat().st_size:,} bytes, {'; '.join(wrong) if wrong else 'no fault found'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
