"""Rows of the kernel machine."""

import copy
import tempfile
from pathlib import Path

import torch

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs.callee import Callee
from bad_inputs.objects import classes, images, machine

KERNEL = k.refused(nothing=None, text="x", a_class=nl.RBFKernel, function=k.value_of(lambda x1, x2: x1))
FILTER = k.refused(text="x", number=0.1, a_class=nl.Ridge)
FITTED = k.refused(nothing=None, text="x", not_fitted=k.value_of(nl.KernelMachine(nl.RBFKernel())))
NAMES = {"x": "x|inputs"}
ONE_CLASS = k.right(one_class=lambda v: 0 * v)


def _saved(change=lambda path: None):
    """Return the path of a saved machine."""
    path = Path(tempfile.mkdtemp()) / "machine.safetensors"
    machine().save(path)
    change(path)
    return path


def _state(**changes):
    state = machine().state_dict() | changes
    return {name: value for name, value in state.items() if value is not None}


def _loaded(state):
    twin = nl.KernelMachine(nl.RBFKernel())
    twin.load_state_dict(state)
    return twin.outputs(images())


TARGETS = (
    *k.FORMS,
    *k.NO_TENSOR,
    *k.right(float64=lambda v: v.double(), requires_grad=lambda v: v.clone().requires_grad_()),
    *k.refused(
        nan=lambda v: v * torch.nan,
        infinite=lambda v: v / 0,
        one_axis=lambda v: v[:, 0],
        no_columns=lambda v: v[:, :0],
        too_few=lambda v: v[:-1],
        complex=lambda v: v.to(torch.complex64),
    ),
)


def _outputs(**fitted):
    return nl.KernelMachine(nl.RBFKernel()).fit(**fitted).outputs(images(4, seed=1))


