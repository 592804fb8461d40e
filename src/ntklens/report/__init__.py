"""A Record rendered as one offline HTML page."""

from ntklens.report.page import render, write_report

__all__ = ["render", "write_report"]
