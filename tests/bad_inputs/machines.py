"""Rows of the kernel machine and of its features."""

import copy
import tempfile
from pathlib import Path

import torch

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs.callee import Callee
from bad_inputs.objects import classes, features, images, machine
from ntklens import features as of_features

KERNEL = k.refused(nothing=None, text="x", a_class=nl.RBFKernel, function=k.value_of(lambda x1, x2: x1))
FILTER = k.refused(text="x", number=0.1, a_class=nl.Ridge)
FITTED = k.refused(nothing=None, text="x", not_fitted=k.value_of(nl.KernelMachine(nl.RBFKernel())))
EPS = {"x": "x|inputs"}
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
MACHINE = [
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
            names=EPS,
            empty=(("x",), k.RIGHT),
        )
        for name in ("outputs", "forward", "predict", "predict_proba")
    ),
    *(
        Callee(
            "KernelMachine.predict",
            lambda x, option=option: machine().predict(x, **option),
            lambda: {"x": images(4, seed=1)},
            X,
            but={("x", "float64"): None},
            names=EPS,
            empty=(("x",), k.RIGHT),
        )
        for option in ({"return_std": True}, {"return_cov": True})
    ),
    Callee(
        "KernelMachine.score",
        lambda x, y: machine().score(x, y),
        lambda: {"x": images(), "y": classes()},
        {**X, "y": (*k.CLASSES,)},
        names=EPS,
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
            "kernel": (*KERNEL, *k.refused(another=nl.RBFKernel(0.7))),
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
]

FEW = {"indices": [0, 2]}
SCORED = {"x": k.IMAGES, "y": (*k.CLASSES,), "indices": k.INDICES}


def _scored():
    return {"x": images(4, seed=1), "y": classes(4), "indices": [0, 2]}


def _basis():
    return torch.linalg.qr(torch.rand(6, 2, generator=torch.Generator().manual_seed(2)))[0]


BASES = (*k.NUMBERS, *k.refused(one_axis=lambda v: v[:, 0], too_few=lambda v: v[:-1]))
FEATURES = k.refused(nothing=None, text="x", machine=k.instead(machine))

