"""Rows of the features of a kernel machine, and of what is computed from them."""

import torch

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs import machines
from bad_inputs.callee import Callee
from bad_inputs.certificates import dense
from bad_inputs.machines import NAMES
from bad_inputs.objects import classes, features, images, machine
from ntklens import features as of_features

FEW = {"indices": [0, 2]}
SCORED = {"x": k.IMAGES, "y": (*k.CLASSES,), "indices": k.INDICES}


def _scored():
    return {"x": images(4, seed=1), "y": classes(4), "indices": [0, 2]}


def _basis():
    return torch.linalg.qr(torch.rand(6, 2, generator=torch.Generator().manual_seed(2)))[0]


BASES = (*k.NUMBERS, *k.refused(one_axis=lambda v: v[:, 0], too_few=lambda v: v[:-1]))
FEATURES = k.refused(nothing=None, text="x", machine=k.instead(machine))

ROWS = [
    *(
        Callee(
            name,
            lambda make=make, **arguments: make(**arguments).eigenvalues,
            lambda: {"machine": machine(), "count": 3},
            {"machine": machines.FITTED, "count": (*k.COUNT, *k.refused(too_many=99))},
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
        {"filter": (*machines.FILTER, *k.refused(nothing=None))},
    ),
    Callee(
        "NTKFeatures.usefulness",
        lambda **a: features().usefulness(**a).values,
        _scored,
        SCORED,
        names=NAMES,
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "NTKFeatures.outcomes",
        lambda **a: features().outcomes(**a),
        lambda: {**_scored(), "threat": nl.Threat(0.1)},
        {**SCORED, "threat": k.refused(text="x", number=0.1)},
        names=NAMES,
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "NTKFeatures.certified",
        lambda **a: nl.eigenfeatures(dense()).certified(**a).values,
        lambda: {**_scored(), "threat": 0.1, "tiers": "both"},
        {**SCORED, "threat": k.RADIUS, "tiers": k.CHOICE},
        names={**NAMES, "threat": "ε|threat"},
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
            names={**NAMES, "attack": "ε|attack"},
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
