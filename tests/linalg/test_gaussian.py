"""Mean and spread of infinitely wide trained networks, and of Gaussian process posteriors."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from torch import nn

import ntklens as nl
from ntklens.linalg import trained_covariance


def positive(n: int, seed: int) -> torch.Tensor:
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_with_the_posterior_mean_as_readout_it_is_the_posterior_covariance(noise):
    """K(x, x) - K(x, X) (K(X, X) + ρ I)⁻¹ K(X, x), as a matrix and as its diagonal."""
    joint = positive(9, 0)
    prior, cross, train = joint[:3, :3], joint[:3, 3:], joint[3:, 3:]
    readout = torch.linalg.solve(train + noise * torch.eye(6, dtype=torch.float64), cross.T).T
    expected = prior - readout @ cross.T
    torch.testing.assert_close(trained_covariance(prior, cross, readout @ train, readout, noise), expected)
    diagonal = trained_covariance(prior.diagonal(), cross, readout @ train, readout, noise)
    torch.testing.assert_close(diagonal, expected.diagonal())


def test_with_any_readout_it_is_the_covariance_of_the_linear_map():
    """f(x) = f_0(x) - A f_0(X) is (I, -A) times the joint vector, so its covariance is (I, -A) K (I, -A)ᵀ."""
    joint, readout = positive(9, 1), torch.randn(3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    linear = torch.cat([torch.eye(3, dtype=torch.float64), -readout], 1)
    covariance = trained_covariance(joint[:3, :3], joint[:3, 3:], readout @ joint[3:, 3:], readout)
    torch.testing.assert_close(covariance, linear @ joint @ linear.T)


@pytest.fixture(scope="module")
def peer():
    with np.load(Path(__file__).parents[1] / "golden" / "peer" / "ensemble.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="module")
def kernel():
    hidden = [nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()]
    return nl.analytic_kernel(nn.Sequential(*hidden, nn.Linear(8, 1)))


@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("time", [3.0, None])
def test_peer(peer, kernel, which, time):
    """The peer's NTK of a point with itself is good to 6e-8 only."""
    tolerance = {"rtol": 1e-6, "atol": 1e-7} if which == "ntk" else {"rtol": 1e-9, "atol": 1e-9}
    machine = nl.KernelMachine(kernel if which == "ntk" else kernel.prior, nl.GradientFlow(time or math.inf))
    mean, covariance = machine.fit(peer["x"], peer["y"]).predict(peer["z"], return_cov=True)
    torch.testing.assert_close(mean, peer[f"{which}/{time}/mean"], **tolerance)
    torch.testing.assert_close(covariance, peer[f"{which}/{time}/cov"], **tolerance)


def test_posterior_under_noise_against_the_peer(peer, kernel):
    machine = nl.KernelMachine(kernel.prior, nl.Ridge(0.3)).fit(peer["x"], peer["y"])
    mean, covariance = machine.predict(peer["z"], return_cov=True)
    torch.testing.assert_close(mean, peer["ridge/mean"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(covariance, peer["ridge/cov"], rtol=1e-9, atol=1e-9)


def test_posterior_under_noise_against_scikit_learn(peer):
    x, z, y = peer["x"], peer["z"], peer["y"]
    process = GaussianProcessRegressor(RBF(0.3 * 5**0.5), alpha=0.1, optimizer=None).fit(x.numpy(), y.numpy())
    expected_mean, expected_std = (torch.from_numpy(a) for a in process.predict(z.numpy(), return_std=True))
    mean, std = nl.KernelMachine(nl.RBFKernel(0.3), nl.Ridge(0.1)).fit(x, y).predict(z, return_std=True)
    torch.testing.assert_close(mean, expected_mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(std, expected_std, rtol=1e-9, atol=1e-9)


def test_the_spread_at_time_zero_is_the_priors_and_at_infinity_nothing_at_the_training_points(peer, kernel):
    machine = nl.KernelMachine(kernel).fit(peer["x"], peer["y"])
    mean, std = machine.refilter(nl.GradientFlow(0.0)).predict(peer["z"], return_std=True)
    assert not mean.any()
    torch.testing.assert_close(std[:, 0].square(), kernel.diagonal(peer["z"], "nngp"))
    assert float(machine.predict(peer["x"], return_std=True)[1].max()) < 1e-6
    assert machine.predict(peer["z"].float(), return_std=True)[1].dtype == torch.float32


@pytest.mark.parametrize("filter", [nl.Ridge(0.1), nl.GradientFlow(3.0)], ids=str)
def test_the_spread_is_the_same_without_the_priors_matrix(peer, kernel, filter, monkeypatch):
    """With many training inputs the matrix is multiplied block by block."""
    for of_kernel in (kernel, kernel.prior):
        machine = nl.KernelMachine(of_kernel, filter).fit(peer["x"], peer["y"])
        whole = [machine.predict(peer["z"], **{which: True})[1] for which in ("return_std", "return_cov")]
        with monkeypatch.context() as limits:
            limits.setattr("ntklens.machine.spread.DENSE", 4)
            limits.setattr("ntklens.kernels.matrix_expansion.MEMORY", 32 * 6)
            fresh = nl.KernelMachine(of_kernel, filter).fit(peer["x"], peer["y"])
            parts = [fresh.predict(peer["z"], **{which: True})[1] for which in ("return_std", "return_cov")]
            assert "prior" not in fresh._shared
        for found, expected in zip(parts, whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_trained_networks_spread_as_predicted(peer, kernel):
    """64 networks of width 512 after 30 steps: means within 4.5 standard errors, variances within 4.5 of theirs."""
    x, z, y = peer["x"], peer["z"], peer["y"]
    rate = 0.5 / float(nl.KernelMachine(kernel).fit(x, y).factorisation.spectrum.eigenvalues[0])
    machine = nl.KernelMachine(kernel, nl.GradientDescent(30, rate)).fit(x, y)
    mean, std = machine.predict(z, return_std=True)
    generator, outputs = torch.Generator().manual_seed(0), []
    plain = nn.Sequential(nn.Linear(5, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 2)).double()
    for _ in range(64):
        net = nl.ntk_parametrize(plain, w_std=2**0.5, b_std=0.1, generator=generator)
        for _ in range(30):
            loss = (net(x) - y).square().sum() / 2
            with torch.no_grad():
                for p, g in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
                    p -= rate * g
        outputs.append(net(z).detach())
    f = torch.stack(outputs)
    assert float(((f.mean(0) - mean) / (f.std(0) / 8)).abs().max()) < 4.5
    assert float((f.var(0) / std.square() - 1).abs().max()) < 4.5 * (2 / 63) ** 0.5


def test_what_has_no_spread(peer, kernel):
    machine = nl.KernelMachine(kernel).fit(peer["x"], peer["y"])
    with pytest.raises(nl.InputError, match="expected return_std or return_cov; got both"):
        machine.predict(peer["z"], return_std=True, return_cov=True)
    empirical = nl.empirical_kernel(nn.Linear(5, 1).double())
    fitted = nl.KernelMachine(empirical, nl.Ridge(0.1)).fit(peer["x"], peer["y"])
    with pytest.raises(nl.InputError, match="has no prior, the covariance of networks before training"):
        fitted.predict(peer["z"], return_std=True)
