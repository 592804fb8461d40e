"""Training against the kernel's closed forms."""

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from ntklens.networks import BinaryLogits, Centred, build, gradient_descent, train

SHAPE = (1, 8, 8)


def digits(n: int = 60):
    return nl.load_dataset("digits", classes=[3, 8]).first(n, 40)


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 2)).double()


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
    batches: list[Tensor] = []

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        batches.append(x)
        return 1 - x

    epochs: list[int] = []
    options = {"epochs": 2, "batch_size": 20, "learning_rate": 0.1, "generator": torch.Generator().manual_seed(0)}
    net = build("small-cnn", SHAPE, 2)
    train(net, data.train.x, data.train.y, attack=attack, on_epoch=lambda e, m, loss: epochs.append(e), **options)
    assert len(batches) == 4
    assert epochs == [0, 1, 2]


def test_gradient_descent_that_does_not_fit():
    data, net = digits(), build("fc1", SHAPE, 1, width=4)
    options = {"steps": 2, "learning_rate": 0.1}
    with pytest.raises(nl.InputError, match=r"outputs' shape \(60, 1\); got \(60, 3\)"):
        gradient_descent(net, data.train.x, torch.ones(60, 3), **options)
    with pytest.raises(nl.InputError, match="steps of 1 or more"):
        gradient_descent(net, data.train.x, torch.ones(60, 1), steps=0, learning_rate=0.1)
    with pytest.raises(nl.InputError, match="got none to train"):
        gradient_descent(net.requires_grad_(False), data.train.x, torch.ones(60, 1), **options)


def test_a_last_step_that_diverges_is_named():
    net = nn.Linear(2, 1)
    with pytest.raises(nl.NumericalFailure, match="diverged at step 1"):
        gradient_descent(net, torch.full((1, 2), 1e30), torch.zeros(1, 1), steps=1, learning_rate=1e30)


class Watched(nn.Module):
    """Notes the modes in which it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.modes = nn.Linear(64, 2), []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.layer(x.flatten(1))


def test_steps_run_in_training_mode_and_all_else_in_eval_mode():
    data, modes = digits(20), []

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        modes.append(model.training)
        return x

    options = {"epochs": 1, "batch_size": 10, "learning_rate": 0.1, "generator": torch.Generator().manual_seed(0)}
    net = Watched().eval()
    trained = train(
        net, data.train.x, data.train.y, attack=attack, on_epoch=lambda e, m, loss: modes.append(m.training), **options
    )
    assert modes == [False] * 4
    assert trained.modes == [True, True]
    assert not trained.training
    assert net.modes == []


def test_training_that_diverges_is_named():
    data = digits(40)
    options = {"epochs": 9, "batch_size": 8, "learning_rate": 1e30, "generator": torch.Generator().manual_seed(0)}
    with pytest.raises(nl.NumericalFailure, match="training diverged in epoch"):
        train(build("fc2", SHAPE, 2), data.train.x, data.train.y, **options)


def test_adversarial_training_that_diverges_is_named():
    data = digits(40)
    options = {"epochs": 9, "batch_size": 8, "learning_rate": 1e30, "generator": torch.Generator().manual_seed(0)}

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nl.fgsm(model, x, y, 0.1)

    with pytest.raises(nl.NumericalFailure, match="training diverged in epoch 1"):
        train(build("fc2", SHAPE, 2), data.train.x, data.train.y, attack=attack, **options)


def test_labels_that_do_not_fit(untyped):
    data = digits(20)
    options = {"batch_size": 10, "learning_rate": 0.1, "generator": torch.Generator().manual_seed(0)}
    with pytest.raises(nl.InputError, match="got 20 images and 5 labels"):
        train(build("fc1", SHAPE, 2), data.train.x, data.train.y[:5], epochs=1, **options)
    with pytest.raises(nl.InputError, match="epochs and batch_size of 1 or more"):
        train(build("fc1", SHAPE, 2), data.train.x, data.train.y, epochs=0, **options)
