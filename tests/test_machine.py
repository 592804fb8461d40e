"""The kernel machine: identities on real images, and its behaviour as a module and as a classifier."""

import math

import pytest
import torch
from torch import nn

import ntklens as nl

EPS = 8 / 255


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(120, 60)


@pytest.fixture(scope="module")
def kernel():
    return nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1)))


@pytest.fixture(scope="module")
def machine(kernel, data):
    return nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y)


@pytest.fixture(scope="module")
def ten(kernel):
    data = nl.load_dataset("fashion-mnist-mini").first(150, 40)
    return nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y), data


@pytest.mark.parametrize("filter", [None, nl.GradientFlow(50.0, 1e-3)])
def test_a_fit_tells_its_progress_and_is_the_same_fit(kernel, data, filter):
    shares = []
    x, y = data.train.x.double(), data.train.y
    told = nl.KernelMachine(kernel, filter).fit(x, y, progress=shares.append)
    assert torch.equal(told.coefficients, nl.KernelMachine(kernel, filter).fit(x, y).coefficients)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert shares[-1] == 1


def test_a_kernel_without_progress_of_its_own_tells_its_end(data):
    shares = []
    nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1.0)).fit(data.train.x, data.train.y, progress=shares.append)
    assert 0 < shares[0] <= shares[-1] == 1


def test_it_interpolates_at_infinite_time(machine, data):
    f = machine.outputs(data.train.x.double())[:, 0]
    torch.testing.assert_close(f, 2.0 * data.train.y.double() - 1, rtol=0, atol=1e-8)
    assert machine.score(data.train.x, data.train.y) == 1


def test_flow_by_the_eigenbasis_is_the_matrix_exponential(machine, data, kernel):
    """f_t(x) = Θ(x, X) Θ⁻¹ (I - exp(-η Θ t)) Y, with the exponential of the matrix itself."""
    x, train = data.test.x.double(), data.train.x.double()
    theta, time, rate = kernel(train), 5.0, 0.01
    y = 2.0 * data.train.y.double()[:, None] - 1
    expected = kernel(x, train) @ torch.linalg.solve(theta, y - torch.linalg.matrix_exp(-rate * time * theta) @ y)
    f = machine.refilter(nl.GradientFlow(time=time, learning_rate=rate)).outputs(x)
    torch.testing.assert_close(f, expected, rtol=1e-9, atol=1e-10)


def test_refilter_shares_the_factorisation_and_leaves_the_first_alone(machine):
    before = machine.coefficients.clone()
    early = machine.refilter(nl.GradientDescent(10, 1e-3))
    assert early.factorisation is machine.factorisation
    assert torch.equal(machine.coefficients, before)
    assert not torch.equal(early.coefficients, before)


def test_refilter_gives_the_same_bits_whatever_was_looked_at_before(kernel, data):
    fresh, looked = (nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y) for _ in range(2))
    nl.eigenfeatures(looked, 5)
    nl.eigenfeatures(looked)
    for filter in (nl.Ridge(0.1), nl.Band([0, 2]), nl.GradientFlow(3.0)):
        assert torch.equal(fresh.refilter(filter).coefficients, looked.refilter(filter).coefficients)


def test_a_filter_on_leading_eigenpairs_needs_no_others(kernel, data):
    machine = nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y)
    some = machine.refilter(nl.Band([0, 2]), machine.factorisation.leading(5))
    mean, std = some.predict(data.test.x.double(), return_std=True)
    assert machine.factorisation._spectrum is None
    expected_mean, expected_std = machine.refilter(nl.Band([0, 2])).predict(data.test.x.double(), return_std=True)
    torch.testing.assert_close(mean, expected_mean, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(std, expected_std, rtol=1e-7, atol=1e-9)


def test_forward_is_differentiable_and_agrees_with_autograd_through_the_kernel(machine, data, kernel):
    x = data.test.x[:5].double().requires_grad_()
    (g,) = torch.autograd.grad(machine(x)[:, 1].sum(), x)
    z = data.test.x[:5].double().requires_grad_()
    f = kernel(z, machine.train_inputs) @ machine.coefficients
    (expected,) = torch.autograd.grad(f.sum() / 2, z)
    torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e-12)


def test_one_step_direction_is_the_sign_of_the_margins_gradient(machine, data):
    """docs/formulas.md: for two classes x~ = x - ε y sign(∇f), whatever the loss's weight."""
    x, y = data.test.x.double() * 0.5 + 0.25, data.test.y
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(machine.outputs(z).sum(), z)
    signed = (2.0 * y.double() - 1).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(nl.fgsm(machine, x, y, EPS), x - EPS * signed * slope.sign(), rtol=0, atol=1e-12)


def test_one_step_with_ten_classes_is_the_weighted_gradient(ten):
    """x~ = x + ε sign(Σ_c (p_c - y_c) ∇f_c(x))."""
    machine, data = ten
    x, y = data.test.x[:6].double() * 0.5 + 0.25, data.test.y[:6]
    z = x.clone().requires_grad_()
    f = machine.outputs(z)
    weights = torch.softmax(f, 1).detach() - nn.functional.one_hot(y, 10)
    (slope,) = torch.autograd.grad((f * weights).sum(), z)
    torch.testing.assert_close(nl.fgsm(machine, x, y, EPS), x + EPS * slope.sign(), rtol=0, atol=1e-12)


def test_two_classes_are_served_as_symmetric_logits(machine, data):
    f = machine.outputs(data.test.x)[:, 0]
    torch.testing.assert_close(machine(data.test.x), torch.stack([-f / 2, f / 2], 1))
    torch.testing.assert_close(machine.predict_proba(data.test.x)[:, 1], torch.sigmoid(f))


