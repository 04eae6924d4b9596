"""The command `r2b-run`, which classifies images, describes and times model files, and watches a camera."""

import argparse
import collections
import math
import os
import platform
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional, get_args

from r2b_runtime import benchmark, envelope, microcontroller, model_file
from r2b_runtime.classifier import Classes, Classifier
from r2b_runtime.engine import Engine
from r2b_runtime.interpreter import EngineName, Options
from r2b_runtime.library import available_kernels, version
from r2b_runtime.pixels import MAX_PIXELS
from r2b_runtime.terminal import printable
from r2b_runtime.watch import command as watch


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command and returns its exit status: 0, 1 after an error, or that of `watch`.

    Raises `SystemExit` with status 2 if the arguments are wrong.
    """
    parsed = _parser().parse_args(arguments)
    # Pillow warns of images above its limit, and refuses those above twice that limit. Hide the warning, since the
    # command has its own limit, --max-pixels.
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb", RuntimeWarning)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for labels with characters that the terminal lacks
    try:
        result = parsed.run(parsed)
        if parsed.show is None:  # the command has printed its output, and returned its exit status
            return int(result)
        print(envelope.document(parsed.name, result) if parsed.json else parsed.show(result))
    except BrokenPipeError:  # as in `r2b-run info model.tflite | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
        text = printable(" ".join(str(error).split()))
        print("r2b-run:", text or type(error).__name__, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="r2b-run", description="Runs 1-bit networks that Larq Compute Engine converted."
    )
    parser.add_argument("--version", action="version", version=f"r2b-runtime {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], Any], show: Callable[[Any], str], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("model", metavar="MODEL", help="a .tflite file")
        sub.add_argument("--json", action="store_true", help=f"print one line of JSON instead: {envelope.FORM}")
        sub.set_defaults(run=run, show=show, name=name)
        return sub

    predict = command("predict", _predict, _show_predict, "print the most probable classes of images")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="an image file")
    predict.add_argument("--top", type=_positive, default=5, metavar="N", help="how many classes (default: 5)")
    predict.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads (default: 1)")
    predict.add_argument(
        "--max-pixels",
        type=_positive,
        default=MAX_PIXELS,
        metavar="N",
        help=f"refuse image files with more pixels (default: {MAX_PIXELS})",
    )
    _add_engine(predict)
    _add_limits(predict)

    info = command("info", _info, _show_info, "print operators, sizes, labels and preprocessing of a model")
    info.add_argument("--memory", action="store_true", help="also print the flash and RAM that a microcontroller needs")

    bench = command("bench", _bench, _show_bench, "time a model on random input")
    bench.add_argument(
        "--threads", type=_positive, nargs="+", default=[1], metavar="N", help="thread counts to time (default: 1)"
    )
    bench.add_argument(
        "--runs",
        type=_positive,
        default=50,
        metavar="N",
        help="inferences for each engine and number of threads (default: 50)",
    )
    bench.add_argument(
        "--kernels",
        default=None,
        metavar="NAME",
        help=f"use these kernels, not the best ones: {', '.join(available_kernels())}",
    )
    bench.add_argument("--profile", action="store_true", help="time every step too")
    _add_limits(bench)
    _add_engine(bench, "; default: r2b, and also litert if an interpreter is installed")

    watching = commands.add_parser("watch", help="print a line whenever a camera sees another class")
    watch.add_arguments(watching)
    _add_limits(watching)
    watching.set_defaults(run=lambda parsed: watch.run(parsed, **_limits(parsed)), show=None)
    return parser


def _add_engine(sub: argparse.ArgumentParser, default: str = " (default: r2b)") -> None:
    sub.add_argument(
        "--engine",
        choices=get_args(EngineName),
        help=f"what runs the model: r2b alone, or a TensorFlow Lite interpreter with the delegate{default}",
    )


def _add_limits(sub: argparse.ArgumentParser) -> None:
    """Adds the options that limit a file's memory and work. Without them the library applies its defaults."""
    sub.add_argument("--max-memory", type=_positive, metavar="MIB", help="memory the model may take (default: 2048)")
    sub.add_argument(
        "--max-work", type=_positive, metavar="N", help="billions of operations of one inference (default: 200)"
    )


