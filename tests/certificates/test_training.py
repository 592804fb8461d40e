"""Certified training: a convex program, better proofs than its start, and a machine like any other."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.attacks import Threat
from ntklens.bounds import KernelBounds
from ntklens.certificates import certified_fit, certify, choose_filter
from ntklens.certificates.training import Basis, _groups
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.linalg import Trained
from ntklens.machine import KernelMachine

DATA = nl.load_dataset("fashion-mnist-mini", train=180, test=60, size=14)
NET = nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
EPS = 8 / 255
X, V = DATA.train.x[:120], DATA.train.x[120:]


def labels(classes):
    """Return labels of the training, the held-out and the test images, in groups of the ten classes."""
    groups = {2: lambda y: (y > 4).long(), 3: lambda y: (y // 4).long()}[classes]
    return groups(DATA.train.y[:120]), groups(DATA.train.y[120:]), groups(DATA.test.y)


def fitted(classes):
    return KernelMachine(analytic_kernel(NET), nl.Ridge(0.0)).fit(X, labels(classes)[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_is_convex_and_has_the_gradient_of_its_differences(classes, norm):
    machine, y = fitted(classes), labels(classes)[0]
    basis = Basis(machine.factorisation.spectrum)
    known = KernelBounds(machine.kernel, machine.double_inputs)
    groups = _groups(known, X[:20], y[:20], Threat(EPS if norm == "linf" else 0.3, norm), lambda share: None)

    def loss(weights):
        return sum(group.loss(basis.coefficients(weights), 5.0) for group in groups)

    g = torch.Generator().manual_seed(0)
    size = machine.targets.shape
    a, b = (0.05 * torch.randn(len(basis), size[1], generator=g, dtype=torch.float64) for _ in range(2))
    along = torch.stack([loss(a + t * (b - a)) for t in torch.linspace(0, 1, 11, dtype=torch.float64)])
    assert (along.diff().diff() >= -1e-9).all()
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(a), a)
    step = 1e-6
    with torch.no_grad():
        difference = (loss(a + step * b) - loss(a - step * b)) / (2 * step)
    assert float((gradient * b).sum()) == pytest.approx(float(difference), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_training_proves_more_than_its_start(classes):
    machine, (y, held, test) = fitted(classes), labels(classes)
    start = machine.refilter(nl.Ridge(0.03 * machine.factorisation.largest))
    trained = certified_fit(machine, X, y, EPS, steps=20)
    before, after = (certify(m, X, y, EPS, tiers="linear") for m in (start, trained))
    loss = [torch.nn.functional.softplus(-5 * found.bound).mean() for found in (before, after)]
    assert loss[1] < 0.9 * loss[0]
    assert after.certified.sum() >= before.certified.sum()
    chosen = certified_fit(machine, X, y, EPS, held_out=(V, held), steps=8)
    assert certify(chosen, DATA.test.x, test, EPS).certified_accuracy.value > 0.3


def test_the_trained_machine_is_one_like_any_other(tmp_path):
    machine, (y, _, test) = fitted(2), labels(2)
    trained = certified_fit(machine, X, y, EPS, steps=3)
    assert trained.filter == Trained("certified training, ε = 0.03137 linf, 3 steps")
    assert 0.5 < trained.score(DATA.test.x, test) <= 1
    assert nl.fgsm(trained, DATA.test.x, test, EPS).shape == DATA.test.x.shape
    assert nl.eigenfeatures(trained, 3).eigenvalues.shape == (3,)
    trained.save(tmp_path / "machine.safetensors")
    loaded = KernelMachine.load(tmp_path / "machine.safetensors")
    assert torch.equal(loaded.outputs(DATA.test.x), trained.outputs(DATA.test.x))
    with pytest.raises(InputError, match=r"were trained \(certified training.*no filter gives them"):
        nl.label_flips(trained, DATA.test.x)
    again = trained.refilter(nl.Ridge(0.1))
    assert torch.equal(again.coefficients, machine.refilter(nl.Ridge(0.1)).coefficients)


def test_no_steps_return_the_start():
    machine, (y, _, _) = fitted(2), labels(2)
    start = machine.refilter(nl.Ridge(0.03 * machine.factorisation.largest))
    none = certified_fit(machine, X, y, EPS, steps=0)
    assert none.coefficients.numpy() == pytest.approx(start.coefficients.numpy(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_filters_are_priced_together_as_they_are_alone(classes):
    machine, (_, held, _) = fitted(classes), labels(classes)
    largest = machine.factorisation.largest
    filters = [nl.Ridge(0.1 * largest), nl.GradientFlow(10 / largest), nl.Band(range(5)), nl.Ridge(0.0)]
    found = choose_filter(machine, filters, V, held, EPS)
    for g, clean, certified in zip(filters, found.clean, found.certified, strict=True):
        alone = certify(machine.refilter(g), V, held, EPS, tiers="linear")
        assert certified.value == alone.certified_accuracy.value
        assert clean.value == alone.clean_accuracy.value
    assert found.certified[found.best].value == max(e.value for e in found.certified)
    assert found.machine.filter == found.filter == filters[found.best]
    assert [row["best"] for row in found.rows()].index(True) == found.best
    assert "4 filters" in repr(found)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"memory_limit": 1000},
            r"120 images against 120 training images take .* bytes, and memory_limit is 1,000.* raise memory_limit",
        ),
        ({"temperature": 0.0}, r"temperature above 0"),
        ({"penalty": -1.0}, r"penalty of 0 or more"),
        ({"held_out": 3}, r"held_out as images and their classes"),
        ({"eps": 9}, r"did you mean 9/255"),
        ({"steps": -1}, r"steps"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"eps": EPS} | change
    with pytest.raises(InputError, match=message):
        certified_fit(fitted(2), X, labels(2)[0], given.pop("eps"), **given)


def test_no_filters_and_no_images_are_refused():
    with pytest.raises(InputError, match="at least one filter"):
        choose_filter(fitted(2), [], V, labels(2)[1], EPS)
    with pytest.raises(InputError, match="at least one image"):
        choose_filter(fitted(2), [nl.Ridge(0.1)], V[:0], labels(2)[1][:0], EPS)
