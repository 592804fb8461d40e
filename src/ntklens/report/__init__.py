"""A Record rendered as one offline HTML page."""

from ntklens.report.page import render, write_report
from ntklens.report.sheet import write_animation, write_sheet

__all__ = ["render", "write_animation", "write_report", "write_sheet"]
