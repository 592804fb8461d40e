"""The public names, and what importing the package loads."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ntklens as nl

HEAVY = {
    *("torch", "numpy", "numba", "scipy", "sklearn", "matplotlib"),
    *("PIL", "pooch", "pydantic", "safetensors", "rich"),
    *("zarr", "dask", "distributed"),
}


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy packages a fresh process has loaded after running the code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    return HEAVY & set(json.loads(finished.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", nl.__all__)
def test_every_public_name_is_that_of_its_module(name):
    value = getattr(nl, name)
    assert getattr(sys.modules[f"ntklens.{nl._MODULE_OF[name]}"], name) is value
    assert name in dir(nl)


def test_the_table_and_the_imports_for_type_checkers_have_the_same_names():
    tree = ast.parse(Path(nl.__file__).read_text())
    imports = {
        alias.name: node.module.split(".")[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("ntklens.")
        for alias in node.names
    }
    assert imports == nl._MODULE_OF
    assert sorted(imports) == sorted(nl.__all__)


def test_submodules_and_the_version_are_attributes():
    code = "import ntklens as nl; print(nl.attacks.accuracy.__name__, nl.study.Spec.__name__, nl.__version__)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    name, spec, version = finished.stdout.split()
    assert (name, spec) == ("accuracy", "Spec")
    assert version[0].isdigit()


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ntklens' has no attribute 'fgsmm'"):
        nl.fgsmm  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import ntklens") == set()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import ntklens; ntklens.InputError", HEAVY),
        (
            "import ntklens; ntklens.StoreHome, ntklens.ClusterHome, ntklens.MemoryHome",
            HEAVY - {"torch", "numpy", "safetensors"},
        ),
        ("import ntklens; ntklens.fgsm", HEAVY - {"torch", "numpy"}),
        ("from ntklens import *", {"scipy", "numba", "sklearn", "matplotlib", "pydantic"}),
    ],
)
def test_a_name_loads_no_more_than_it_needs(code, absent):
    """SciPy, Numba and scikit-learn are loaded by the first computation that uses them."""
    assert loaded_by(code) & absent == set()
