"""A hook of mkdocs. It adds the pages whose text is elsewhere in the repository.

These are the results, the notebooks with their outputs, the READMEs in export/, the help of every command, the networks
and the fields of the recipes. Nothing here loads TensorFlow.
"""

import ast
import posixpath
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")

Page = tuple[str, str, "str | bytes"]
"""Section of the navigation ("" for none), path of the page or picture as if it were in docs/, and contents."""


_made: list[Page] = []
"""The pages of this build. ``on_config`` and ``on_files`` both need them, and converting the notebooks takes long."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    _made[:] = pages()
    sections = {name: pages for entry in config.nav or [] if isinstance(entry, dict) for name, pages in entry.items()}
    for section, path, _ in _made:
        if section and path not in sections[section]:
            sections[section].append(path)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for _, path, content in _made:
        files.append(File.generated(config, path, content=content))
    return files


def pages() -> Iterator[Page]:
    """Yields every page and picture that is made from a file outside of docs/."""
    for notebook in sorted((ROOT / "notebooks").glob("[0-9]_*.ipynb")):
        yield from _notebook(notebook)
    for readme in sorted((ROOT / "export").glob("*/README.md")):
        yield "Reference", f"reference/{readme.parent.name}.md", relinked(readme)
    yield "Reference", "reference/command.md", _commands()
    yield "Reference", "reference/networks.md", _networks()
    yield "Reference", "reference/recipes.md", _recipes()
    for result in sorted((ROOT / "results").rglob("*")):
        path = result.relative_to(ROOT).as_posix()
        if result.suffix == ".md":
            yield "Results", path, relinked(result)
        elif result.suffix in (".png", ".svg"):
            yield "", path, result.read_bytes()


def relinked(source: Path, text: "str | None" = None) -> str:
    """The text of a Markdown file, whose links to files of the repository are replaced by links to pages of this site.

    If no page shows the file that a link names, the link is replaced by its words and the file's path.

    Args:
        source: path of the file.
        text: Markdown to use instead of the file's contents; its links are relative to ``source``.
    """
    folder = source.parent.relative_to(ROOT).as_posix()
    page = _page_of(source.relative_to(ROOT).as_posix()) or ""

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        file, _, anchor = target.partition("#")
        named = posixpath.normpath(posixpath.join(folder, file))
        leads_to = _page_of(named)
        if leads_to is None:
            return f"{words} (`{named}`)"
        path = posixpath.relpath(leads_to, posixpath.dirname(page))
        return f"[{words}]({path}{'#' + anchor if anchor else ''})"

    return _LINK.sub(link, source.read_text(encoding="utf-8") if text is None else text)


def _page_of(path: str) -> "str | None":
    """The page of the site that shows a file of the repository; None if there is none."""
    if match := re.fullmatch(r"notebooks/(\w+)\.(?:ipynb|py)", path):
        return f"tutorial/{match[1]}.md"
    if match := re.fullmatch(r"export/(\w+)(?:/README\.md)?", path):
        return f"reference/{match[1]}.md" if (ROOT / "export" / match[1] / "README.md").is_file() else None
    if path in ("results", "notebooks"):
        return {"results": "results/index.md", "notebooks": "tutorial/index.md"}[path]
    return path if re.fullmatch(r"results/[\w/]+\.(?:md|png|svg)", path) and (ROOT / path).is_file() else None


def _notebook(notebook: Path) -> Iterator[Page]:
    from nbconvert import MarkdownExporter

    exporter = MarkdownExporter()
    exporter.register_filter("strip_ansi", lambda text: text)
    text, resources = exporter.from_filename(str(notebook))
    for name, content in resources["outputs"].items():
        yield "", f"tutorial/{notebook.stem}/{name}", content
        text = text.replace(f"]({name})", f"]({notebook.stem}/{name})")
    # Markdown ends a block of HTML at an empty line, which would break the tables in the outputs.
    text = re.sub(r"(?s)<(style|div|table)\b.*?</\1>", lambda match: re.sub(r"\n\s*\n+", "\n", match[0]), text)
    pictures = re.compile(r"!\[[^\]]*\]\(")
    text = pictures.sub("![what the cell above draws](", text)
    yield "Tutorial", f"tutorial/{notebook.stem}.md", relinked(notebook, text)


def _commands() -> str:
    from r2b_zoo.cli import answers, r2b

    parts = ["# The command line", "What `r2b --help` and the help of its commands say."]
    for name, command in (("r2b", r2b), *((f"r2b {name}", r2b.commands[name]) for name in sorted(r2b.commands))):
        context = click.Context(command, info_name=name, help_option_names=["-h", "--help"], terminal_width=100)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```")
    json_form = (answers.__doc__ or "").replace("``", "`")
    parts.append(f"## JSON\n\n{json_form}")
    parts.append(
        "`r2b train --show` lists the fields that `FIELD=VALUE` may set; [recipes](recipes.md) says what they "
        "are. `r2b-run`, the command of the runtime, is described [there](runtime.md)."
    )
    return "\n\n".join(parts) + "\n"


def _networks() -> str:
    parts = [
        "# The networks",
        "Constructors of `r2b_zoo`; `r2b_zoo.create(name, ...)` takes the same arguments. They share a topology and "
        "these:",
    ]
    rows = _constructor_arguments().items()
    parts.append("| argument | |\n|---|---|\n" + "\n".join(f"| `{name}` | {_words(text)} |" for name, text in rows))
    for path in sorted((ROOT / "r2b_zoo/models").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "topology.network":
                doc = next(ast.literal_eval(word.value) for word in node.keywords if word.arg == "doc")
                parts.append(f"## {ast.literal_eval(node.args[0])}\n\n{_dedented(doc)}")
    return "\n\n".join(parts) + "\n"


def _constructor_arguments() -> dict[str, str]:
    """The description of each argument that all networks share, by its name."""
    topology = ast.parse((ROOT / "r2b_zoo/models/topology.py").read_text(encoding="utf-8"))
    (text,) = (
        ast.literal_eval(node.value)
        for node in topology.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_ARGUMENTS"
    )
    return _described(text.split("Args:")[1].split("Returns:")[0])


def _described(text: str) -> dict[str, str]:
    """The names and texts of a docstring's arguments or attributes."""
    lines = textwrap.dedent(text.strip("\n")).rstrip() + "\n"
    return dict(re.findall(r"^(\w+): (.+?)\n(?=\w|\Z)", lines, re.DOTALL | re.MULTILINE))


