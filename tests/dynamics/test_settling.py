"""Settling epochs against closed forms, and on noisy paths whose end is known."""

import math

import pytest
import torch

from ntklens.dynamics import measures as m
from ntklens.dynamics.settling import first_crossing, interpolated, learned_epoch, settling

N = 30


def directions(count, seed=0):
    """Orthonormal directions among centred symmetric matrices, as rows of length N²."""
    drawn = torch.randn(count, N, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    centred = torch.stack([m._centre(d + d.T) for d in drawn]).flatten(1)
    return torch.linalg.qr(centred.T).Q.T.reshape(count, N, N)


def relaxing(time, epochs=40, noise=0.0, distance=0.5, seed=0):
    """Units on an arc that comes to its end like exp(-t / time), with fresh noise of a given length at every epoch."""
    end, away, *fresh = directions(2 + epochs + 1, seed)
    units = []
    for t in range(epochs + 1):
        angle = distance * math.exp(-t / time)
        # Before training there were no steps, and so no noise.
        unit = math.cos(angle) * end + math.sin(angle) * away + (noise * fresh[t] if t else 0)
        units.append(unit / unit.norm())
    return units


def test_the_centred_cosine_kernel_by_hand():
    """K' is the unit matrix with 1/2 beside the diagonal in one pair; H takes out what all share."""
    kernel = torch.tensor([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 25.0]])
    cosine = torch.tensor([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]], dtype=torch.float64)
    h = torch.eye(3, dtype=torch.float64) - 1 / 3
    expected = h @ cosine @ h
    torch.testing.assert_close(m.centred_cosine(kernel), expected / expected.norm())
    # Eigenvalues of H K' H: 1/2 along (1, -1, 0) and 7/6 along (1, 1, -2), so p = 0.3 and 0.7.
    assert m.centred_rank(kernel) == pytest.approx(0.3**-0.3 * 0.7**-0.7)


def test_kernels_of_which_nothing_is_left():
    ones = torch.ones(5, 5)
    assert m.centred_rank(ones) == 0
    assert m.centred_rank(torch.zeros(5, 5)) == 0
    assert m.centred_rank(torch.eye(5)) == pytest.approx(4)
    dead = torch.eye(5)
    dead[0, 0] = 0
    assert bool(m.centred_cosine(dead).isfinite().all())


def test_a_path_by_hand():
    """Six records on a line: n(t) = x_t x_{t+1} / x_0² for the distance x_t to an end that does not move."""
    end, away = directions(2)
    x = [1e-3, 8e-4, 2e-4, 0.0, 0.0, 0.0]
    path = settling([end + d * away for d in x], range(6))
    # Before smoothing: 1, 0.8 · 0.2 and zeros.
    expected = [1, 1.16 / 3, 0.16 / 3, 0, 0]
    assert path.distance[:-1] == pytest.approx(expected, abs=1e-5)
    assert math.isnan(path.distance[-1])
    a, b = 1.16 / 3, 0.16 / 3
    assert path.epoch == pytest.approx(1 + (a - 0.1) / (a - b), rel=1e-4)
    assert path.area == pytest.approx((1 + a) / 2 + (a + b) / 2 + b / 2, rel=1e-4)
    assert path.has_settled
    assert path.known_from == pytest.approx(path.epoch / 0.6)
    assert path.at(0.5) == pytest.approx((1 + a) / 2, rel=1e-4)
    assert math.isnan(path.at(6))


