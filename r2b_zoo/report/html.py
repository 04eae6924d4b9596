"""Renders tables and records as HTML for notebooks. The ``_repr_html_`` methods of the public records use this module.

Colours are the notebook's own, except for the two of ``verdict``, which are readable on both white and black. The HTML
contains no scripts.
"""

from collections.abc import Iterable, Mapping
from typing import Optional, Union

from markupsafe import Markup, escape

from r2b_zoo.report.tables import RIGHT, Stacked
from r2b_zoo.system.terminal import printable

_CELL = "padding:.15em .7em;vertical-align:top"
_NOTE = "max-width:60em;opacity:.75;font-size:90%"
MOST_ROWS = 200
"""A table shows at most this many rows; a line below it says how many more there are."""


def table(stacked: Stacked) -> Markup:
    """Renders a table as HTML, with its text escaped."""
    head = Markup("")
    if stacked.show_header:
        cells = Markup("").join(_cell("th", heading, justify) for heading, justify in stacked.columns)
        head = Markup("<thead><tr>{}</tr></thead>").format(cells)
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                _cell("td", str(cell), justify) for cell, (_, justify) in zip(row, stacked.columns, strict=True)
            )
        )
        for row in stacked.rows[:MOST_ROWS]
    )
    more = len(stacked.rows) - MOST_ROWS
    return Markup("{}{}{}{}").format(
        heading(stacked.title) if stacked.title else "",
        Markup('<div style="overflow-x:auto"><table>{}<tbody>{}</tbody></table></div>').format(head, rows),
        note(f"{more:,} more rows.") if more > 0 else "",
        note(stacked.caption) if stacked.caption else "",
    )


def facts(title: str, values: Mapping[str, Union[str, Markup]]) -> Markup:
    """A title, and a row for each fact whose value is not empty; text that is not ``Markup`` is escaped."""
    rows = Markup("").join(
        Markup('<tr><th style="text-align:left;{0}">{1}</th><td style="text-align:left;{0}">{2}</td></tr>').format(
            _CELL, key, value if isinstance(value, Markup) else printable(value)
        )
        for key, value in values.items()
        if value
    )
    return Markup('{}<div style="overflow-x:auto"><table><tbody>{}</tbody></table></div>').format(heading(title), rows)


def heading(text: str) -> Markup:
    return Markup('<div style="font-weight:bold;margin:.4em 0">{}</div>').format(printable(text.strip()))


def note(text: str) -> Markup:
    lines = Markup("<br/>").join(escape(printable(line)) for line in text.strip().splitlines())
    return Markup('<div style="{}">{}</div>').format(_NOTE, lines)


def together(parts: Iterable[Markup]) -> str:
    return str(Markup("<div>{}</div>").format(Markup("").join(parts)))


def verdict(words: str, good: bool) -> Markup:
    """The words of a verdict in green if it is good, else in red."""
    colour = "#1a7f37" if good else "#cf222e"
    return Markup('<b style="color:{}">{}</b>').format(colour, words)


def _cell(tag: str, text: str, justify: Optional[str]) -> Markup:
    align = "right" if justify == RIGHT else "left"
    return Markup('<{0} style="text-align:{1};{2}">{3}</{0}>').format(Markup(tag), align, _CELL, text.strip())
