"""Certificates of machines: what they say, beside attacks, in two and in more classes."""

import numpy as np
import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.attacks import Threat
from ntklens.bounds import KernelBounds
from ntklens.certificates import certify, evasion
from ntklens.certificates.result import TIERS
from ntklens.errors import InputError, NumericalFailure, UnsupportedLayer
from ntklens.kernels import LinearKernel, RBFKernel, analytic_kernel
from ntklens.machine import KernelMachine

DATA = nl.load_dataset("fashion-mnist-mini", train=150, test=30, size=14)
NET = nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
EPS = 4 / 255


@pytest.fixture(scope="module")
def ten():
    return KernelMachine(analytic_kernel(NET), nl.Ridge(0.05)).fit(DATA.train.x, DATA.train.y)


@pytest.fixture(scope="module")
def two():
    return KernelMachine(analytic_kernel(NET), nl.Ridge(0.05)).fit(DATA.train.x, (DATA.train.y % 2).long())


def test_every_image_is_decided_by_one_of_five(ten):
    found = certify(ten, DATA.test.x, DATA.test.y, EPS)
    assert set(found.tier) <= set(TIERS)
    proved = torch.from_numpy(np.isin(found.tier, ("linear", "quadratic")))
    assert torch.equal(found.certified, proved)
    assert torch.equal(found.certified, found.bound > 0)
    assert not (found.certified & ~found.attacked).any()
    assert not (found.attacked & ~found.clean).any()
    assert torch.equal(found.clean, ten.predict(DATA.test.x) == DATA.test.y)
    assert (found.bound <= found.attacked_margin + 1e-9).all()
    assert 0 < found.certified_accuracy.value <= found.attacked_accuracy.value <= found.clean_accuracy.value
    assert sum(found.row()[tier] for tier in TIERS) == 30
    assert "30 images" in repr(found)
    assert "not about a finite network" in found.about


def test_the_second_bound_proves_what_the_first_one_leaves_open(two):
    y = (DATA.test.y % 2).long()
    both, linear = (certify(two, DATA.test.x, y, 8 / 255, tiers=tiers) for tiers in ("both", "linear"))
    assert (both.bound >= linear.bound).all()
    assert (both.tier == "quadratic").any()
    assert set(linear.tier) == set(np.where(both.tier == "quadratic", "undecided", both.tier))


def test_two_classes_are_one_output_or_two(two):
    y, columns = (DATA.test.y % 2).long(), nn.functional.one_hot((DATA.train.y % 2).long(), 2).double()
    apart = KernelMachine(two.kernel, two.filter).fit(DATA.train.x, columns - 0.5)
    one, other = certify(two, DATA.test.x, y, EPS), certify(apart, DATA.test.x, y, EPS)
    # f in (-1, 1) stands for the outputs (-f/2, f/2), whose difference is f.
    assert other.bound.numpy() == pytest.approx(one.bound.numpy(), abs=1e-9)
    assert (other.tier == one.tier).all()


def test_radii_are_those_at_which_the_bound_is_positive(two):
    x, y = DATA.test.x[:2], (DATA.test.y[:2] % 2).long()
    found = certify(two, x, y, EPS, radius=True)
    assert ((found.radius > 0) == found.clean).all()
    assert (found.radius[found.certified] > 0.9 * EPS).all()
    for radius, one in zip(found.radius.tolist(), range(2), strict=True):
        if radius:
            assert certify(two, x[one : one + 1], y[one : one + 1], radius).certified.all()
    linear = certify(two, x, y, EPS, radius=True, tiers="linear")
    assert (found.radius >= linear.radius - 1e-9).all()


def test_l2_balls_and_a_radius_of_zero(ten):
    found = certify(ten, DATA.test.x[:8], DATA.test.y[:8], 0.2, "l2")
    assert found.certified.any()
    still = certify(ten, DATA.test.x[:8], DATA.test.y[:8], 0.0)
    assert torch.equal(still.certified, still.clean)


def test_a_linear_machine_has_its_exact_radius():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(20, 6, generator=g)
    y = (x @ torch.tensor([1.0, -1, 2, 0, -2, 1]) > 0.5).long()
    machine = KernelMachine(LinearKernel(), nl.Ridge(0.01)).fit(x, y)
    w = (machine.coefficients.T @ x.double() / 6)[0]
    at = 0.4 + 0.2 * x[:5]
    exact = (machine.expand(machine.coefficients)(at.double())[:, 0].abs() / w.abs().sum()).clamp(max=0.4)
    label = machine.predict(at)
    found = certify(machine, at, label, 0.01, radius=True)
    assert found.radius.numpy() == pytest.approx(exact.numpy(), rel=2e-3)


def test_rounding_of_the_attacked_images_raises_no_alarm():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(200, 400, generator=g)
    machine = KernelMachine(LinearKernel(), nl.Ridge(1e-3)).fit(x, (x.mean(1) > 0.5).long())
    at = 0.3 + 0.4 * torch.rand(50, 400, generator=g)
    # The bound is exact here, so that an image outside of the ball by rounding would be below it.
    found = certify(machine, at, machine.predict(at), 0.1)
    assert (found.attacked_margin - found.bound).abs().max() < 1e-6