def _limits(parsed: argparse.Namespace) -> Options:
    options: Options = {}
    if parsed.max_memory is not None:
        options["max_memory"] = parsed.max_memory
    if parsed.max_work is not None:
        options["max_work"] = parsed.max_work
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1; received {text!r}")
    return int(text)


def _predict(parsed: argparse.Namespace) -> list[dict[str, Any]]:
    """The classes of one image; of several images, a dict with path and classes for each."""
    options = _limits(parsed)
    options["engine"] = parsed.engine or "r2b"
    classifier = Classifier(parsed.model, parsed.threads, **options)
    images = parsed.images if len(parsed.images) > 1 else parsed.images[0]
    found = classifier.predict(images, parsed.top, parsed.max_pixels)
    if images is not parsed.images:
        return _classes(found)
    return [{"image": path, "classes": _classes(classes)} for path, classes in zip(images, found)]


def _classes(found: Classes) -> list[dict[str, Any]]:
    return [{"label": label, "probability": value} for label, value in found]


def _show_predict(result: list[dict[str, Any]]) -> str:
    if result and "image" in result[0]:
        return "\n".join(f"{printable(one['image'])}\n{_show_predict(one['classes'])}" for one in result)
    return "\n".join(f"{entry['probability']:8.2%}  {printable(entry['label'])}" for entry in result)


def _info(parsed: argparse.Namespace) -> dict[str, Any]:
    model = model_file.read(parsed.model)
    labels, preprocessing = model.labels(), model.preprocessing()
    binary_macs, float_macs = _macs(model)
    binary_bytes, other_bytes = _constant_bytes(model)
    refusal = _refusal(model)
    return {
        "file": parsed.model,
        "bytes": len(model.data),
        "binary_weight_bytes": binary_bytes,
        "other_constant_bytes": other_bytes,
        "inputs": [_tensor(tensor) for tensor in model.inputs if tensor],
        "outputs": [_tensor(tensor) for tensor in model.outputs if tensor],
        "operators": dict(collections.Counter(operator.name for operator in model.operators).most_common()),
        "binary_macs": binary_macs,
        "float_macs": float_macs,
        "binary_share_of_macs": binary_macs / max(1, binary_macs + float_macs),
        "engine_refuses": refusal,
        "microcontroller": vars(microcontroller.memory(model)) if parsed.memory and refusal is None else None,
        "labels": None if labels is None else list(labels),
        "preprocessing": None if preprocessing is None else vars(preprocessing),
        "converter": model.description or None,
        # Larq Compute Engine's converter (0.16) writes no version.
        "lce_version": None,
    }


def _refusal(model: model_file.ModelFile) -> Optional[str]:
    """The reason why the engine does not run a model; None if it does."""
    try:
        Engine(model)
    except RuntimeError as error:
        return str(error)
    return None


def _macs(model: model_file.ModelFile) -> tuple[int, int]:
    """Multiply-accumulates of one inference: binary ones, and others."""
    binary = sum(operator.macs for operator in model.operators if operator.binary)
    return binary, sum(operator.macs for operator in model.operators) - binary


def _constant_bytes(model: model_file.ModelFile) -> tuple[int, int]:
    """Bytes of constants: bit-packed ones, and others. A constant that several operators read counts once."""
    readers = {id(tensor): (tensor, reader) for reader in model.operators for tensor in reader.inputs if tensor}
    binary = sum(tensor.bytes for tensor, reader in readers.values() if reader.binary and tensor.dtype == "int32")
    return binary, sum(tensor.bytes for tensor, _ in readers.values()) - binary


def _tensor(tensor: model_file.Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "type": tensor.dtype}


