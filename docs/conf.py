"""Sphinx settings of the documentation; `make docs` builds it, and treats every warning as an error."""

import importlib
import importlib.metadata
import pkgutil
import re
from pathlib import Path
from typing import Any

project = "ntklens"
author = "The ntklens developers"
copyright = "2026, the ntklens developers"
release = importlib.metadata.version("ntklens")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
napoleon_use_ivar = True  # attributes once, and not a second time beside the fields of a dataclass
napoleon_attr_annotations = False  # the signature has the types; shapes such as "n *shape" are no markup
default_role = "code"  # docstrings write `code` in single backticks
html_theme = "furo"
html_title = "ntklens"
exclude_patterns = ["_build"]


def keep_formulas(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape | and * in docstrings, where they are norms and products (|x - z|, a * b) and not markup.

    Code keeps its characters: what stands in backticks, and examples from a `>>>` to the next empty line.
    """
    in_example = False
    for i, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example:
            pieces = re.split(r"(`+[^`]*`+)", line)
            lines[i] = "".join(p if p.startswith("`") else re.sub(r"([|*])", r"\\\1", p) for p in pieces)


def modules_of(line: re.Match[str]) -> str:
    """Return one section per public module of a package."""
    package = importlib.import_module(line[1])
    names = [m.name for m in pkgutil.iter_modules(package.__path__) if not (m.ispkg or m.name.startswith("_"))]
    block = "### {0}\n\n```{{eval-rst}}\n.. automodule:: {1}.{0}\n   :members:\n```\n"
    return "\n".join(block.format(name, line[1]) for name in names)


def text_of(line: re.Match[str]) -> str:
    """Return a text of the repository's root, with links that lead within docs/; links to other files become plain text."""
    text = (Path(__file__).parents[1] / line[1]).read_text()
    text = text.partition(line[2])[0] if line[2] else text
    text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:)(?![\w-]+\.md)[^)]*\)", r"\1", text)


def expand(app: Any, docname: str, source: list[str]) -> None:
    """Replace a line `modules of PACKAGE` or `text of FILE until HEADING`, so that the pages follow the repository."""
    source[0] = re.sub(r"^modules of ([\w.]+)$", modules_of, source[0], flags=re.MULTILINE)
    source[0] = re.sub(r"^text of (\S+)(?: until (.+))?$", text_of, source[0], flags=re.MULTILINE)


def setup(app: Any) -> None:
    """Register both hooks; the first before napoleon's (priority 500), which adds markup that has to stay."""
    app.connect("autodoc-process-docstring", keep_formulas, priority=400)
    app.connect("source-read", expand)