X = {"x": k.INPUTS}
_OTHER = {("x", "other shape"): None}
ROWS = [
    Callee(
        "KernelMachine",
        lambda **arguments: nl.KernelMachine(**arguments).fit(images(), classes()).outputs(images()),
        lambda: {"kernel": nl.RBFKernel(), "filter": None, "arithmetic": torch.float64},
        {"kernel": KERNEL, "filter": FILTER, "arithmetic": k.refused(half=torch.float16, text="float64", nothing=None)},
    ),
    Callee(
        "KernelMachine.fit",
        _outputs,
        lambda: {"x": images(), "y": classes()},
        {"x": k.INPUTS, "y": (*k.CLASSES, *k.refused(one_class=lambda v: 0 * v))},
        but={("x", "other shape"): None, ("y", "out of range"): None},
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "KernelMachine.fit",
        _outputs,
        lambda: {"x": images(), "y": 2.0 * classes()[:, None] - 1},
        {"y": TARGETS},
    ),
    Callee(
        "KernelMachine.refilter",
        lambda filter: machine().refilter(filter).outputs(images()),
        lambda: {"filter": nl.Ridge(0.1)},
        {"filter": (*FILTER, *k.refused(nothing=None))},
    ),
    Callee(
        "KernelMachine.refilter",
        lambda spectrum: machine().refilter(nl.GradientFlow(1.0), spectrum).outputs(images()),
        lambda: {"spectrum": machine().factorisation.leading(3)},
        {"spectrum": k.refused(text="x", number=3)},
    ),
    Callee(
        "KernelMachine.with_coefficients",
        lambda **a: machine().with_coefficients(**a).outputs(images()),
        lambda: {"coefficients": torch.ones(6, 1), "filter": nl.Ridge(0.1)},
        {
            "coefficients": (*k.NUMBERS, *k.refused(too_few=lambda v: v[:-1], one_axis=lambda v: v[:, 0])),
            "filter": (*FILTER, *k.refused(nothing=None)),
        },
    ),
    Callee(
        "KernelMachine.expand",
        lambda coefficients, arithmetic: machine().expand(coefficients, arithmetic)(images()),
        lambda: {"coefficients": torch.ones(6, 2), "arithmetic": torch.float64},
        {
            "coefficients": (*k.NUMBERS, *k.refused(too_few=lambda v: v[:-1], one_axis=lambda v: v[:, 0])),
            "arithmetic": k.refused(half=torch.float16, text="float64"),
        },
    ),
    *(
        Callee(
            f"KernelMachine.{name}",
            getattr(machine(), name),
            lambda: {"x": images(4, seed=1)},
            X,
            names=NAMES,
            empty=(("x",), k.RIGHT),
        )
        for name in ("outputs", "forward", "predict", "predict_proba", "readout")
    ),
    *(
        Callee(
            "KernelMachine.predict",
            lambda x, option=option: machine().predict(x, **option),
            lambda: {"x": images(4, seed=1)},
            X,
            but={("x", "float64"): None},
            names=NAMES,
            empty=(("x",), k.RIGHT),
        )
        for option in ({"return_std": True}, {"return_cov": True})
    ),
    Callee(
        "KernelMachine.score",
        lambda x, y: machine().score(x, y),
        lambda: {"x": images(), "y": classes()},
        {**X, "y": (*k.CLASSES,)},
        names=NAMES,
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "KernelMachine.save",
        lambda path: machine().save(path),
        lambda: {"path": Path(tempfile.mkdtemp()) / "machine.safetensors"},
        {
            "path": k.refused(
                nothing=None, number=1, no_folder="/dev/null/machine.safetensors", folder=tempfile.gettempdir()
            )
        },
        names={"path": "path|/"},
    ),
    Callee(
        "KernelMachine.load",
        lambda **arguments: nl.KernelMachine.load(**arguments).outputs(images()),
        lambda: {"path": _saved(), "kernel": nl.RBFKernel(), "filter": None},
        {
            "path": k.refused(
                nothing=None,
                number=1,
                missing="missing.safetensors",
                folder=tempfile.gettempdir(),
                empty_file=k.instead(lambda: _saved(lambda path: path.write_bytes(b""))),
                cut_file=k.instead(lambda: _saved(lambda path: path.write_bytes(path.read_bytes()[:-9]))),
            ),
            "kernel": (*KERNEL[1:], *k.refused(another=nl.RBFKernel(0.7))),
            "filter": (*FILTER, *k.refused(another=nl.Ridge(0.7))),
        },
        names={"path": "path|safetensors|/"},
    ),
    Callee(
        "KernelMachine.load_state_dict",
        _loaded,
        lambda: {"state": machine().state_dict()},
        {
            "state": (
                *k.refused(
                    nothing=None,
                    text="x",
                    none={},
                    numbers=k.instead(lambda: _state(coefficients=1.0)),
                    unknown=k.instead(lambda: _state(nope=torch.ones(1))),
                    other_shape=k.instead(lambda: _state(coefficients=torch.ones(3, 1))),
                    other_targets=k.instead(lambda: _state(targets=torch.ones(3, 1))),
                    nan=k.instead(lambda: _state(coefficients=torch.ones(6, 1) * torch.nan)),
                    damaged=k.instead(lambda: _state(description=torch.ones(3, dtype=torch.uint8))),
                ),
                *k.refused(
                    **{
                        f"without {name}": k.instead(lambda name=name: _state(**{name: None}))
                        for name in machine().state_dict()
                    }
                ),
                *k.right(copy=copy.copy),
            )
        },
        but={("state", "none"): None},
    ),
    Callee(
        "KernelMachine.set_params",
        lambda **params: (
            nl.KernelMachine(nl.RBFKernel()).set_params(**params).fit(images(), classes()).outputs(images())
        ),
        lambda: {"kernel": nl.RBFKernel(), "filter": nl.Ridge(0.1)},
        {"kernel": KERNEL, "filter": FILTER},
    ),
    Callee(
        "MemoryHome",
        lambda **arguments: nl.MemoryHome(**arguments).precision,
        lambda: {"precision": "float32"},
        {"precision": k.refused(nothing=None, unknown="half", number=32, dtype=torch.float32)},
    ),
    Callee(
        "StoreHome",
        lambda **arguments: nl.StoreHome(**arguments).memory_limit,
        lambda: {"path": "tiles", "memory_limit": 1 << 30, "method": "auto"},
        {
            "path": k.refused(nothing=None, number=1),
            "memory_limit": k.COUNT,
            "method": k.refused(nothing=None, unknown="solve", number=1),
        },
    ),
    Callee(
        "ClusterHome",
        lambda **arguments: nl.ClusterHome(**arguments).memory_limit,
        lambda: {"workers": 2, "memory_limit": 1 << 30},
        {"workers": k.COUNT, "memory_limit": k.COUNT},
    ),
]