def _show_info(info: dict[str, Any]) -> str:
    labels, preparation = info["labels"], info["preprocessing"]
    lines = [
        ("file", f"{info['file']}, {info['bytes']:,} bytes"),
        ("constants", f"{info['binary_weight_bytes']:,} bytes binary, {info['other_constant_bytes']:,} bytes other"),
    ]
    lines += [("input", _line(tensor)) for tensor in info["inputs"]] + [
        ("output", _line(tensor)) for tensor in info["outputs"]
    ]
    lines += [
        (
            "MACs",
            f"{info['binary_macs'] / 1e6:,.1f} M binary ({info['binary_share_of_macs']:.1%}), "
            f"{info['float_macs'] / 1e6:,.1f} M other",
        ),
        (
            "labels",
            "none in the file"
            if labels is None
            else f"{len(labels)}: {', '.join(labels[:4])}{', ...' if len(labels) > 4 else ''}",
        ),
        ("preprocessing", "none in the file" if preparation is None else _preparation(preparation)),
        (
            "converter",
            f"{info['converter'] or 'not recorded in the file'}; "
            "version of Larq Compute Engine not recorded in the file",
        ),
        ("engine", info["engine_refuses"] or "runs it without an interpreter"),
        *_needs(info["microcontroller"]),
        ("operators", f"{sum(info['operators'].values())}"),
    ]
    text = [_wrapped(f"{name:14} {printable(value)}", 15) for name, value in lines]
    text += [_wrapped(f"{count:10}  {printable(name)}", 12) for name, count in info["operators"].items()]
    return "\n".join(text)


def _needs(sizes: Optional[dict[str, int]]) -> list[tuple[str, str]]:
    """The lines on the flash and the RAM that a microcontroller needs; none where they are unknown."""
    if sizes is None:
        return []
    return [
        ("flash", f"{sizes['file']:,} bytes of the file, and about {sizes['code']:,} of code on a Cortex-M7"),
        (
            "RAM",
            f"{sizes['weights'] + sizes['rest']:,} bytes, {sizes['weights']:,} of them for copies of the "
            "weights in the order in which kernels read them; with one thread and portable kernels",
        ),
    ]


