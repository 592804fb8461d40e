"""The examples and the README's ten lines run as they stand."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_example_runs(path, capsys):
    assert len(path.read_text().splitlines()) < 80
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("%") >= 4


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_python_in_the_texts_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), name, "exec"), {"__name__": "text"})