def test_dtype_follows_the_images(machine, data):
    assert machine(data.test.x).dtype == torch.float32
    assert machine(data.test.x.double()).dtype == torch.float64


def test_float_targets_are_used_as_they_are(kernel, data):
    y = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    machine = nl.KernelMachine(kernel).fit(data.train.x, y)
    torch.testing.assert_close(machine.outputs(data.train.x.double()), y.double(), rtol=0, atol=1e-7)


def test_training_afterwards_changes_no_machine(data):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 1))
    machine = nl.KernelMachine(nl.empirical_kernel(net), nl.Ridge(1e-3)).fit(data.train.x[:20], data.train.y[:20])
    before = machine(data.test.x)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)
    assert torch.equal(machine(data.test.x), before)


@pytest.mark.parametrize("filter", [nl.Ridge(0.0), nl.GradientFlow(math.inf)], ids=str)
def test_equal_images_are_fitted_as_one_to_the_mean_of_their_targets(kernel, data, filter):
    """The pseudoinverse is the reference: least squares, and of these the least norm."""
    x = data.train.x[:12].double()
    x, y = torch.cat([x, x[:3], x[:1]]), torch.randn(16, 2, generator=torch.Generator().manual_seed(0)).double()
    y[12] = y[0]
    with pytest.warns(
        UserWarning, match=r"4 of 16 .* \(12 of 0, 13 of 1, 14 of 2, 15 of 0\), 3 of them with another target"
    ):
        machine = nl.KernelMachine(kernel, filter).fit(x, y)
    theta = kernel(x)
    expected = torch.linalg.pinv(theta, rtol=1e-10, hermitian=True) @ y
    torch.testing.assert_close(machine.coefficients, expected, rtol=1e-6, atol=1e-8)
    mean = (y[0] + y[12] + y[15]) / 3
    torch.testing.assert_close(machine.outputs(x)[[0, 12, 15]], mean.expand(3, 2), rtol=0, atol=1e-9)
    _, std = machine.predict(x, return_std=True)
    assert float(std.max()) < 1e-4
    ridge = machine.refilter(nl.Ridge(0.5))
    torch.testing.assert_close(ridge.coefficients, torch.linalg.solve(theta + 0.5 * torch.eye(16), y))
    torch.testing.assert_close(ridge.refilter(filter).coefficients, machine.coefficients)


def test_a_kernel_without_full_rank_is_no_matter_of_copies():
    x = torch.rand(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(nl.NumericalFailure, match=r"rank is below the number of inputs\. .* or --ridge 1e-6"):
        nl.KernelMachine(nl.LinearKernel()).fit(x, torch.arange(9) % 2)


def test_use_before_fit_and_inputs_of_another_shape(machine, kernel):
    with pytest.raises(nl.InputError, match="Call fit"):
        nl.KernelMachine(kernel)(torch.zeros(1, 1, 28, 28))
    with pytest.raises(nl.InputError, match=r"expected x as inputs of shape \(n, 1, 28, 28\), as in training; got"):
        machine(torch.zeros(1, 1, 8, 8))


def test_more_images_than_memory_holds_is_one_sentence():
    class Hungry(nl.Kernel):
        def __call__(self, x1, x2=None):
            return torch.empty(1 << 44)

        def gradient(self, x1, x2, weights):
            return x1

    with pytest.raises(nl.InputError, match="kernel matrix of 4 training inputs takes"):
        nl.KernelMachine(Hungry()).fit(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]))


def test_what_is_no_kernel_is_refused(untyped):
    with pytest.raises(nl.InputError, match=r"expected a kernel, .* got Linear\."):
        nl.KernelMachine(nn.Linear(2, 1))


def test_float32_arithmetic_is_right_to_what_it_says():
    data = nl.load_dataset("fashion-mnist-mini").first(500, 60)
    kernel = nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10)))
    exact = nl.KernelMachine(kernel).fit(data.train.x, data.train.y)
    fast = nl.KernelMachine(kernel, arithmetic=torch.float32).fit(data.train.x, data.train.y)
    assert torch.equal(exact.coefficients, fast.coefficients)
    x, y = data.test.x, data.test.y
    assert 0 < float((exact(x) - fast(x)).abs().max()) < 1e-4
    same = nl.fgsm(exact, x, y, 8 / 255) == nl.fgsm(fast, x, y, 8 / 255)
    assert float(same.double().mean()) > 0.999
    assert fast.refilter(nl.GradientFlow(1.0)).arithmetic == torch.float32
    with pytest.raises(nl.InputError, match=r"torch\.float64 or torch\.float32"):
        nl.KernelMachine(kernel, arithmetic=torch.float16)


def test_a_machine_is_not_asked_whether_its_inputs_matter_to_each_other_unless_something_is_hooked_on():
    class Mixing(nl.Kernel):
        """A kernel whose values depend on the rest of the batch."""

        def __call__(self, x1, x2=None):
            x2 = x1 if x2 is None else x2
            return x1.flatten(1) @ x2.flatten(1).T + len(x1)

        def gradient(self, x1, x2, weights):
            return (weights @ x2.flatten(1)).reshape(x1.shape)

    x, y = torch.rand(6, 1, 3, 3), torch.tensor([0, 1] * 3)
    machine = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1.0)).fit(x, y)
    assert machine.treats_inputs_alone
    assert not nl.KernelMachine(Mixing()).treats_inputs_alone
    machine.register_forward_hook(lambda module, inputs, logits: logits + logits.mean(0))
    assert not machine.treats_inputs_alone
    with pytest.raises(nl.errors.InputError, match="do not depend on the other images"):
        nl.fgsm(machine, x, y, 0.1)
