"""Rows of the kernels and of what makes them."""

import torch

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs.callee import Callee
from bad_inputs.objects import analytic, empirical, generator, images, network
from ntklens.linalg import Ridge

PAIR = {"x1": k.INPUTS, "x2": k.INPUTS}
MADE = {"linear": nl.LinearKernel, "RBF": nl.RBFKernel}


def _pair():
    return {"x1": images(), "x2": images(4, seed=1)}


def _flat_or_not(x):
    """Return the kernel of images, or of flat inputs, whose pullback shares products with the matrix."""
    return (
        analytic()
        if x.ndim == 4
        else nl.analytic_kernel(torch.nn.Sequential(torch.nn.Linear(9, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)))
    )


def _weighted():
    return {**_pair(), "weights": torch.rand(6, 4, generator=generator())}


def _methods(name, kernel, **options):
    """Return the rows of a kernel's methods, with what they refuse in common."""
    but = {("x2", "nothing"): None}
    empty = k.RIGHT if name != "EmpiricalKernel" else k.REFUSED
    single = {("x", "other shape"): None, ("x", "wrong rank"): k.REFUSED} if name != "AnalyticKernel" else {}
    either = {"x1": "x1|inputs", "x2": "x2|inputs|x1"}
    return [
        Callee(f"{name}.__call__", lambda x1, x2: kernel()(x1, x2), _pair, PAIR, but, either, (("x1",), empty)),
        Callee(
            f"{name}.gradient",
            lambda x1, x2, weights: kernel().gradient(x1, x2, weights),
            _weighted,
            {**PAIR, "weights": (*k.NUMBERS, *k.refused(transposed=lambda v: v.T, flat=lambda v: v.flatten()))},
            {},
            either,
            (("x1", "weights"), empty),
        ),
        Callee(
            f"{name}.vjp",
            lambda x1, x2: kernel().vjp(x1, x2)[0],
            _pair,
            PAIR,
            {},
            either,
        ),
        Callee(
            f"{name}.diagonal",
            lambda x: kernel().diagonal(x),
            lambda: {"x": images()},
            {"x": k.INPUTS},
            single | options.get("diagonal", {}),
            {"x": "x|x1|inputs"},
            (("x",), k.RIGHT),
        ),
    ]


SHAPE = (
    *k.right(list=[1, 3, 3]),
    *k.refused(
        nothing=None,
        text="x",
        number=9,
        negative=(1, -3, 3),
        fractions=(1.5, 3.0, 3.0),
        none=(),
        batch=torch.ones(2, 3),
    ),
)
STD = (
    *k.refused(
        zero=0.0, negative=-1.0, nan=float("nan"), infinite=float("inf"), text="x", nothing=None, truth_value=True
    ),
    *k.refused(too_few=[1.0], texts=["a", "b"], other_layers={"nope": 1.0}, texts_by_layer={"1": "a", "3": "b"}),
    *k.right(by_layer=lambda v: [v, v], tensor=lambda v: torch.tensor(v).double()),
)
NOT_ZERO = {("b_std", "zero"): None}
BYTES = (*k.COUNT, *k.refused(nothing=None))