def test_half_precision_of_the_arithmetic_changes_no_proof(two):
    y = (DATA.test.y % 2).long()
    rough = two.refilter(two.filter)
    rough.arithmetic = torch.float32
    assert torch.equal(certify(rough, DATA.test.x, y, EPS).bound, certify(two, DATA.test.x, y, EPS).bound)


def test_progress_reaches_the_end(two):
    shares = []
    certify(two, DATA.test.x[:4], (DATA.test.y[:4] % 2).long(), EPS, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_bound_above_an_attack_is_an_error_and_not_a_result(two, monkeypatch):
    monkeypatch.setattr(evasion.Margins, "linear", lambda self, x, *_: torch.full((len(x),), 9.0).double())
    with pytest.raises(NumericalFailure, match="above what an attack finds"):
        certify(two, DATA.test.x, (DATA.test.y % 2).long(), EPS)


def test_no_images_have_empty_certificates(two):
    none = certify(two, DATA.test.x[:0], DATA.test.y[:0], EPS)
    assert none.certified.shape == (0,)
    assert none.row()["images"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 8}, r"did you mean 8/255"),
        ({"norm": "l1"}, r'the norm "linf" or "l2"'),
        ({"tiers": "cubic"}, r'tiers "both" or "linear"'),
        ({"attack": Threat(0.5)}, r"expected an attack of the radius"),
        ({"attack": 10}, r"expected attack as a Threat"),
        ({"memory_limit": 0}, r"memory_limit"),
        ({"y": DATA.test.y[:3]}, r"y"),
        ({"x": DATA.test.x + 1}, r"expected pixels of x between 0 and 1"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused(ten, change, message):
    given = {"x": DATA.test.x, "y": DATA.test.y, "eps": EPS} | change
    with pytest.raises(InputError, match=message):
        certify(ten, given.pop("x"), given.pop("y"), given.pop("eps"), **given)


@pytest.mark.usefixtures("untyped")
def test_other_models_are_told_of_smoothing():
    with pytest.raises(InputError, match=r"expected machine as a KernelMachine; got Sequential\. nl\.smooth"):
        certify(NET, DATA.test.x, DATA.test.y, EPS)
    machine = KernelMachine(RBFKernel()).fit(DATA.train.x[:20], DATA.train.y[:20] % 2)
    with pytest.raises(UnsupportedLayer, match=r"nl\.smooth"):
        certify(machine, DATA.test.x, DATA.test.y % 2, EPS)


def test_features_are_bracketed_by_attack_and_proof(two):
    features, y = nl.eigenfeatures(two), (DATA.test.y % 2).long()
    threat = Threat(EPS, steps=10)
    above = features.robustness(DATA.test.x, y, threat, range(6))
    below, first = (features.certified(DATA.test.x, y, threat, range(6), tiers=tiers) for tiers in ("both", "linear"))
    assert (below.values <= above.values).all()
    assert (first.values <= below.values).all()
    assert below.values.max() > 0.4
    assert features.certified(DATA.test.x[:4], y[:4], 0.001, [0]).indices == (0,)
    with pytest.raises(InputError, match="tiers"):
        features.certified(DATA.test.x, y, threat, [0], tiers="cubic")


def test_a_feature_is_proved_about_float64_whatever_the_arithmetic():
    """Where float32 has the sign of a feature wrong, that it is right in float32 is no proof."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(30, 5, generator=g, dtype=torch.float64), torch.arange(30) % 2
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    machine = KernelMachine(analytic_kernel(net), nl.Ridge(0.1), arithmetic=torch.float32).fit(x, y)
    features, where = nl.eigenfeatures(machine), 2
    column = features.eigenvectors[:, where, None]
    scalar, in_float32 = (machine.expand(column, dtype) for dtype in (torch.float64, torch.float32))
    # Images that are just beside the zero of the scalar, by less than the rounding of float32.
    low, high = (x[(sign * scalar(x)[:, 0] > 0).nonzero()[:8, 0]] for sign in (-1, 1))
    shift, a = 3e-8, low.clone()
    for _ in range(60):
        middle = (a + high) / 2
        below = scalar(middle) < shift
        a, high = torch.where(below, middle, a), torch.where(below, high, middle)
    exact, rough = (((f(high) * features.weights[where])[:, 0] > 0).long() for f in (scalar, in_float32))
    assert (exact != rough).any()
    for image, wrong in zip(high, 1 - exact, strict=True):
        assert features.certified(image[None], wrong[None], Threat(0.0), [where]).values == [0.0]
    assert features.certified(high, exact, Threat(0.0), [where]).values == [1.0]


def test_a_bound_of_a_feature_above_an_attack_is_an_error_and_not_a_result(two, monkeypatch):
    features, y = nl.eigenfeatures(two), (DATA.test.y % 2).long()
    monkeypatch.setattr(KernelBounds, "linear", lambda self, x, _, a: torch.full((len(x), a.shape[1]), 9.0).double())
    with pytest.raises(NumericalFailure, match="above what an attack finds"):
        features.certified(DATA.test.x, y, Threat(0.1, steps=10), [0, 1])


def test_features_of_many_classes_are_bracketed_too(ten):
    features, threat = nl.eigenfeatures(ten), Threat(EPS, steps=10)
    above = features.robustness(DATA.test.x, DATA.test.y, threat, range(4))
    below = features.certified(DATA.test.x, DATA.test.y, threat, range(4))
    assert (below.values <= above.values).all()
    assert (above.values - below.values).max() < 0.1
