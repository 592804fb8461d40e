"""Every public function against inputs that do not fit: the right result, or one sentence that names the argument.

The rows stand in `bad_inputs/`: a file per subject, in which each function says what sort of thing each argument is, and
`kinds`, which says of each sort what may be given in its place and what is expected then.
"""

import inspect
import re

import pytest
import torch

import ntklens as nl
from bad_inputs import attacks, audits, certificates, features, kernels, machines, others
from bad_inputs.callee import numbers_of, rows
from bad_inputs.kinds import REFUSED

CALLEES = [*attacks.ROWS, *kernels.ROWS, *machines.ROWS, *features.ROWS, *certificates.ROWS, *audits.ROWS, *others.ROWS]
ROWS = [row for callee in CALLEES for row in rows(callee)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_right_result_or_one_sentence_that_names_the_argument(row, untyped):
    arguments = row.arguments()
    if row.expected == REFUSED:
        with pytest.raises(nl.NtklensError) as caught:
            row.callee.call(**arguments)
        sentence = str(caught.value)
        names = "|".join(row.callee.names.get(name, re.escape(name)) for name in row.argument.split(", "))
        if row.kind.name != "empty":
            assert re.search(rf"(?<!\w)({names})", sentence), sentence
        assert sentence.rstrip().endswith((".", "?")), sentence
        assert "\n" not in sentence, sentence
        assert "Traceback" not in sentence, sentence
        assert len(sentence) < 600
    elif row.kind.name == "empty":
        row.callee.call(**arguments)
    else:
        given, clean = (numbers_of(row.callee.call(**a)) for a in (arguments, row.callee.clean()))
        assert len(given) == len(clean)
        for a, b in zip(given, clean, strict=True):
            if isinstance(b, torch.Tensor):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
            else:
                assert a == pytest.approx(b, nan_ok=True) if isinstance(b, float) else a == b


WITHOUT_DATA = {
    "AttackResult": "what `attack` returns",
    "Certificates": "what `certify` returns",
    "Check": "what `diagnose` returns",
    "CollectiveFlips": "what `collective_flips` returns",
    "Filter": "a protocol; the filters are in the table",
    "FilterChoice": "what `choose_filter` returns",
    "InputError": "an error",
    "Kernel": "abstract; the kernels are in the table",
    "NtklensError": "an error",
    "NumericalFailure": "an error",
    "UnlearnableAudit": "what `unlearnable_audit` returns",
    "UnsupportedLayer": "an error",
}
"""Public names that take no data from users, and why."""
UNCHECKED = {
    "between": "called by machines with inputs that were checked",
    "vjp_between": "called by machines with inputs that were checked",
    "checked": "what `KernelMachine.outputs` checks its inputs with",
    "expansion": "called by machines with inputs that were checked",
    "in_weight_space": "called by `expansion`, and with the first training images for an estimate of time",
    "least_inputs": "called by `expansion`, and with the first training images for an estimate of time",
    "settling": "takes nothing",
    "absent": "takes nothing",
    "fingerprint": "takes nothing",
    "distance": "takes nothing",
    "rows": "takes nothing",
    "logged": "takes nothing",
    "extra_repr": "takes nothing",
    "identity": "takes nothing",
    "of_graph": "called with a graph that was traced before",
    "gram": "called by machines with inputs that were checked",
    "get_params": "takes one flag",
    "row": "takes the beginning of a name",
    "log": "takes any object with TensorBoard's add_scalar",
    "bias_scale": "as of `Parametrisation.of`",
    "weight_scale": "as of `Parametrisation.of`",
    "matrix": "called by machines with layouts and entries",
    "plan": "called with a layout",
    "apart": "called by machines with a name of theirs",
    "connect": "takes nothing",
    "close": "takes nothing",
    "addresses": "takes nothing",
    "ascend": "called by attacks with gradients",
    "project": "called by attacks with images that were checked",
    "random_start": "called by attacks with images that were checked",
}
"""Public methods that are not in the table, and why."""


def test_the_table_has_every_public_name():
    named = {callee.name.partition(".")[0] for callee in CALLEES} & set(nl.__all__)
    assert named | WITHOUT_DATA.keys() == set(nl.__all__)
    assert not named & WITHOUT_DATA.keys()


def own_methods(cls):
    """Return the public methods that a class of ours has itself or from another class of ours."""
    for base in cls.__mro__:
        if base.__module__.startswith("ntklens"):
            for name, member in vars(base).items():
                plain = inspect.unwrap(getattr(member, "__func__", member))
                if inspect.isfunction(plain) and (not name.startswith("_") or name == "__call__"):
                    yield name


@pytest.mark.parametrize(
    "name", sorted(n for n in nl.__all__ if inspect.isclass(getattr(nl, n)) and n not in WITHOUT_DATA)
)
def test_the_table_has_every_public_method(name):
    cls = getattr(nl, name)
    listed = {callee.name for callee in CALLEES}
    listed |= {"CrossEntropy.__call__"}  # refuses everything; see test_cross_entropy
    missing = [m for m in own_methods(cls) if f"{cls.__name__}.{m}" not in listed and m not in UNCHECKED]
    assert not missing
