"""The command line as a user meets it: a process, its exit code, its output."""

import subprocess
import sys
from pathlib import Path

SMALL = ["--classes", "2,4", "--train", "40", "--test", "20", "--steps", "2"]
"""Options of an attack that takes a second."""

MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
"""
"""A file with a factory of a linear network for two classes of 28 x 28 images."""


def ntklens(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh process."""
    command = [sys.executable, "-c", "from ntklens.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