@pytest.mark.parametrize("time", [4.0, 10.0])
def test_the_noise_of_the_steps_does_not_move_it(time):
    """n(t) = exp(-(2 t + 1) / time) but for the smoothing; noise as long as half of the path adds nothing."""
    exact = settling(relaxing(time), range(41))
    smoothing = (1 + 2 * math.cosh(2 / time)) / 3
    expected = (time * math.log(10 * smoothing) - 1) / 2
    assert exact.epoch == pytest.approx(expected, abs=0.4)
    for noise in (0.05, 0.1, 0.2):
        noisy = settling(relaxing(time, noise=noise), range(41))
        assert noisy.epoch == pytest.approx(exact.epoch, abs=0.5)
        assert noisy.area == pytest.approx(exact.area, rel=0.1)
        assert noisy.has_settled
        # The noise of one record and of the mean of four: σ² (1 + 1/4) of the squared way 0.5², and the rest of the way.
        assert noisy.wander == pytest.approx(noise**2 * 1.25 / 0.25, abs=0.06)
    kernels = torch.stack(relaxing(time, noise=0.2))
    velocities = m.velocity(kernels, list(range(41)))
    assert min(velocities[1:]) > 0.02, "by its velocity this path never comes to rest"


def test_twice_the_time_is_twice_the_area():
    slow, fast = (settling(relaxing(time, epochs=80, noise=0.1), range(81)) for time in (12.0, 6.0))
    assert (slow.area + 0.5) / (fast.area + 0.5) == pytest.approx(2, rel=0.1)


def test_a_path_of_constant_speed_has_not_settled():
    end, away = directions(2)
    path = settling([end + 1e-3 * (40 - t) * away for t in range(41)], range(41))
    assert path.epoch == pytest.approx(40 * (1 - math.sqrt(0.1)), abs=2)
    assert not path.has_settled


def test_a_kernel_that_does_not_move_is_settled_from_its_start():
    end, away = directions(2)
    still = settling([end] * 10, range(3, 13))
    assert (still.epoch, still.area, still.has_settled) == (3, 0, True)
    assert still.distance[:-1] == [0] * 9
    noisy = settling(relaxing(5.0, distance=0.0, noise=0.2), range(41))
    assert noisy.epoch < 3
    assert noisy.wander > 1, "it wanders farther than it has come"
    assert not noisy.has_settled
    assert away is not end


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.25])
def test_settled_stays_settled_while_the_kernel_wanders_about_its_end(noise):
    """What one step does decides nothing, so that from the first settled record to the last nothing changes."""
    for seed in range(4):
        units = relaxing(4.0, noise=noise, seed=seed)
        judged = [settling(units[:count], range(count)).has_settled for count in range(20, 42)]
        assert judged == sorted(judged)
        assert judged[-1]


def test_a_late_move_undoes_an_early_settling():
    end, away, other = directions(3)
    path = [end + 1e-3 * away * (t == 0) for t in range(10)] + [end + 2e-3 * other * t for t in range(10)]
    assert settling(path[:10], range(10)).has_settled
    assert not settling(path, range(20)).has_settled


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_records_have_no_settling_epoch(count):
    path = settling(relaxing(3.0)[:count], range(count))
    assert len(path.distance) == count
    assert path.epoch is None
    assert math.isnan(path.area)


def test_epochs_need_not_follow_each_other():
    units = relaxing(6.0)
    every, double = settling(units, range(41)), settling(units, range(0, 82, 2))
    assert double.epoch == pytest.approx(2 * every.epoch)
    assert double.area == pytest.approx(2 * every.area)


def test_the_epoch_at_which_the_loss_is_learned():
    losses = [math.nan, 2.0, 1.0, 0.4, 0.1, 0.0, 0.0]
    assert learned_epoch(losses, range(7)) == pytest.approx(3 + 0.2 / 0.3)
    assert learned_epoch(losses, range(7), 0.5) == 2
    assert learned_epoch([math.nan, 1.0, 1.0, 2.0, 2.0], range(5)) is None
    assert learned_epoch([math.nan, 1.0, 0.5], range(3)) is None


def test_crossings_and_values_between_epochs():
    assert first_crossing([0, 2, 4], [0.0, 1.0, 0.0], 0.5) == 1
    assert first_crossing([0, 2], [1.0, 2.0], 0.5) == 0
    assert first_crossing([0, 2], [0.0, 0.4], 0.5) is None
    assert interpolated([0, 2, 4], [0.0, 1.0, 5.0], 3) == 3
    assert math.isnan(interpolated([0, 2], [0.0, 1.0], 3))
