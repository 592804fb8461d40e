"""Rows of data sets, networks, surrogates, the tracker and estimates."""

import tempfile
from pathlib import Path

import torch

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs.callee import Callee
from bad_inputs.objects import classes, generator, images, network
from ntklens.data.dataset import Split
from ntklens.transfer import surrogate

STD = k.refused(nothing=None, text="x", nan=float("nan"), negative=-1.0, too_few=[1.0], other_layers={"nope": 1.0})
FACTORY = "from torch import nn\n\ndef build():\n    return nn.Linear(9, 2)\n\ndef fails():\n    raise KeyError(1)\n"


def _file(content: str | bytes, name: str) -> Path:
    path = Path(tempfile.mkdtemp()) / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _split() -> Split:
    return Split(images(), classes())


def _tracker(count: int = 0) -> nl.KernelTracker:
    tracker = nl.KernelTracker(images(), classes(), top_k=2)
    for epoch in range(count):
        tracker.record(network(), epoch)
    return tracker


def _linearised(x):
    return nl.linearize(network())(x)


SPLIT_X = (
    *k.refused(
        nothing=None,
        text="x",
        list=lambda v: v.tolist(),
        float64=lambda v: v.double(),
        integers=lambda v: (255 * v).to(torch.uint8),
        nan=lambda v: v * torch.nan,
        wrong_rank=lambda v: v.flatten(1),
        above_the_bounds=lambda v: 255 * v,
        too_few=lambda v: v[:-1],
    ),
    *k.right(non_contiguous=k._spread),
)
SPLIT_Y = k.refused(
    nothing=None,
    text="x",
    list=lambda v: v.tolist(),
    int32=lambda v: v.int(),
    floats=lambda v: v.float(),
    too_few=lambda v: v[:-1],
)
EPOCH = k.refused(nothing=None, text="x", nan=float("nan"), infinite=float("inf"), before_the_last=0)

