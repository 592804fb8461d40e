"""Copies of modules: what deepcopy cannot take, what refers to the original, and wrappers."""

import threading
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.errors import InputError
from ntklens.modules import copied, copied_function, sharing_copy, unwrapped


def dense():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


def plain_kernel(net, x):
    """The trace kernel by autograd, an image and an output at a time."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    rows = []
    for one in x:
        outputs = net(one[None].clone())[0]
        rows.append(
            [torch.cat([g.flatten() for g in torch.autograd.grad(f, parameters, retain_graph=True)]) for f in outputs]
        )
    j = torch.stack([torch.stack(row) for row in rows])
    return torch.einsum("iop,jop->ij", j, j) / j.shape[1]


class Storing(nn.Module):
    """Keeps its activations, a lock and a counter."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.lock, self.seen = threading.Lock(), []

    def forward(self, x):
        self.features = self.body(x).relu()
        self.seen.append({"features": self.features})
        return self.head(self.features)


class ByFunction(nn.Module):
    """Calls a part of itself through a lambda among its attributes."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.by_name = lambda x: self.body(x)

    def forward(self, x):
        return self.head(self.by_name(x).relu())


def hooked():
    net = dense()
    net[0].register_forward_hook(lambda module, inputs, output: output + net[0].bias)
    return net


def normed(wrap):
    torch.manual_seed(0)
    return nn.Sequential(wrap(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 2)).eval()


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = (
            torch.compile(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), backend="eager"),
            nn.Linear(8, 2),
        )

    def forward(self, x):
        return self.head(self.body(x))


NETWORKS = {
    "weight_norm": lambda: normed(nn.utils.parametrizations.weight_norm),
    "spectral_norm": lambda: normed(nn.utils.parametrizations.spectral_norm),
    "spectral_norm by hooks": lambda: normed(nn.utils.spectral_norm),
    "stored activations": Storing,
    "attribute that is a lambda": ByFunction,
    "hook that refers to the network": hooked,
    "compiled": lambda: torch.compile(dense(), backend="eager"),
    "compiled part": Nested,
    "data parallel": lambda: nn.DataParallel(dense()),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_kernel_of_a_network_that_is_hard_to_copy(make):
    torch.manual_seed(1)
    net, x = make(), torch.rand(3, 4)
    want = plain_kernel(net, x)
    net(x)  # weights and activations with a graph are there now
    torch.testing.assert_close(nl.empirical_kernel(net)(x), want, rtol=1e-4, atol=1e-5)
    tracker = nl.KernelTracker(x, torch.tensor([0, 1, 0]), top_k=1)
    torch.testing.assert_close(tracker.record(net, 0), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nl.linearize(net)(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_copy_has_nothing_to_do_with_the_original(make):
    net, x = make(), torch.rand(3, 4)
    twin = copied(net)
    want = net(x)
    torch.testing.assert_close(twin(x), want, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    torch.testing.assert_close(twin(x), want, rtol=1e-5, atol=1e-6)


def test_sharing_copy_has_the_same_parameters():
    net = dense()
    twin = sharing_copy(net)
    assert twin is not net
    assert all(a is b for a, b in zip(twin.parameters(), net.parameters(), strict=True))


def test_wrappers_are_taken_off_at_any_depth():
    net = dense()
    assert unwrapped(nn.DataParallel(torch.compile(net, backend="eager"))) is net
    assert [name for name, _ in copied(Nested()).named_parameters()] == [
        "body.0.weight", "body.0.bias", "head.weight", "head.bias",
    ]  # fmt: skip


@dataclass
class Output:
    logits: torch.Tensor


class Returning(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.layer, self.form = nn.Linear(4, 2), form

    def forward(self, x):
        x -= 0.5
        return self.form(self.layer(x))


@pytest.mark.parametrize(
    "form",
    [lambda f: f, lambda f: (f,), lambda f: [f], lambda f: {"logits": f, "aux": f}, lambda f: {"out": f}, Output],
)
def test_function_gives_one_tensor_and_leaves_its_input(form):
    net, x = Returning(form), torch.rand(3, 4)
    keep = x.clone()
    torch.testing.assert_close(copied_function(net)(x), net.layer(keep - 0.5))
    assert torch.equal(x, keep)


@pytest.mark.parametrize(
    ("form", "said"),
    [(lambda f: (f, f), "a tuple of 2"), (lambda f: {"a": f, "b": f}, "a dict with the keys a, b"), (id, "type int")],
)
def test_outputs_that_are_not_clear_are_refused(form, said):
    with pytest.raises(InputError, match=said):
        copied_function(Returning(form))(torch.rand(3, 4))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", [nl.empirical_kernel, nl.linearize])
def test_torchscript_has_no_kernel(use):
    script = torch.jit.trace(dense(), torch.rand(2, 4))
    with pytest.raises(InputError, match="TorchScript"):
        use(script)


@pytest.mark.parametrize("use", [nl.empirical_kernel, nl.linearize, nl.analytic_kernel, nl.ntk_parametrize])
def test_lazy_layers_are_refused(use):
    with pytest.raises(InputError, match=r"lazy layers, of which `0\.weight`"):
        use(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)).eval())
