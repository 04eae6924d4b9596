"""The report of a run: one self-contained HTML page that needs no network and no scripts."""

from pathlib import Path
from typing import Any, Optional

import jinja2
from markupsafe import Markup

from r2b_zoo.conversion import web_page
from r2b_zoo.identity import PACKAGE
from r2b_zoo.report import plots, view
from r2b_zoo.report.tables import rate
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.system import files

__all__ = ["write_report"]

PRECISION_WORDS = {"real": "real", "binary_activations": "binary activations", "binary": "binary"}
# The subject of a sentence about a network, by the network's precision.
NETWORK_WORDS = {
    "real": "A real-valued network",
    "binary_activations": "A network with 1-bit activations",
    "binary": "A 1-bit network",
}


def write_report(folder: RunFolder) -> Path:
    """Writes ``report.html`` into a run's folder, from the files in it.

    If r2b-runtime is installed with its engine for browsers, this also writes ``model.html``, a page that runs the
    network, and the report links to that page.

    Returns:
        The path of the report.

    Raises:
        RunFolderError: the run is not finished, or one of its files is damaged.
        OSError: the page cannot be written; an older page is kept.
    """
    context = _context(folder)
    has_web_page = folder.tflite_path.is_file() and web_page.is_available()
    page = (
        _environment()
        .get_template("report.html.jinja")
        .render(**context, web_page=folder.web_path.name if has_web_page else None)
    )
    if has_web_page:
        web_page.write(folder.tflite_path, folder.web_path, f"Recipe {context['results']['recipe']}")
    files.write_text(folder.report_path, page)
    return folder.report_path


def _context(folder: RunFolder) -> dict[str, Any]:
    # Imported here, because this loads TensorFlow, which takes seconds.
    from r2b_zoo.evaluation.verification import MAX_MEAN_DIFFERENCE, MIN_AGREEMENT, MIN_DECIDED, Verification

    config, results = folder.config(), folder.results()
    stages, class_names = results["stages"], results["dataset"]["class_names"]
    training_seconds = sum(stage["seconds"] or 0 for stage in stages)  # a rebuilt record has None
    curves = view.curves(folder, [stage["name"] for stage in stages], config["fields"])
    return {
        "results": results,
        "stages": stages,
        "teacher": _teacher(stages),
        "student": stages[-1],
        "examples": view.examples(folder, class_names),
        "headline": _headline(results),
        "versions": config["versions"],
        "command": view.command(config["fields"]),
        "fields": config["fields"],
        "training_seconds": training_seconds,
        # The recorded time is that of the last process, so a resumed run may have trained for longer.
        "total_seconds": results["seconds"] if results["seconds"] >= training_seconds else None,
        "curves": curves,
        "attention_was_matched": any(row.metric.column == "attention_matching" for row in curves),
        "attention": view.attention(folder, class_names),
        "map_gradient": plots.map_gradient(),
        "kinds": results["cost"],
        "cost_bars": view.cost_bars(results["cost"]),
        "confusion": view.confusion(results["tflite"]["confusion"], class_names),
        "verdict": Verification.recorded(results["verification"]).verdict,
        "limits": {"agreement": MIN_AGREEMENT, "mean_difference": MAX_MEAN_DIFFERENCE, "decided": MIN_DECIDED},
        "precision_words": PRECISION_WORDS,
    }


def _teacher(stages: list[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """Results of the first stage, for comparison with the last; None if it is the only one or not real-valued."""
    return stages[0] if len(stages) > 1 and stages[0]["precision"] == "real" else None


def _headline(results: dict[str, Any]) -> str:
    stages, tflite = results["stages"], results["tflite"]
    teacher, student = _teacher(stages), stages[-1]
    sentence = (
        f"{NETWORK_WORDS[student['precision']]} of {_size(tflite['bytes'])} recognises "
        f"{_percent(tflite['accuracy'])} of {tflite['images']:,} test images"
    )
    if teacher is None:
        return sentence + "."
    return (
        f"{sentence}; its real-valued teacher ({_size(teacher['tflite_bytes'])}) {_percent(teacher['test_accuracy'])}."
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        points=_points,
        size=_size,
        count=_count,
        milliseconds=_milliseconds,
        compared=_compared,
        duration=_duration,
        scientific=_scientific,
        breakable=_breakable,
        rate=rate,
    )
    environment.globals["kind_colour"] = view.kind_colour
    return environment


# A no-break space (U+00A0) keeps numbers and units on one line.


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}\N{NO-BREAK SPACE}points".replace("-", "−")


def _size(number: float) -> str:
    """Bytes in decimal units."""
    return _scaled(number, ("bytes", "kB", "MB", "GB"))


def _count(number: float) -> str:
    return _scaled(number, ("", "k", "M", "G", "T"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    index = 0
    while number >= 999.5 and index < len(units) - 1:
        number, index = number / 1000, index + 1
    digits = 0 if index == 0 or number >= 99.95 else 1
    return f"{number:.{digits}f}\N{NO-BREAK SPACE}{units[index]}".rstrip("\N{NO-BREAK SPACE}")


def _milliseconds(number: float) -> str:
    digits = max(0, 2 - len(str(int(number)))) if number >= 1 else 2
    return f"{number:.{digits}f}\N{NO-BREAK SPACE}ms"


def _compared(ratio: float, more: str, less: str) -> str:
    """The ratio in words: with the words "smaller" and "larger", 2 is "2.0× smaller" and 0.5 is "2.0× larger"."""
    if 0.95 < ratio < 1.05:
        return "about the same"
    factor, word = (ratio, more) if ratio > 1 else (1 / ratio, less)
    return f"{factor:.1f}× {word}" if factor < 9.95 else f"{factor:.0f}× {word}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [part for part in parts if part[0]][:2] or [parts[-1]]
    return " ".join(f"{number}\N{NO-BREAK SPACE}{unit}" for number, unit in shown)


def _scientific(number: float) -> str:
    return f"{number:.2g}" if number == 0 or number >= 0.01 else f"{number:.1e}"


def _breakable(name: str) -> Markup:
    """A name in which lines may break after underscores."""
    return Markup("_<wbr>").join(name.split("_"))
