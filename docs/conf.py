"""Sphinx settings."""

import importlib.metadata

project = "ntklens"
author = "The ntklens developers"
copyright = "2026, the ntklens developers"
release = importlib.metadata.version("ntklens")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.xref_missing"]
html_theme = "furo"
html_title = "ntklens"
exclude_patterns = ["_build"]
