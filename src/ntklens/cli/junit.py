"""A run as a JUnit file, which the servers of continuous integration show as tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ntklens.errors import InputError

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        of: what was tested.
        name: of the test.
        passed: whether it has passed.
        sentence: what was seen.
    """

    of: str
    name: str
    passed: bool
    sentence: str


def check_place(path: Path) -> None:
    """Raise InputError where no file can be written at a path, before the work of which it is to tell."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise InputError(f"--junit: expected a file in a folder that exists; got {path}.")


def write_junit(path: Path, suite: str, cases: Sequence[Case]) -> None:
    """Write a file with one suite of tests.

    Args:
        path: of the file.
        suite: name of the suite.
        cases: the tests.

    Raises:
        InputError: the file cannot be written.
    """
    failed = sum(not case.passed for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", counts)
    parent = ElementTree.SubElement(root, "testsuite", {"name": suite} | counts)
    for case in cases:
        values = {"classname": _clean(f"ntklens.{case.of}"), "name": _clean(case.name)}
        element = ElementTree.SubElement(parent, "testcase", values)
        if case.passed:
            ElementTree.SubElement(element, "system-out").text = _clean(case.sentence)
        else:
            ElementTree.SubElement(element, "failure", {"message": _clean(case.sentence)}).text = _clean(case.sentence)
    try:
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise InputError(f"--junit: {path} cannot be written ({error.strerror}).") from error


def _clean(text: str) -> str:
    """Return a text without the characters that XML does not allow."""
    return _NOT_IN_XML.sub("?", text)