def _words(text: str) -> str:
    """The text as a cell of a table. Replaces the placeholder `{downsample}` by words, and removes the others."""
    text = re.sub(r"\{downsample\}", '"real" or "binary" convolutions in the shortcuts', text)
    return re.sub(r"\s+", " ", re.sub(r"\{\w+\}", "", text)).strip().replace("|", "\\|")


def _dedented(doc: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in doc.strip().replace("``", "`").splitlines())


def _recipes() -> str:
    from r2b_zoo import recipes

    parts = [
        "# Recipes",
        "A recipe is data: fields with values, any of which `r2b train` and `r2b_zoo.train` can override. Those of a "
        "stage have its name before them: `binary.epochs=3`.",
        *_tables_of_fields(),
    ]
    for name, recipe in recipes.RECIPES.items():
        module = ast.parse((ROOT / f"r2b_zoo/recipes/{name}.py").read_text(encoding="utf-8"))
        shown = "\n".join(f"    {key}={value}" for key, value in recipes.plan(name).config.items())
        head = ast.get_docstring(module) or recipe.__doc__
        parts.append(f"## {name}\n\n```text\n{head}\n```")
        parts.append(f'??? note "Its values: `r2b train recipe={name} --show`"\n\n    ```text\n{shown}\n    ```')
    return "\n\n".join(parts) + "\n"


def _tables_of_fields() -> Iterator[str]:
    from r2b_zoo import losses, recipes

    described = _constructor_arguments() | _described((recipes.LoopPlan.__doc__ or "").split("Attributes:")[1])
    of_classes: dict[str, ast.ClassDef] = {}
    for module in ("recipe", "finetune"):
        tree = ast.parse((ROOT / f"r2b_zoo/recipes/{module}.py").read_text(encoding="utf-8"))
        of_classes |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    weights = [f"| `{loss.field}` | `{loss.weight}` | {loss.explanation} |" for loss in losses.LOSSES]
    switches = [f"| `{loss.name}` | `True` | off: no stage has this loss |" for loss in losses.switches()]
    for title, names, generated in (
        ("Fields of a recipe", ("Recipe", "ProgressiveRecipe"), switches),
        ("Further fields of recipe finetune", ("FineTune",), []),
        ("Fields of a stage", ("Stage",), weights),
    ):
        rows = [row for name in names for row in _fields(of_classes[name], {} if name == "Stage" else described)]
        yield f"## {title}\n\n| field | default | |\n|---|---|---|\n" + "\n".join([*rows, *generated])


def _fields(node: ast.ClassDef, described: Mapping[str, str]) -> Iterator[str]:
    for field, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or "Field(" not in ast.unparse(field.value or field.target):
            continue
        call: Any = field.value
        if call.func.id != "Field":
            continue
        value = ast.unparse(call.args[0]).removeprefix("lambda: ") if call.args else "the recipe's"
        match following:
            case ast.Expr(value=ast.Constant(value=str(text))):
                pass
            case _:
                text = described.get(ast.unparse(field.target), "")
        yield f"| `{ast.unparse(field.target)}` | `{value}` | {_words(text.replace('``', '`'))} |"
