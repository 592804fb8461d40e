"""Attacks leave model, images and random state as they were, and take functions of single images alone."""

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ntklens as nl
from ntklens.errors import InputError
from ntklens.modules import guarded

EPS = 0.05
ATTACKS = {
    "fgsm": lambda net, x, y: nl.fgsm(net, x, y, EPS),
    "pgd": lambda net, x, y: nl.pgd(net, x, y, EPS, steps=3),
    "square": lambda net, x, y: nl.square(net, x, y, EPS, queries=5, generator=torch.Generator().manual_seed(0)),
    "attack": lambda net, x, y: nl.attack(net, x, y, EPS, steps=3).margins,
    "none": lambda net, x, y: nl.attack(net, x, y, 0.0, "none").margins,
}
every_attack = pytest.mark.parametrize("run", ATTACKS.values(), ids=ATTACKS)


def data(n=6):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 4, generator=generator) * 0.5 + 0.1, torch.arange(n) % 2


class Net(nn.Module):
    """Two layers after a preparation of the batch."""

    def __init__(self, prepare, finish=lambda f: f):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        self.prepare, self.finish = prepare, finish

    def forward(self, x):
        return self.finish(self.b(self.a(self.prepare(x)).relu()))


def shifted_in_place(x):
    x -= 0.5
    x /= 0.25
    return x


def through_numpy(x):
    x.detach().numpy()[:] -= 0.5
    return x


@every_attack
@pytest.mark.parametrize(
    ("writing", "plain"),
    [(shifted_in_place, lambda x: (x - 0.5) / 0.25), (through_numpy, lambda x: x - 0.5), (F.relu_, F.relu)],
)
def test_a_forward_may_write_into_its_input(run, writing, plain):
    x, y = data()
    keep = x.clone()
    torch.testing.assert_close(run(Net(writing), x, y), run(Net(plain), keep, y))
    assert torch.equal(x, keep)


DEPENDENT = {
    "largest": lambda x: x / x.max(),
    "mean": lambda x: x - x.mean(0),
    "sum of all": lambda x: x / x.sum(),
    "running sum": lambda x: x.cumsum(0),
    "first": lambda x: x - x[:1],
    "batch norm without statistics": nn.BatchNorm1d(4, track_running_stats=False).eval(),
}


@pytest.mark.parametrize("prepare", DEPENDENT.values(), ids=DEPENDENT)
def test_logits_that_depend_on_the_batch_are_refused(prepare):
    x, y = data()
    for run in ATTACKS.values():
        with pytest.raises(InputError, match="change with the rest of the batch"):
            run(Net(prepare), x, y)
    with pytest.raises(InputError, match="depend on the rest of the batch"):
        nl.empirical_kernel(Net(prepare).eval())(x)


def test_one_image_at_a_time_is_a_function_of_single_images():
    x, y = data()
    net = Net(DEPENDENT["largest"])
    each = torch.cat([nl.pgd(net, x[i : i + 1], y[i : i + 1], EPS) for i in range(len(x))])
    torch.testing.assert_close(nl.pgd(net, x, y, EPS, batch_size=1), each)


def only_pixels(x):
    assert float(x.detach().max()) <= 1, "pixels"
    return x


def only_six(x):
    return x.view(6, 4)


@pytest.mark.parametrize(
    "prepare", [only_pixels, only_six, lambda x: x + 0.1 * torch.randn_like(x), lambda x: x.double()]
)
def test_functions_of_single_images_are_not_accused(prepare):
    x, y = data()
    net = Net(prepare)
    net = net.double() if prepare(x).dtype == torch.float64 else net
    assert nl.pgd(net, x, y, EPS).shape == x.shape


@every_attack
def test_batch_norm_in_training_mode_is_refused_and_its_statistics_stay(run):
    x, y = data()
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match=r"`1` \(BatchNorm1d\) in training mode"):
        run(net, x, y)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Counting(Net):
    """Changes its buffers in every forward: one in place, one by a new tensor."""

    def __init__(self):
        super().__init__(lambda x: x)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.last = x.detach().mean(0)
        return super().forward(x)


@every_attack
def test_buffers_modes_and_random_state_stay(run):
    x, y = data()
    net = nn.Sequential(Counting(), nn.Dropout(0.5))
    net[0].eval()
    state, modes = torch.get_rng_state(), [part.training for part in net.modules()]
    with pytest.warns(UserWarning, match=r"`1` \(Dropout\) draws at each call"):
        run(net, x, y)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in net.modules()] == modes
    assert float(net[0].calls) == 0
    assert not net[0].last.any()


def test_the_global_generator_goes_on_where_it_is_passed():
    x, y = data()
    net, state = Net(lambda x: x), torch.get_rng_state()
    first, second = (
        nl.pgd(net, x, y, EPS, random_start=True, steps=1, step_size=1e-6, generator=torch.default_generator)
        for _ in range(2)
    )
    torch.set_rng_state(state)
    assert not torch.equal(first, second)


@every_attack
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_attacks_do_not_mind_that_gradients_are_off(run, mode):
    x, y = data()
    net = Net(lambda x: x)
    want = run(net, x, y)
    with mode():
        got = run(net, x.clone(), y.clone())
    torch.testing.assert_close(got, want)


@every_attack
@pytest.mark.parametrize("finish", [lambda f: (f,), lambda f: {"logits": f, "features": f}])
def test_the_one_tensor_of_the_outputs_is_attacked(run, finish):
    x, y = data()
    torch.testing.assert_close(run(Net(lambda x: x, finish), x, y), run(Net(lambda x: x), x, y))


@every_attack
def test_several_outputs_are_refused(run):
    x, y = data()
    with pytest.raises(InputError, match=r"returns one tensor.*got a tuple of 2"):
        run(Net(lambda x: x, lambda f: (f, f)), x, y)


@every_attack
def test_lazy_layers_stay_lazy(run):
    x, y = data()
    net = nn.Sequential(nn.LazyLinear(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="lazy layers"):
            run(net, x, y)
    assert isinstance(net[0], nn.LazyLinear)


def test_the_guards_question_is_not_counted():
    x, y = data()
    assert nl.attack(Net(lambda x: x), x, y, EPS, steps=3).gradient_evaluations == 3 * len(x)


@pytest.mark.parametrize(("size", "refused"), [(1e-5, False), (1e-2, True)])
def test_rounding_of_an_image_near_the_boundary_is_no_dependence_on_the_batch(size, refused):
    """The first image's logits are near zero, where a library that rounds by the batch's size is far off relatively."""

    def model(x):
        return x.flatten(1)[:, :2] - 0.5 + size * len(x)

    x = torch.full((5, 4), 0.5)
    x[1:] = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    with (
        pytest.raises(InputError, match="change with the rest of the batch") if refused else nullcontext(),
        guarded(model, x) as (held, images),
    ):
        held(images)