ROWS = [
    *_methods("LinearKernel", MADE["linear"]),
    *_methods("RBFKernel", MADE["RBF"]),
    *_methods("AnalyticKernel", analytic, diagonal={("x", "other shape"): k.REFUSED}),
    *_methods("NNGPKernel", lambda: analytic().prior, diagonal={("x", "other shape"): k.REFUSED}),
    *_methods("EmpiricalKernel", empirical, diagonal={("x", "other shape"): k.REFUSED}),
    Callee("LinearKernel", nl.LinearKernel, dict, {}),
    Callee("RBFKernel", nl.RBFKernel, lambda: {"bandwidth": 0.3}, {"bandwidth": k.POSITIVE}),
    Callee("NNGPKernel", nl.NNGPKernel, lambda: {"ntk": analytic()}, {"ntk": k.refused(nothing=None, text="x")}),
    Callee(
        "AnalyticKernel.__call__",
        lambda kind: analytic()(images(), None, kind),
        lambda: {"kind": "ntk"},
        {"kind": (*k.CHOICE, *k.refused(nothing=None, none=(), twice=("ntk", "nope")))},
    ),
    Callee(
        "AnalyticKernel.gradient",
        lambda kind: analytic().gradient(**_weighted(), kind=kind),
        lambda: {"kind": "ntk"},
        {"kind": (*k.CHOICE, *k.refused(two=("ntk", "nngp")))},
    ),
    Callee(
        "AnalyticKernel.monte_carlo",
        lambda **arguments: analytic().monte_carlo(**arguments).mean.shape,
        lambda: {**_pair(), "width": 4, "draws": 2, "generator": generator(), "kind": "ntk"},
        {
            **PAIR,
            "width": (*k.COUNT, *k.refused(nothing=None)),
            "draws": (*k.COUNT, *k.refused(one=1)),
            "generator": k.GENERATOR,
            "kind": (*k.CHOICE, *k.refused(other="nngp", two=("ntk", "nngp"))),
        },
        but={("x2", "nothing"): None},
        names={"x2": "x2|x1", "x1": "x1|inputs"},
        empty=(("x1", "x2"), k.REFUSED),
    ),
    Callee(
        "AnalyticKernel.graph",
        lambda shape: len(analytic().graph(shape).nodes),
        lambda: {"shape": (1, 3, 3)},
        {"shape": SHAPE},
    ),
    Callee(
        "AnalyticKernel.plan",
        lambda shape, device: len(analytic().plan(shape, device)),
        lambda: {"shape": (1, 3, 3), "device": "cpu"},
        {
            "shape": SHAPE,
            "device": (*k.right(device=torch.device("cpu")), *k.refused(nothing=None, unknown="x", half=0.5)),
        },
    ),
    *(
        Callee(
            f"pullback of {name}",
            lambda rows, x=x, z=z: _flat_or_not(x).vjp(x, z)[1](torch.ones(2, 4), rows),
            lambda: {"rows": torch.tensor([1, 5])},
            {
                "rows": (
                    *k.NO_TENSOR,
                    *k.right(
                        int32=lambda v: v.int(),
                        uint8=lambda v: v.to(torch.uint8),
                        list=lambda v: v.tolist(),
                        negative=lambda v: v - 6,
                        truth_values=lambda v: torch.arange(6) % 4 == 1,
                    ),
                    *k.refused(
                        too_large=lambda v: v + 1,
                        too_small=lambda v: v - 8,
                        floats=lambda v: v.double(),
                        mask=lambda v: v > 0,
                    ),
                )
            },
            but={("rows", "nothing"): None},
        )
        for name, x, z in (
            ("images", images(), images(4, seed=1)),
            ("flat", images().flatten(1), images(4, seed=1).flatten(1)),
        )
    ),
    Callee(
        "analytic_kernel",
        lambda **arguments: nl.analytic_kernel(**arguments)(images()),
        lambda: {"module": network(1), "w_std": 1.5, "b_std": 0.1, "memory_limit": 1 << 20, "engine": "auto"},
        {"module": k.MODULE, "w_std": STD, "b_std": STD, "memory_limit": BYTES, "engine": k.CHOICE},
        but=NOT_ZERO,
    ),
    Callee(
        "AnalyticKernel",
        lambda **arguments: nl.AnalyticKernel(**arguments)(images()),
        lambda: {
            "module": network(1),
            "parametrisation": nl.Parametrisation(),
            "memory_limit": 1 << 20,
            "engine": "auto",
        },
        {
            "module": k.MODULE,
            "parametrisation": k.refused(nothing=None, text="ntk"),
            "memory_limit": BYTES,
            "engine": k.CHOICE,
        },
    ),
    Callee(
        "analytic_kernel",
        lambda **arguments: nl.analytic_kernel(**arguments)(images()),
        lambda: {"module": network(1), "parametrisation": "ntk"},
        {"parametrisation": (*k.CHOICE, *k.refused(nothing=None))},
    ),
    Callee(
        "empirical_kernel",
        lambda **arguments: nl.empirical_kernel(**arguments)(images()),
        lambda: {
            "module": network(),
            "outputs": "trace",
            "parametrisation": "ntk",
            "memory_limit": 1 << 20,
            "projections": None,
            "generator": None,
        },
        {
            "module": k.MODULE,
            "outputs": (*k.CHOICE, *k.refused(nothing=None)),
            "parametrisation": k.CHOICE,
            "memory_limit": BYTES,
            "projections": k.refused(zero=0, negative=-1, fraction=0.5, text="x", truth_value=True),
            "generator": k.GENERATOR,
        },
    ),
    Callee(
        "EmpiricalKernel.__call__ of a kind",
        lambda kind: empirical()(images(), kind=kind),
        lambda: {"kind": "ntk"},
        {"kind": (*k.CHOICE, *k.refused(other="nngp"))},
    ),
    Callee(
        "EmpiricalKernel.per_layer",
        lambda x1, x2: empirical().per_layer(x1, x2),
        _pair,
        PAIR,
        but={("x2", "nothing"): None},
        names={"x1": "x1|inputs", "x2": "x2|inputs"},
    ),
    Callee(
        "EmpiricalKernel.plan",
        lambda x: empirical().plan(x),
        lambda: {"x": images()},
        {"x": k.INPUTS},
        names={"x": "x|inputs"},
    ),
    Callee(
        "Parametrisation",
        nl.Parametrisation,
        lambda: {"w_std": 1.5, "b_std": 0.1, "kind": "ntk"},
        {
            "w_std": tuple(kind for kind in STD if kind.name not in ("by layer", "other layers")),
            "b_std": tuple(kind for kind in STD if kind.name not in ("by layer", "other layers")),
            "kind": (*k.CHOICE, *k.refused(nothing=None)),
        },
        but=NOT_ZERO,
        names={"kind": "parametrisation"},
    ),
    Callee(
        "Parametrisation.of_module",
        nl.Parametrisation.of_module,
        lambda: {"module": network(), "w_std": 1.5, "b_std": 0.1},
        {"module": k.MODULE, "w_std": STD, "b_std": STD},
        but={
            **NOT_ZERO,
            ("w_std", "by layer"): None,
            ("b_std", "by layer"): None,
            ("w_std", "other layers"): None,
            ("b_std", "other layers"): None,
        },
    ),
    Callee(
        "Parametrisation.scales",
        nl.Parametrisation().scales,
        lambda: {"module": network()},
        {"module": k.MODULE},
    ),
    Callee(
        "Parametrisation.of",
        nl.Parametrisation({"0": 1.0}, {"0": 0.1}).of,
        lambda: {"layer": "0"},
        {"layer": k.refused(unknown="7", number=0)},
    ),
    Callee(
        "activation",
        lambda function, degree, kinks: nl.activation(function, degree=degree, kinks=kinks)(torch.ones(2)),
        lambda: {"function": torch.tanh, "degree": 8, "kinks": (0.0,)},
        {
            "function": k.refused(
                nothing=None, text="x", of_texts=k.value_of(lambda u: "x"), of_sums=k.value_of(lambda u: u.sum())
            ),
            "degree": k.COUNT,
            "kinks": (
                *k.right(none=()),
                *k.refused(nothing=None, text="0", number=1.0, infinite=(float("inf"),), nan=(float("nan"),)),
            ),
        },
        but={("degree", "zero"): None},
    ),
    *(
        Callee(
            name,
            lambda eigenvalues, g=g: g(eigenvalues),
            lambda: {"eigenvalues": torch.tensor([2.0, 1.0, 0.5])},
            {"eigenvalues": (*k.NUMBERS, *k.refused(wrong_rank=lambda v: v[:, None]))},
        )
        for name, g in {
            "Ridge.__call__": Ridge(0.1),
            "GradientFlow.__call__": nl.GradientFlow(1.0),
            "GradientDescent.__call__": nl.GradientDescent(3, 0.1),
            "Band.__call__": nl.Band([0, 2]),
        }.items()
    ),
    Callee("Ridge", nl.Ridge, lambda: {"rho": 0.5}, {"rho": k.LENGTH}, names={"rho": "ridge"}),
    Callee(
        "GradientFlow",
        nl.GradientFlow,
        lambda: {"time": 2.0, "learning_rate": 0.5},
        {"time": k.LENGTH, "learning_rate": k.POSITIVE},
        but={("time", "infinite"): None},
        names={"learning_rate": "learning rate"},
    ),
    Callee(
        "CrossEntropy",
        nl.CrossEntropy,
        lambda: {"time": 2.0, "learning_rate": 0.5},
        {"time": k.LENGTH, "learning_rate": k.POSITIVE},
        names={"learning_rate": "learning rate"},
    ),
    Callee(
        "GradientDescent",
        nl.GradientDescent,
        lambda: {"steps": 2, "learning_rate": 0.5},
        {"steps": k.COUNT, "learning_rate": k.POSITIVE},
        but={("steps", "zero"): None},
        names={"learning_rate": "learning rate"},
    ),
    Callee(
        "Band",
        nl.Band,
        lambda: {"indices": [0, 2]},
        {"indices": (*k.INDICES, *k.refused(twice=[0, 0]))},
        but={("indices", "beyond"): None},
    ),
]
