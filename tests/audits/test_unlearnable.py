"""The audit of unlearnable data: its gradient is autograd's, and it costs more than noise on real images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ntklens as nl
from ntklens.audits import unlearnable_audit
from ntklens.audits.unlearnable import loss_gradient
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.machine import KernelMachine
from ntklens.targets import class_logits, class_targets

SMOOTH = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
CONVOLUTION = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1))
KERNELS = {
    "dense": lambda engine: analytic_kernel(SMOOTH, engine=engine),
    "without biases": lambda engine: analytic_kernel(SMOOTH, b_std=0.0, engine=engine),
    "convolution": lambda engine: analytic_kernel(CONVOLUTION, engine=engine),
    "rbf": lambda engine: nl.RBFKernel(0.7),
}
FILTERS = {
    "ridge": nl.Ridge(0.3),
    "flow": nl.GradientFlow(3.0),
    "long flow": nl.GradientFlow(2000.0),
    "descent": nl.GradientDescent(9, 0.02),
}


def images(n, seed):
    return torch.rand(n, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(kernel, g, x, targets, v, labels):
    """Return the loss with a graph: the plain form, through the kernel, a solution, and the steps of a descent."""
    theta = kernel(x)
    eye = torch.eye(len(x), dtype=torch.float64)
    if isinstance(g, nl.Ridge):
        alpha = torch.linalg.solve(theta + g.rho * eye, targets)
    elif isinstance(g, nl.GradientDescent):
        alpha = torch.zeros_like(targets)
        for _ in range(g.steps):
            alpha = alpha + g.learning_rate * (targets - theta @ alpha)
    else:
        t = g.learning_rate * g.time
        alpha = torch.linalg.solve(theta, targets - torch.matrix_exp(-t * theta) @ targets)
    return F.cross_entropy(class_logits(kernel(v, x) @ alpha), labels)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("kind", KERNELS)
def test_the_gradient_is_that_of_autograd(kind, name, classes):
    x, v = images(7, 0), images(5, 1)
    targets, labels = class_targets(torch.arange(7) % classes, classes), torch.arange(5) % classes
    slow, fast = KERNELS[kind]("reference"), KERNELS[kind]("auto")
    tracked = x.clone().requires_grad_()
    loss = reference(slow, FILTERS[name], tracked, targets, v, labels)
    (exact,) = torch.autograd.grad(loss, tracked)
    found, gradient = loss_gradient(fast, FILTERS[name], x, targets, v, labels)
    assert found == pytest.approx(loss.item(), rel=1e-9)
    torch.testing.assert_close(gradient, exact, rtol=1e-6, atol=1e-7 * float(exact.abs().max()))


@pytest.mark.parametrize("name", FILTERS)
def test_copies_that_move_together_and_a_black_image_have_the_gradient_of_differences(name):
    kernel, g = KERNELS["dense"]("auto"), FILTERS[name]
    x, v, labels = images(7, 0), images(5, 1), torch.arange(5) % 3
    x[3], x[4] = x[2], 0.0
    targets = class_targets(torch.arange(7) % 3, 3)  # the copies have two classes
    _, gradient = loss_gradient(kernel, g, x, targets, v, labels)
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    direction[3] = direction[2]
    step = 1e-5 * direction
    up, down = (loss_gradient(kernel, g, x + s, targets, v, labels, differentiate=False)[0] for s in (step, -step))
    assert (up - down) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_black_images_without_biases_have_a_gradient_that_is_finite():
    x, v = images(7, 0), images(5, 1)
    x[2:4] = 0.0
    _, gradient = loss_gradient(
        KERNELS["without biases"]("auto"),
        nl.Ridge(0.3),
        x,
        class_targets(torch.arange(7) % 2, 2),
        v,
        torch.arange(5) % 2,
    )
    assert gradient.isfinite().all()
    assert gradient[0].any()


DATA = nl.load_dataset("fashion-mnist-mini", classes=[0, 6], train=280, test=400, size=14)
DENSE = analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 1)))
X, Y = DATA.train.x[:140], DATA.train.y[:140]
HELD_OUT = DATA.train.x[140:], DATA.train.y[140:]


def audit(g=None, eps=16 / 255, x=X, y=Y, seed=0, **options):
    machine = KernelMachine(DENSE, g or nl.GradientFlow(3.0)).fit(x, y)
    options = {"held_out": HELD_OUT, "generator": torch.Generator().manual_seed(seed), "steps": 4} | options
    return unlearnable_audit(machine, DATA.test.x, DATA.test.y, eps, **options)


@pytest.mark.parametrize("g", [nl.GradientFlow(3.0), nl.Ridge(0.0), nl.GradientDescent(400, 0.01)], ids=str)
def test_it_costs_more_than_noise_and_the_loss_on_held_out_images_rises(g):
    shares = []
    found = audit(g, keep_images=True, progress=shares.append)
    assert found.cost[0].low > 0
    assert found.is_worse_than_noise == (True,)
    assert found.perturbed[0].high < found.noise[0].low
    assert abs(found.clean[0].value - found.noise[0].value) < 0.1
    assert found.losses[-1] > found.losses[0]
    assert len(found.losses) == 5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # The figures are those of machines that are fitted on the images.
    for images_, estimate in ((X, found.clean), (found.noisy, found.noise), (found.images, found.perturbed)):
        fitted = KernelMachine(DENSE, g).fit(images_, Y)
        assert estimate[0].value == pytest.approx(fitted.score(DATA.test.x, DATA.test.y), abs=1e-12)
        assert float((images_ - X).abs().max()) <= 16 / 255 + 1e-7
        assert images_.dtype == X.dtype
        assert 0 <= images_.min() <= images_.max() <= 1


def test_several_filters_are_scored_on_the_same_images():
    filters = [nl.GradientFlow(3.0), nl.Band(range(10)), nl.Ridge(1.0)]
    found = audit(filters=filters, keep_images=True)
    fitted = KernelMachine(DENSE, nl.Ridge(1.0)).fit(found.images, Y)
    for g, estimate in zip(filters, found.perturbed, strict=True):
        assert estimate.value == pytest.approx(fitted.refilter(g).score(DATA.test.x, DATA.test.y), abs=1e-12)
    rows = found.rows()
    assert [row["filter"] for row in rows] == list(map(repr, filters))
    assert {"clean_accuracy", "noise_accuracy_low", "perturbed_accuracy_high", "cost"} <= set(rows[0])
    assert "% perturbed" in repr(found)
    assert found.images is not None
    assert audit().images is None


def test_the_same_seed_gives_the_same_images():
    one, two = (audit(steps=1, keep_images=True, seed=3) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.noisy, two.noisy)
    other = audit(steps=1, keep_images=True, seed=4)
    assert torch.equal(one.images, other.images)  # the seed draws the noise alone
    assert not torch.equal(one.noisy, other.noisy)


def test_a_radius_of_zero_changes_nothing_and_no_claim_is_made():
    found = audit(eps=0.0, steps=1, keep_images=True)
    assert torch.equal(found.images, X)
    assert found.cost[0].value == 0
    assert found.is_worse_than_noise == (False,)
    assert "no gap shown" in repr(found)


@pytest.mark.filterwarnings("ignore:.*equal")
def test_copies_in_the_training_set_are_no_obstacle():
    x, y = torch.cat([X, X[:3]]), torch.cat([Y, Y[:2], 1 - Y[2:3]])
    found = audit(nl.Ridge(0.0), x=x, y=y, keep_images=True)
    assert torch.equal(found.images[:2], found.images[-3:-1])  # of one class, they stay copies
    assert found.cost[0].low > 0


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": nn.Identity()}, "expected machine as a KernelMachine"),
        ({"machine": KernelMachine(DENSE)}, "no training data yet"),
        ({"machine": KernelMachine(DENSE, nl.Band((0, 1))).fit(X, Y)}, "with Ridge, GradientFlow or GradientDescent"),
        (
            {"machine": KernelMachine(DENSE, nl.CrossEntropy(1.0)).fit(X, Y)},
            "with Ridge, GradientFlow or GradientDescent",
        ),
        (
            {"machine": KernelMachine(DENSE).fit(X, torch.linspace(-1, 1, 140, dtype=torch.float64)[:, None])},
            "fitted on class indices",
        ),
        ({"machine": KernelMachine(nl.LinearKernel(), nl.Ridge(1.0)).fit(X - 0.5, Y)}, "the machine's training images"),
        ({"held_out": HELD_OUT[0]}, "expected held_out as images and their classes"),
        ({"held_out": (DATA.test.x, DATA.test.y)}, "400 of 400"),
        ({"held_out": (X[:0], Y[:0])}, "held_out as at least one image"),
        ({"x": X, "y": Y}, "not training images"),
        ({"x": X[:0], "y": Y[:0]}, "x as at least one image"),
        ({"y": DATA.test.y + 1}, "classes from 0 to 1"),
        ({"eps": 8}, "8/255"),
        ({"eps": -1}, "ε of 0 or more"),
        ({"steps": 0}, "steps as a whole number"),
        ({"step_size": 0.0}, "step_size above 0"),
        ({"filters": []}, "filters as at least one"),
        ({"filters": nl.Ridge(0.1)}, "filters as a list"),
        ({"filters": [3]}, "expected a filter"),
        ({"filters": [nl.Band((999,))]}, "indices from 0 to 139"),
        ({"generator": 0}, "generator"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {
        "machine": KernelMachine(DENSE, nl.Ridge(1.0)).fit(X, Y),
        "x": DATA.test.x,
        "y": DATA.test.y,
        "eps": 0.1,
        "held_out": HELD_OUT,
        "generator": torch.Generator().manual_seed(0),
        "steps": 1,
    } | change
    with pytest.raises(InputError, match=message):
        unlearnable_audit(**given)