def _wrapped(line: str, indent: int = 0) -> str:
    """The line wrapped to the terminal's width, with further lines indented; unchanged for a file or a pipe."""
    if not sys.stdout.isatty():
        return line
    width = max(shutil.get_terminal_size().columns, indent + 20)
    kept = len(line) - len(line.lstrip(" "))
    return textwrap.fill(
        line[kept:],
        width,
        initial_indent=" " * kept,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _line(tensor: dict[str, Any]) -> str:
    return f"{tensor['type']} {'x'.join(map(str, tensor['shape']))}  {tensor['name']}"


def _preparation(fields: dict[str, Any]) -> str:
    mean, std = (", ".join(f"{value:g}" for value in fields[name]) for name in ("mean", "std"))
    return (
        f"centre {fields['crop_fraction']:g}, bicubic to {fields['height']}x{fields['width']}x{fields['channels']}, "
        f"mean {mean}, deviation {std}"
    )


def _bench(parsed: argparse.Namespace) -> dict[str, Any]:
    model = model_file.read(parsed.model)
    options = _limits(parsed)
    if parsed.kernels is not None:
        options["kernels"] = parsed.kernels
    binary, others = _macs(model)
    total = binary + others
    interpreter = None if parsed.engine == "r2b" else _interpreter(required=parsed.engine == "litert")
    engines: list[EngineName] = [parsed.engine] if parsed.engine else ["r2b", "litert"] if interpreter else ["r2b"]
    results: list[dict[str, Any]] = []
    refusals: list[RuntimeError] = []
    for engine in engines:
        options["engine"] = engine
        try:
            results += [_timed(parsed, threads, options) for threads in parsed.threads]
        except RuntimeError as error:
            refusals.append(error)
            results.append({"engine": engine, "refused": str(error)})
    if len(refusals) == len(engines):
        raise refusals[0]
    return {
        "file": parsed.model,
        "runtime": version(),
        "interpreter": interpreter,
        "cpu": benchmark.cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "kernels": parsed.kernels or os.environ.get("R2B_RUNTIME_KERNELS") or available_kernels()[0],
        "binary_share_of_macs": binary / total if total else 0.0,
        "results": results,
        "peak_memory_bytes": benchmark.peak_memory(),
    }


def _interpreter(required: bool) -> Optional[str]:
    """Name and version of the stock interpreter; None where there is none and none is required."""
    from r2b_runtime.delegate import interpreter_version

    try:
        return interpreter_version()
    except ImportError:
        if required:
            raise
        return None


def _timed(parsed: argparse.Namespace, threads: int, options: Options) -> dict[str, Any]:
    timing = benchmark.time_model(parsed.model, threads, parsed.runs, **options)
    result: dict[str, Any] = {
        "engine": options["engine"],
        "threads": threads,
        "runs": timing.runs,
        "median_ms": timing.median * 1e3,
        "minimum_ms": timing.minimum * 1e3,
        "load_and_first_inference_ms": timing.first * 1e3,
        "peak_memory_bytes": benchmark.peak_memory(),  # of the process so far
    }
    if parsed.profile:
        result["profile"] = _profile(benchmark.profile_model(parsed.model, threads, parsed.runs, **options))
    return result


def _profile(measured: benchmark.Profile) -> dict[str, Any]:
    return {
        "kernels": measured.kernels,
        "total_ms": measured.seconds * 1e3,
        "steps": [{"name": step.name, "ms": step.seconds * 1e3, "binary": step.binary} for step in measured.steps],
        "rest_ms": measured.rest * 1e3,
        "binary_share_of_steps": measured.binary_share,
    }


def _show_bench(result: dict[str, Any]) -> str:
    memory, beside = result["peak_memory_bytes"], result["interpreter"]
    timings = [timing for timing in result["results"] if "refused" not in timing]
    lines = [
        _wrapped(f"{printable(result['file'])} with r2b-runtime {result['runtime']}"),
        _wrapped(f"{result['cpu']}, {result['cores']} cores, {result['system']}, kernels: {result['kernels']}"),
        f"{result['binary_share_of_macs']:.1%} of the multiply-accumulates are binary",
    ]
    if beside:
        lines.append(_wrapped(f"engine litert: {beside} with the delegate"))
    lines += [
        _wrapped(f"engine {refusal['engine']}: {printable(refusal['refused'])}")
        for refusal in result["results"]
        if "refused" in refusal
    ]
    lines += ["", f"{'engine':>7}  {'threads':>7}  {'median ms':>9}  {'min ms':>8}  {'first ms':>8}  runs"]
    for timing in timings:
        lines.append(
            f"{timing['engine']:>7}  {timing['threads']:7}  {timing['median_ms']:9.3f}  {timing['minimum_ms']:8.3f}  "
            f"{timing['load_and_first_inference_ms']:8.1f}  {timing['runs']}"
        )
    for timing in timings:
        if "profile" in timing:
            lines += ["", *_show_profile(timing["engine"], timing["threads"], timing["profile"])]
    alone = [timing["peak_memory_bytes"] for timing in timings if timing["engine"] == "r2b"]
    shown = f"{_mebibytes(alone[-1])} with the engine, {_mebibytes(memory)} in all" if alone and beside else None
    lines += ["", f"peak memory of the process: {shown or _mebibytes(memory)}"]
    return "\n".join(lines)


def _mebibytes(size: Optional[int]) -> str:
    return "unknown" if size is None else f"{math.ceil(size / 2**20)} MiB"


def _show_profile(engine: str, threads: int, profile: dict[str, Any]) -> list[str]:
    total = profile["total_ms"]
    rest = "rest: the interpreter, and operators left to it" if engine == "litert" else "rest: calling the library"
    rows = [*profile["steps"], {"name": rest, "ms": profile["rest_ms"]}]
    lines = [
        _wrapped(
            f"{engine}, {threads} thread{'s' if threads > 1 else ''}, {profile['kernels']}: where the time goes (mean "
            "of the faster half of the runs, profiler on)"
        )
    ]
    lines += [_wrapped(f"{row['ms']:9.3f} ms {row['ms'] / total:6.1%}  {printable(row['name'])}", 21) for row in rows]
    lines.append(f"{total:9.3f} ms         whole inference")
    steps = total - profile["rest_ms"]
    share = profile["binary_share_of_steps"]
    lines.append(
        _wrapped(
            f"The steps add up to {steps / total:.1%} of the inference; steps that start with a binary operator take "
            f"{share:.0%} of that, the other steps {1 - share:.0%}."
        )
    )
    return lines
