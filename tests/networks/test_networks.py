"""Finite networks: parametrisation, linearisation, and training against the kernel's closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from ntklens.networks import BinaryLogits, Centred, architecture_names, build, gradient_descent, train

SHAPE = (1, 8, 8)


def digits(n: int = 60):
    return nl.load_dataset("digits", classes=[3, 8]).first(n, 40)


def test_ntk_parametrize_draws_standard_normals_and_scales_them():
    """Moments of 65,536 draws; z-scores below four."""
    drawn = nl.ntk_parametrize(nn.Linear(256, 256), 1.5, 0.3, generator=torch.Generator().manual_seed(0))
    raw = drawn.parametrizations.weight.original.detach()
    assert abs(float(raw.mean())) * 256 < 4
    assert abs(float(raw.var()) - 1) * 256 / math.sqrt(2) < 4
    torch.testing.assert_close(drawn.weight, raw * 1.5 / 16)
    torch.testing.assert_close(drawn.bias, drawn.parametrizations.bias.original * 0.3)


def test_ntk_parametrize_leaves_the_module_and_the_global_generator_alone():
    net = build("fc2", SHAPE, 2)
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    one, two = nl.ntk_parametrize(net), nl.ntk_parametrize(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_ntk_parametrize_refuses_what_has_no_rule():
    with pytest.raises(nl.UnsupportedLayer, match=r"`1` \(Embedding\)"):
        nl.ntk_parametrize(nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2)))


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 2)).double()


def test_linearized_network_has_the_networks_value_and_slope(net):
    x = digits().train.x[:5].double()
    lin = nl.linearize(net)
    torch.testing.assert_close(lin(x), net(x))
    mine = torch.autograd.grad(lin(x).square().sum(), list(lin.parameters()))
    theirs = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(nl.linearize(net, centred=True)(x), torch.zeros(5, 2, dtype=x.dtype))


def test_linearized_network_is_the_tangent_at_finite_steps(net):
    x = digits().train.x[:5].double()
    lin, h = nl.linearize(net), 1e-3
    with torch.no_grad():
        for i, p in enumerate(lin.parameters()):
            p.add_(h * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype))
        moved = nl.linearize(net)
        for p, q, start in zip(moved.parameters(), lin.parameters(), net.parameters(), strict=True):
            p.copy_(start + 10 * (q - start))
        torch.testing.assert_close(moved(x) - net(x), 10 * (lin(x) - net(x)), rtol=1e-8, atol=1e-10)


def test_linearized_network_is_attacked_like_any(net):
    data = digits()
    x, y = data.test.x.double(), data.test.y
    assert nl.fgsm(nl.linearize(net), x, y, 0.1).shape == x.shape


@pytest.mark.parametrize("steps", [1, 25])
def test_gradient_descent_on_the_linearized_network_is_the_kernel_machine(net, steps):
    """The closed form (1 - (1 - ηλ)^T)/λ, exact for a network linear in its parameters."""
    data = digits(20)
    x, z = data.train.x.double(), data.test.x[:10].double()
    targets = nn.functional.one_hot(data.train.y, 2).double()
    kernel = nl.empirical_kernel(net, "full")
    k = kernel(x).transpose(1, 2).reshape(40, 40)
    rate = 0.5 / float(torch.linalg.eigvalsh(k)[-1])
    trained = gradient_descent(nl.linearize(net, centred=True), x, targets, steps=steps, learning_rate=rate)
    values, vectors = torch.linalg.eigh(k)
    weights = (1 - (1 - rate * values) ** steps) / values
    alpha = vectors @ (weights * (vectors.T @ targets.reshape(40)))
    expected = kernel(z, x).transpose(1, 2).reshape(20, 40) @ alpha
    torch.testing.assert_close(trained(z).reshape(20), expected, rtol=1e-7, atol=1e-9)


def test_a_wide_network_follows_the_machine_of_its_own_time():
    data = digits()
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", SHAPE, 1))).fit(data.train.x, data.train.y)
    steps, rate = 60, 1 / float(machine.factorisation.spectrum.eigenvalues[0])
    f = machine.refilter(nl.GradientDescent(steps, rate)).outputs(data.test.x)
    errors = []
    for width in (32, 2048):
        drawn = nl.ntk_parametrize(build("fc1", SHAPE, 1, width=width), generator=torch.Generator().manual_seed(1))
        trained = gradient_descent(
            Centred(drawn), data.train.x, machine.targets.float(), steps=steps, learning_rate=rate
        )
        errors.append(float((trained(data.test.x).detach() - f).norm() / f.norm()))
    assert errors[1] < 0.15
    assert errors[1] < errors[0] / 2


def test_divergence_is_named():
    data = digits()
    net = nl.ntk_parametrize(build("fc1", SHAPE, 1))
    with pytest.raises(nl.NumericalFailure, match="diverged at step"):
        gradient_descent(net, data.train.x, torch.ones(60, 1), steps=400, learning_rate=10.0)


def test_training_learns_follows_its_seed_and_leaves_the_network_alone():
    data = digits(200)
    net = BinaryLogits(nl.ntk_parametrize(build("fc1", SHAPE, 1)))
    before = [p.clone() for p in net.parameters()]

    def run() -> nn.Module:
        options = {"epochs": 5, "batch_size": 20, "learning_rate": 0.1}
        return train(net, data.train.x, data.train.y, generator=torch.Generator().manual_seed(0), **options)

    one, two = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert (one(data.test.x).argmax(1) == data.test.y).double().mean() > 0.9


def test_adversarial_training_sees_the_attacked_images():
    data = digits(40)
    seen: list[Tensor] = []

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(x)
        return 1 - x

    epochs: list[int] = []
    options = {"epochs": 2, "batch_size": 20, "learning_rate": 0.1, "generator": torch.Generator().manual_seed(0)}
    net = build("small-cnn", SHAPE, 2)
    train(net, data.train.x, data.train.y, attack=attack, on_epoch=lambda e, m, loss: epochs.append(e), **options)
    assert len(seen) == 4
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize("name", ["fc3", "conv2", "conv2-gap", "myrtle5", "small-cnn"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8)])
def test_architectures_by_name_run_and_have_a_kernel(name, shape):
    x = torch.rand(2, *shape)
    assert build(name, shape, 3, width=8)(x).shape == (2, 3)
    assert nl.analytic_kernel(build(name, shape, 3))(x[:1]).shape == (1, 1)


@pytest.mark.parametrize(("name", "shape"), [("vgg", SHAPE), ("fc0", SHAPE), ("conv2", (64,)), ("myrtle5", (1, 6, 6))])
def test_architectures_that_do_not_fit(name, shape):
    with pytest.raises(nl.InputError, match=r"not known|needs images|divisible by 4"):
        build(name, shape, 2)
    assert "fcN" in architecture_names()