ROWS = [
    Callee(
        "Dataset",
        lambda x, y: Split(x, y).y,
        lambda: {"x": images(), "y": classes()},
        {"x": SPLIT_X, "y": SPLIT_Y},
        names={"x": "x|y|images|pixels"},
    ),
    Callee(
        "Dataset",
        lambda **a: nl.Dataset(**a, name="mine").train.x,
        lambda: {"train": _split(), "test": _split(), "classes": ("a", "b")},
        {
            "train": k.refused(nothing=None, tensor=torch.ones(2), other_shape=Split(images()[..., 1:], classes())),
            "test": k.refused(nothing=None, tensor=torch.ones(2), out_of_range=Split(images(), classes() + 7)),
            "classes": k.refused(nothing=None, too_few=("a",), twice=("a", "a"), numbers=(0, 1)),
        },
        names={"test": "test|class indices", "classes": "class"},
    ),
    Callee(
        "Dataset.first",
        lambda **a: nl.Dataset(_split(), _split(), ("a", "b"), "mine").first(**a).train.x,
        lambda: {"train": 3, "test": 2},
        {name: (*k.COUNT, *k.refused(too_many=99)) for name in ("train", "test")},
    ),
    Callee(
        "Dataset.select",
        lambda classes: nl.Dataset(_split(), _split(), ("a", "b"), "mine").select(classes).train.x,
        lambda: {"classes": ["b", 0]},
        {
            "classes": k.refused(
                nothing=None,
                number=0,
                none=[],
                unknown=["c"],
                beyond=[9],
                negative=[-1],
                twice=["a", 0],
                fraction=[0.5],
            )
        },
        names={"classes": "class"},
    ),
    Callee(
        "load_dataset",
        lambda **a: nl.load_dataset(**a).train.x,
        lambda: {
            "name": "digits",
            "classes": [0, 1],
            "train": 4,
            "test": 2,
            "size": 4,
            "mode": "grey",
            "data_dir": None,
        },
        {
            "name": k.refused(unknown="nope", nothing=None, number=7, blank="", missing="missing.npz"),
            "classes": k.refused(number=0, unknown=["c"], beyond=[99], none=[], twice=[0, 0]),
            "train": (*k.COUNT, *k.refused(too_many=10**6)),
            "test": (*k.COUNT, *k.refused(too_many=10**6)),
            "size": k.COUNT,
            "mode": k.CHOICE,
            "data_dir": k.refused(number=1, missing="missing/folder"),
        },
        but={("data_dir", "missing"): None},
        names={"name": "data set|name|missing.npz", "classes": "class"},
    ),
    Callee(
        "load_network",
        lambda **a: type(nl.load_network(**a)).__name__,
        lambda: {"where": f"{_file(FACTORY, 'model.py')}:build", "weights": None},
        {
            "where": (
                *k.refused(nothing=None, number=7, blank="", missing="missing.py:build", no_factory="model.py"),
                *k.refused(
                    unknown=lambda v: v.replace(":build", ":nope"),
                    failing=lambda v: v.replace(":build", ":fails"),
                    bad_file=k.instead(lambda: f"{_file('1 +', 'model.py')}:build"),
                    no_script=k.instead(lambda: _file(b"1", "model.pt")),
                ),
            ),
            "weights": k.refused(
                number=7, missing="missing.safetensors", bad_file=k.instead(lambda: _file(b"1", "w.safetensors"))
            ),
        },
        names={"where": r"where|network|\S*\.p[yt]|fails of", "weights": "weights|safetensors"},
    ),
    Callee(
        "linearize",
        lambda **a: nl.linearize(**a)(images()),
        lambda: {"module": network()},
        {"module": k.MODULE},
    ),
    Callee(
        "linearize",
        _linearised,
        lambda: {"x": images()},
        {"x": k.INPUTS},
        names={"x": "x|inputs"},
        but={("x", "float64"): None},
    ),
    Callee(
        "ntk_parametrize",
        lambda **a: nl.ntk_parametrize(**a)(images()).shape,
        lambda: {"module": network(), "w_std": 1.5, "b_std": 0.1, "generator": generator()},
        {"module": k.MODULE, "w_std": STD, "b_std": STD, "generator": k.GENERATOR},
    ),
    *(
        Callee(
            "surrogate",
            lambda **a: nl.surrogate(**a).images(images(), classes(), 0.1, generator=generator()),
            lambda name=name: {
                "name": name,
                "x": images(),
                "y": classes(),
                "classes": 2,
                "seed": 0,
                "w_std": 1.5,
                "b_std": 0.1,
                "ridge": 0.1,
            },
            {
                "name": (*k.CHOICE, *k.refused(nothing=None, no_architecture="ntk:", unknown_architecture="ntk:nope")),
                "x": k.INPUTS,
                "y": k.CLASSES,
                "classes": (*k.COUNT, *k.refused(one=1, nothing=None)),
                "seed": k.refused(text="x", negative=-1, fraction=0.5, nothing=None),
                "w_std": k.POSITIVE,
                "b_std": k.LENGTH,
                "ridge": k.LENGTH,
            },
            but={("x", "other shape"): None, ("x", "float64"): None},
            names={"name": "surrogate|architecture", "classes": "classes"},
            empty=(("x", "y"), k.REFUSED),
        )
        for name in ("ntk:fc1",)
    ),
    Callee(
        "surrogate",
        lambda x, y, **a: surrogate("linear", images(), classes(), 2).images(x, y, generator=generator(), **a),
        lambda: {
            "x": images(4, seed=1),
            "y": classes(4),
            "eps": 0.1,
            "norm": "l2",
            "steps": 2,
            "loss": "margin",
            "batch_size": 3,
        },
        {
            "x": k.IMAGES,
            "y": k.CLASSES,
            "eps": k.RADIUS,
            "norm": k.CHOICE,
            "steps": k.COUNT,
            "loss": k.CHOICE,
            "batch_size": k.COUNT,
        },
        names={"x": "x|inputs", "eps": "ε"},
        empty=(("x", "y"), k.RIGHT),
    ),
    Callee(
        "KernelTracker",
        lambda **a: nl.KernelTracker(**a).record(network(), 0),
        lambda: {
            "probe_x": images(),
            "probe_y": classes(),
            "outputs": "trace",
            "top_k": 2,
            "folder": None,
            "fresh": False,
            "attack": None,
        },
        {
            "probe_x": k.NUMBERS,
            "probe_y": k.CLASSES,
            "outputs": (*k.CHOICE, *k.refused(full="full")),
            "top_k": (*k.COUNT, *k.refused(too_many=6, nothing=None)),
            "folder": k.refused(number=1, a_file=k.instead(lambda: _file(b"1", "records"))),
            "fresh": k.refused(text="yes", number=3, nothing=None),
            "attack": k.refused(text="fgsm", number=1),
        },
        but={("probe_x", "integers"): None, ("probe_x", "truth values"): None, ("probe_x", "float64"): None},
        names={"probe_y": "probe_y|probe classes|labels", "folder": "folder|/", "probe_x": "probe_x|inputs"},
        empty=(("probe_x", "probe_y"), k.REFUSED),
    ),
    Callee(
        "KernelTracker.record",
        lambda **a: _tracker(2).record(**a),
        lambda: {"module": network(), "epoch": 2, "loss": 0.5},
        {
            "module": (*k.MODULE, *k.refused(other_inputs=torch.nn.Linear(5, 2))),
            "epoch": EPOCH,
            "loss": k.refused(nothing=None, text="x", two=[1.0, 2.0]),
        },
        but={("epoch", "before the last"): k.REFUSED},
        names={"module": "module|network", "epoch": "epoch"},
    ),
    Callee(
        "KernelTracker.rewind",
        lambda **a: _tracker(2).rewind(**a),
        lambda: {"epoch": 1},
        {"epoch": k.refused(nothing=None, text="x", nan=float("nan"))},
    ),
    Callee(
        "KernelTracker.lazy_epoch",
        lambda **a: _tracker(2).lazy_epoch(**a),
        lambda: {"threshold": 0.1},
        {"threshold": k.refused(nothing=None, text="x", nan=float("nan"), negative=-0.1)},
    ),
    Callee(
        "KernelTracker.row",
        lambda **a: _tracker(2).row(**a),
        lambda: {"number": 1},
        {"number": k.refused(beyond=9, before=-9, fraction=0.5, text="x", nothing=None)},
    ),
    Callee(
        "KernelTracker.save",
        lambda **a: _tracker(1).save(**a),
        lambda: {"folder": tempfile.mkdtemp()},
        {"folder": k.refused(nothing=None, number=1, a_file=k.instead(lambda: _file(b"1", "records")))},
        names={"folder": "folder|records"},
    ),
    Callee(
        "KernelTracker.restore",
        lambda **a: _tracker(1).restore(**a).epochs,
        lambda: {"folder": _saved_records()},
        {
            "folder": k.refused(
                nothing=None,
                number=1,
                missing="missing",
                none=k.instead(tempfile.mkdtemp),
                a_file=k.instead(lambda: _file(b"1", "records")),
            )
        },
        names={"folder": "folder|records"},
    ),
    Callee(
        "Estimate",
        nl.Estimate,
        lambda: {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9},
        {
            "value": k.refused(nothing=None, text="x"),
            "low": k.refused(nothing=None, text="x", above_high=0.7),
            "high": k.refused(nothing=None, text="x", below_low=0.3),
            "n": k.refused(nothing=None, text="x", negative=-1, fraction=0.5),
        },
    ),
]


def _saved_records() -> str:
    folder = tempfile.mkdtemp()
    _tracker(2).save(folder)
    return folder
