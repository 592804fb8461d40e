"""A Record rendered as one offline HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ntklens.report.images import write_images
    from ntklens.report.page import render, write_report
    from ntklens.report.sheet import write_animation, write_sheet
else:
    # The command line takes text tables from this package, which need no matplotlib: figures load it when they are drawn.
    import importlib

    _MODULE_OF = {
        "render": "page",
        "write_animation": "sheet",
        "write_images": "images",
        "write_report": "page",
        "write_sheet": "sheet",
    }

    def __getattr__(name: str) -> object:
        """Load a function when it is first used (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


__all__ = ["render", "write_animation", "write_images", "write_report", "write_sheet"]