FEATURE_ROWS = [
    *(
        Callee(
            name,
            lambda make=make, **arguments: make(**arguments).eigenvalues,
            lambda: {"machine": machine(), "count": 3},
            {"machine": FITTED, "count": (*k.COUNT, *k.refused(too_many=99))},
            names={"machine": "machine", "count": "count"},
        )
        for name, make in {"NTKFeatures": nl.NTKFeatures, "eigenfeatures": nl.eigenfeatures}.items()
    ),
    Callee(
        "NTKFeatures.keep",
        lambda **a: features().keep(**a).outputs(images()),
        lambda: dict(FEW),
        {"indices": k.INDICES},
    ),
    Callee("NTKFeatures.chosen", lambda **a: features().chosen(**a), lambda: dict(FEW), {"indices": k.INDICES}),
    *(
        Callee(
            f"NTKFeatures.{name}",
            lambda name=name, **a: getattr(features(), name)(**a),
            lambda: {"x": images(4, seed=1), "index": 1},
            {"x": k.INPUTS, "index": k.INDEX},
            names={"x": "x|inputs", "index": "index|indices"},
            empty=(("x",), k.RIGHT),
        )
        for name in ("outputs", "predict")
    ),
    Callee(
        "NTKFeatures.learned",
        lambda **a: features().learned(**a),
        lambda: {"filter": nl.GradientFlow(1.0)},
        {"filter": (*FILTER, *k.refused(nothing=None))},
    ),
    Callee(
        "NTKFeatures.usefulness",
        lambda **a: features().usefulness(**a).values,
        _scored,
        SCORED,
        names=EPS,
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "NTKFeatures.outcomes",
        lambda **a: features().outcomes(**a),
        lambda: {**_scored(), "threat": nl.Threat(0.1)},
        {**SCORED, "threat": k.refused(text="x", number=0.1)},
        names=EPS,
        empty=(("x", "y"), k.REFUSED),
    ),
    *(
        Callee(
            "NTKFeatures.robustness",
            lambda **a: features().robustness(**a).values,
            lambda attack=attack: {**_scored(), "attack": attack},
            {
                **SCORED,
                "attack": (
                    *k.RADIUS,
                    *k.refused(
                        of_nothing=k.value_of(lambda m, x, y: None), of_nan=k.value_of(lambda m, x, y: x * torch.nan)
                    ),
                ),
            },
            names={**EPS, "attack": "ε|attack"},
            empty=(("x", "y"), k.REFUSED),
        )
        for attack in (0.1, lambda m, x, y: nl.fgsm(m, x, y, 0.1))
    ),
    Callee(
        "NTKFeatures.picture",
        lambda **a: features().picture(**a),
        lambda: {"x": images(4, seed=1), "index": 1, "y": classes(4)},
        {"x": k.INPUTS, "index": k.INDEX, "y": k.CLASSES},
        but={("y", "nothing"): None},
        names={"x": "x|inputs", "index": "index|indices"},
        empty=(("x", "y"), k.RIGHT),
    ),
    Callee(
        "linear_robust_radius",
        of_features.linear_robust_radius,
        lambda: {"x": images().flatten(1), "direction": torch.arange(1.0, 10.0)},
        {
            "x": k.INPUTS,
            "direction": (
                *k.NUMBERS,
                *k.refused(short=lambda v: v[:-1], two_axes=lambda v: v[None], zero=torch.zeros(9)),
            ),
        },
        names={"x": "x|direction", "direction": "direction"},
        empty=(("x",), k.RIGHT),
    ),
    *(
        Callee(
            name, getattr(of_features, name), lambda: {"a": _basis(), "b": _basis().flip(1)}, {"a": BASES, "b": BASES}
        )
        for name in ("subspace_overlap", "principal_cosines", "match")
    ),
    Callee(
        "picture_cosine",
        of_features.picture_cosine,
        lambda: {"a": images(), "b": images(seed=1)},
        {"a": k.INPUTS, "b": (*k.INPUTS, *k.refused(too_few=lambda v: v[:-1]))},
        empty=(("a", "b"), k.RIGHT),
    ),
    *(
        Callee(
            name,
            lambda name=name, **a: getattr(of_features, name)(**a, draws=3, generator=torch.Generator().manual_seed(0)),
            lambda: {"n": 5, "k": 2},
            {"n": k.COUNT, "k": (*k.COUNT, *k.refused(too_many=6))},
        )
        for name in ("random_overlap", "random_match")
    ),
    *(
        Callee(
            name,
            lambda name=name, **a: getattr(of_features, name)(5, 2, **a),
            lambda: {"draws": 3, "generator": torch.Generator().manual_seed(0)},
            {"draws": k.COUNT, "generator": (*k.GENERATOR, *k.refused(nothing=None))},
            but={("draws", "numpy number"): None},
        )
        for name in ("random_overlap", "random_match")
    ),
    Callee(
        "scalar_pictures",
        of_features.scalar_pictures,
        lambda: {"features": features(), "x": images(4, seed=1), "directions": features().eigenvectors[:, :2].float()},
        {"features": FEATURES, "x": k.INPUTS, "directions": BASES},
        names={"x": "x|inputs"},
    ),
    Callee(
        "robust_dataset",
        of_features.robust_dataset,
        lambda: {"features": features(), "indices": [0, 2], "kind": "images"},
        {"features": FEATURES, "indices": (*k.INDICES, *k.refused(none=[], twice=[0, 0])), "kind": k.CHOICE},
        names={"indices": "indices|feature"},
    ),
    Callee(
        "random_dataset",
        lambda generator, **a: of_features.random_dataset(
            generator=torch.Generator().manual_seed(0) if isinstance(generator, torch.Generator) else generator, **a
        ),
        lambda: {"features": features(), "rank": 2, "kind": "labels", "generator": torch.Generator()},
        {
            "features": FEATURES,
            "rank": (*k.COUNT, *k.refused(too_many=7)),
            "kind": k.CHOICE,
            "generator": (*k.GENERATOR, *k.refused(nothing=None)),
        },
    ),
    Callee(
        "share_learned",
        of_features.share_learned,
        lambda: {"features": features(), "outputs": machine().outputs(images()).float()},
        {
            "features": FEATURES,
            "outputs": (*k.NUMBERS, *k.refused(too_few=lambda v: v[:-1], one_axis=lambda v: v[:, 0])),
        },
        but={("outputs", "non contiguous"): None},
    ),
    Callee(
        "FeatureScores",
        lambda indices: nl.FeatureScores(indices, (nl.Estimate(0.5, 0.4, 0.6, 9),) * 2),
        lambda: {"indices": (0, 1)},
        {"indices": k.refused(too_many=(0, 1, 2), none=())},
        names={"indices": "index"},
    ),
    Callee(
        "FeatureScores.of",
        lambda indices, right: nl.FeatureScores.of(indices, right).values,
        lambda: {"indices": [0, 1], "right": torch.tensor([[True, False, True], [True, True, True]])},
        {
            "indices": k.refused(too_many=[0, 1, 2]),
            "right": (
                *k.NO_TENSOR,
                *k.right(array=lambda v: v.numpy(), list=lambda v: v.tolist()),
                *k.refused(one_axis=lambda v: v[0], floats=lambda v: v.float(), numbers=lambda v: 2 * v.long()),
            ),
        },
        names={"indices": "index"},
    ),
]

ROWS = MACHINE + FEATURE_ROWS
