"""The examples and the Python in the texts run as they stand, and the reference names every public name."""

import re
import runpy
from pathlib import Path

import pytest
import typer

import ntklens as nl
from ntklens.cli import app

ROOT = Path(__file__).parents[1]
TEXTS = (
    "README.md",
    "docs/tutorial.md",
    "docs/own_modules.md",
    "docs/my_resnet.md",
    "docs/from_neural_tangents.md",
    "docs/large_data_sets.md",
    "docs/certificates.md",
)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_example_runs(path, capsys):
    assert len(path.read_text().splitlines()) < 80
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("%") >= 4


@pytest.mark.parametrize("name", TEXTS)
def test_python_in_the_texts_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), name, "exec"), {"__name__": "text"})


def test_no_other_text_has_python_that_is_not_run():
    # CONTRIBUTING shows excerpts of source files, which do not run on their own.
    texts = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CONTRIBUTING.md"}
    assert {str(p.relative_to(ROOT)) for p in texts if "```python" in p.read_text()} <= set(TEXTS)


def test_the_reference_lists_every_name_at_the_top_of_the_package():
    listed = set(re.findall(r"`(\w+)`", (ROOT / "docs/api.md").read_text()))
    assert set(nl.__all__) - listed == set()


def test_links_between_the_texts_lead_somewhere():
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_commands_in_the_texts_have_only_options_that_exist():
    commands = typer.main.get_command(app).commands
    wrong = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        # A command line in backticks may go over two lines.
        for name, rest in re.findall(r"ntklens (\w+)([^`|]*?)(?=`|\||\n\n|\nntklens|\n```)", path.read_text()):
            if name in commands:
                known = {option for parameter in commands[name].params for option in parameter.opts}
                wrong += [
                    f"{path.name}: {name} {o}" for o in re.findall(r"--[\w-]+", rest) if o not in {*known, "--help"}
                ]
    assert wrong == []
