"""The same network in several spellings has one kernel, and what has no rule is refused with a reason."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import foreign
from kernels.networks import Forward
from ntklens.errors import InputError, UnsupportedLayer
from ntklens.kernels import analytic_kernel


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def layers() -> dict[str, nn.Module]:
    return {"c1": nn.Conv2d(3, 4, 3, padding=1), "c2": nn.Conv2d(4, 4, 3, padding=1), "out": nn.Linear(4, 2)}


def _loop(self, x):
    for conv in (self.c1, self.c2):
        x = F.relu(conv(x))
    return self.out(x.mean(dim=[2, 3]))


def _in_place(self, x):
    x = self.c1(x)
    x.relu_()
    x = F.relu(self.c2(x), inplace=True)
    return self.out(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))


def _shapes(self, x):
    x = torch.relu(self.c2(torch.relu(self.c1(x))))
    if x.shape[-1] > 1:
        x = F.avg_pool2d(x, x.shape[-1])
    return self.out(x.reshape(len(x), -1))


@pytest.mark.parametrize("forward", [_loop, _in_place, _shapes])
def test_the_spelling_of_a_network_does_not_matter(forward):
    x = images()
    expected = analytic_kernel(plain())(x)
    torch.testing.assert_close(analytic_kernel(Forward(forward, **layers()))(x), expected, rtol=1e-12, atol=0)


def test_in_place_activation_changes_every_name_of_the_tensor():
    def forward(self, x):
        y = self.a(x.flatten(1))
        skip = y
        y.relu_()
        return self.b(y) + self.c(skip)

    def explicit(self, x):
        y = F.relu(self.a(x.flatten(1)))
        return self.b(y) + self.c(y)

    def make() -> dict[str, nn.Module]:
        return {"a": nn.Linear(108, 4), "b": nn.Linear(4, 1), "c": nn.Linear(4, 1)}

    x = images()
    assert torch.equal(analytic_kernel(Forward(forward, **make()))(x), analytic_kernel(Forward(explicit, **make()))(x))


@pytest.mark.parametrize(
    ("alias", "changes"),
    [
        (lambda y: y.flatten(1), True),
        (lambda y: y.contiguous(), True),
        (lambda y: F.dropout(y, 0.5, training=False), True),
        (lambda y: y.clone(), False),
    ],
)
def test_an_in_place_activation_changes_what_shares_its_memory_and_no_more(alias, changes):
    """As torch itself does, which the values of the finite network show."""

    def forward(self, x):
        y = self.a(x.flatten(1))
        z = alias(y)
        z.relu_()
        return self.b(y) + self.c(z)

    def explicit(self, x):
        y = self.a(x.flatten(1))
        return self.b(F.relu(y) if changes else y) + self.c(F.relu(y))

    def make() -> dict[str, nn.Module]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return {"a": nn.Linear(108, 4), "b": nn.Linear(4, 1), "c": nn.Linear(4, 1)}

    x, written, expected = images(), Forward(forward, **make()), Forward(explicit, **make())
    assert torch.equal(written(x.float()), expected(x.float()))
    assert torch.equal(analytic_kernel(written)(x), analytic_kernel(expected)(x))


def test_standard_deviations_by_layer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.ReLU(), nn.Linear(4, 1))
    x = images()
    one = analytic_kernel(net, w_std={"1": 1.0, "3": 2.0}, b_std=0.0)(x)
    torch.testing.assert_close(one, analytic_kernel(net, w_std=2**0.5, b_std=0.0)(x), rtol=1e-12, atol=0)
    with pytest.raises(InputError, match="no value for the layer `3`"):
        analytic_kernel(net, w_std={"1": 1.0})


def test_the_graph_prints_as_a_table():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, stride=2), nn.ELU(0.5), *list(plain())[4:])
    table = str(analytic_kernel(net).graph((3, 6, 6)))
    assert "Conv 3x3, stride 2, padding 1" in table
    assert "elu(alpha=0.5), series of degree 128" in table
    assert " ReLU " in str(analytic_kernel(plain()).graph((3, 6, 6)))
    assert "global AvgPool" in table
    assert "w_std 1.414 and b_std 0.1 in every layer." in table
    assert max(len(line) for line in table.splitlines()) <= 100


def _flat(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 4), *middle, nn.Linear(4, 2))


def _shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.ReLU(), layer, nn.ReLU(), layer)


def through(function) -> nn.Module:
    """A network that applies the function to its hidden layer."""
    return Forward(lambda s, x: s.b(function(s.a(x.flatten(1)))), a=nn.Linear(108, 4), b=nn.Linear(4, 2))


REFUSED = {
    "max pooling": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)),
        "AvgPool2d in its place",
    ),
    "channels last": (
        Forward(lambda s, x: s.b(s.a(x).permute(0, 2, 3, 1).flatten(1)), a=nn.Conv2d(3, 4, 3), b=nn.Linear(64, 2)),
        "channels must stay before positions",
    ),
    "softmax": (nn.Sequential(_flat(nn.ReLU()), nn.Softmax(1)), "takes the logits"),
    "activation of the data": (
        nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(108, 2)),
        "must follow a layer with weights",
    ),
    "two activations in a row": (_flat(nn.ReLU(), nn.ReLU()), "must follow a layer with weights"),
    "activation at the end": (nn.Sequential(nn.Flatten(), nn.Linear(108, 2), nn.ReLU()), "end the network in a Linear"),
    "shared weights": (_shared(), "shared weights correlate"),
    "a sum with itself": (
        Forward(lambda s, x: s.a(x.flatten(1)) * 1 + s.a(x.flatten(1)) * 0, a=nn.Linear(108, 2)),
        "used before",
    ),
    "correlated branches": (
        Forward(lambda s, x: (lambda y: y + 2 * y)(s.a(x.flatten(1))), a=nn.Linear(108, 2)),
        "share a layer's output",
    ),
    "skip over an activation": (
        Forward(lambda s, x: (lambda y: s.b(F.relu(y) + y))(s.a(x.flatten(1))), a=nn.Linear(108, 4), b=nn.Linear(4, 1)),
        "share a layer's output",
    ),
    "a sum of two activations": (
        Forward(
            lambda s, x: s.c(F.relu(s.a(x.flatten(1))) + F.relu(s.b(x.flatten(1)))),
            a=nn.Linear(108, 4),
            b=nn.Linear(108, 4),
            c=nn.Linear(4, 1),
        ),
        "whose means correlate them",
    ),
    "a product of branches": (
        Forward(lambda s, x: s.a(x.flatten(1)) * s.b(x.flatten(1)), a=nn.Linear(108, 2), b=nn.Linear(108, 2)),
        "only products with a plain number have a rule; an elementwise function .* nl.activation",
    ),
    "a branch on the values": (
        Forward(lambda s, x: s.a(x.flatten(1)) if x.flatten(1).sum() > 0 else x, a=nn.Linear(108, 2)),
        "no infinite-width rule",
    ),
    "a function without a rule": (
        Forward(lambda s, x: s.b(torch.cumsum(s.a(x.flatten(1)), 1)), a=nn.Linear(108, 4), b=nn.Linear(4, 1)),
        "cumsum: no rule is known for it in ntklens, though theory may have one",
    ),
    "a value in the forward": (through(lambda h: h * float(h)), "float.*depends on the values of the input"),
    "values outside torch": (through(lambda h: torch.from_numpy(h.numpy())), "numpy: .*depends on the values"),
    "a function of integers": (
        nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2)),
        "embedding: no rule is known for it",
    ),
    "a function of another shape": (
        nn.Sequential(nn.Conv3d(3, 2, 3), nn.Linear(3, 2)),
        "conv3d: no rule is known for it",
    ),
    "a transposed convolution": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Flatten(), nn.Linear(144, 1)),
        "conv_transpose2d: no rule is known for it",
    ),
    "a norm of groups": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(64, 1)),
        "over channels and positions",
    ),
    "a norm of squares": (
        nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.RMSNorm(4), nn.Linear(4, 1)),
        "rms_norm: no rule is known for it",
    ),
    "arguments without a rule": (
        through(lambda h: torch.add(h, h, out=h)),
        "no infinite-width rule with these arguments",
    ),
    "a root": (through(lambda h: h**0.5), "only whole exponents from 0 on have a rule.*got 0.5"),
    "an assignment": (through(lambda h: h.__setitem__(0, 1.0) or h), "assigning to a tensor or to some of its entries"),
    "an assignment of an input": (
        through(lambda h: torch.zeros(2, 4).__setitem__(slice(None), h) or h),
        "assigning to a tensor",
    ),
    "an assignment to the data": (through(lambda h: setattr(h, "data", h) or h), "assigning to a tensor"),
    "positions at the end": (nn.Sequential(nn.Conv2d(3, 2, 3)), "still has positions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_construction_with_the_reason(name):
    net, reason = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=reason):
        analytic_kernel(net)(images())


def test_a_refusal_names_the_place_and_the_way_out():
    with pytest.raises(UnsupportedLayer, match=r"`1` \(MaxPool2d\)") as caught:
        analytic_kernel(REFUSED["max pooling"][0])
    assert "input -> 0 -> 1" in str(caught.value)
    assert "empirical_kernel" in str(caught.value)


def test_a_shape_that_the_forward_refuses_is_told_with_torchs_reason():
    with pytest.raises(InputError, match=r"does not accept inputs of shape \(n, 4, 6, 6\): .*channels"):
        analytic_kernel(plain())(torch.zeros(1, 4, 6, 6))


def test_a_module_with_several_outputs_is_refused():
    net = Forward(lambda s, x: (s.a(x.flatten(1)), x), a=nn.Linear(108, 2))
    with pytest.raises(InputError, match="expected a model that returns one tensor"):
        analytic_kernel(net)


def test_layers_that_the_output_does_not_read_are_left_out():
    def forward(self, x):
        self.unused(x)
        return self.out(F.relu(self.c1(x)).mean((2, 3)))

    unused = Forward(forward, unused=nn.Conv2d(3, 2, 3), **layers())
    graph = analytic_kernel(unused).graph((3, 6, 6))
    assert [node.path for node in graph.nodes] == ["", "c1", "", "", "out"]


def test_lazy_layers_are_asked_to_run_once():
    with pytest.raises(InputError, match="Run the network once"):
        analytic_kernel(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)))(images())


FOREIGN = {
    "identity shortcut after an activation": (foreign.ResNet, (3, 8, 8), "1x1 convolution on the shortcut"),
    "mixer": (foreign.Mixer, (3, 16, 16), "dense layers over patches or tokens have no rule"),
    "bare matrices": (foreign.ByHand, (1, 4, 4), "a weight must be that of a Linear or Conv layer"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_networks_of_others_are_refused_with_what_to_do(name):
    make, shape, message = FOREIGN[name]
    with pytest.raises(UnsupportedLayer, match=message) as error:
        analytic_kernel(make().eval())(torch.zeros(2, *shape))
    assert "nl.empirical_kernel(module), on the command line `--kernel empirical`" in str(error.value)


def _view_changed_input_read(self, x):
    y = self.c1(x)
    y.view(len(y), -1).relu_()
    return self.head(y.flatten(1))


def _input_changed_view_read(self, x):
    y = self.c1(x)
    flat = y.flatten(1)
    F.relu_(y)
    return self.head(flat)


def _view_changed_view_read(self, x):
    flat = self.c1(x).view(len(x), -1)
    return self.head(F.relu_(flat))


@pytest.mark.parametrize("forward", [_view_changed_input_read, _input_changed_view_read])
def test_a_tensor_that_is_changed_through_a_view_of_another_shape_is_refused(forward):
    net = Forward(forward, c1=nn.Conv2d(1, 4, 3), head=nn.Linear(36, 1))
    with pytest.raises(UnsupportedLayer, match="changed through a view of another shape"):
        analytic_kernel(net).graph((1, 5, 5))


def test_a_view_that_is_changed_and_read_itself_is_understood():
    net = Forward(_view_changed_view_read, c1=nn.Conv2d(1, 4, 3), head=nn.Linear(36, 1))
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))
    x = torch.rand(3, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(analytic_kernel(net)(x), analytic_kernel(plain)(x), rtol=1e-13, atol=0)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, lambda: nn.LeakyReLU(0.1)])
def test_an_activation_after_a_flattening_acts_on_each_position(activation):
    x = torch.rand(4, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    after = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), activation(), nn.Linear(36, 1))
    before = nn.Sequential(nn.Conv2d(1, 4, 3), activation(), nn.Flatten(), nn.Linear(36, 1))
    torch.testing.assert_close(analytic_kernel(after)(x), analytic_kernel(before)(x), rtol=1e-13, atol=0)


def test_an_activation_that_reads_features_of_several_positions_indirectly_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LayerNorm(36), nn.ReLU(), nn.Linear(36, 1))
    with pytest.raises(UnsupportedLayer, match="put the activation before the flattening"):
        analytic_kernel(net).graph((1, 5, 5))


def test_a_dense_layer_after_a_flattening_ends_the_memory_of_positions():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))
    assert analytic_kernel(net)(torch.rand(2, 1, 5, 5)).shape == (2, 2)


class _Looks(nn.Module):
    """A forward that fails as libraries do: on inputs with another number of axes, or when it looks for a value."""

    def __init__(self, error: type[Exception], *, on_values: bool) -> None:
        super().__init__()
        self.layer, self.error, self.on_values = nn.Linear(9, 1), error, on_values

    def forward(self, x):
        if type(x) is not torch.Tensor if self.on_values else x.ndim != 4:
            raise self.error("of the forward")
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("error", [KeyError, AttributeError, ZeroDivisionError, AssertionError])
def test_a_forward_may_raise_anything(error):
    kernel = analytic_kernel(_Looks(error, on_values=False))  # the first guess of a shape, (n, 9), fails
    assert kernel(torch.rand(2, 1, 3, 3)).shape == (2, 2)
    with pytest.raises(UnsupportedLayer, match=r"cannot be traced without values.*of the forward"):
        analytic_kernel(_Looks(error, on_values=True))(torch.rand(2, 1, 3, 3))
