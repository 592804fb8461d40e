"""Arguments of public functions: read where there is one way to read them, and else refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from ntklens import LinearKernel, analytic_kernel, arguments
from ntklens.errors import InputError


@pytest.mark.parametrize(
    "value",
    [
        np.eye(3, dtype=np.float32),
        np.eye(3, dtype=">f4"),
        np.eye(3, dtype=np.float32)[::-1, ::-1],
        np.asfortranarray(np.eye(3, dtype=np.float32)),
        np.eye(3).tolist(),
        list(torch.eye(3)),
        torch.eye(3),
    ],
    ids=["array", "big endian", "negative strides", "columns first", "list", "list of tensors", "tensor"],
)
def test_one_batch_in_every_form(value):
    assert torch.equal(arguments.as_images(value), torch.eye(3))


def test_memory_that_cannot_be_written_is_copied():
    x = np.eye(3)
    x.setflags(write=False)
    read = arguments.as_images(x)
    read += 1
    assert x[0, 1] == 0


@pytest.mark.parametrize(
    "value", [[0, 2, 1], np.array([0, 2, 1], np.uint16), np.array([0, 2, 1], ">i4"), torch.tensor([0, 2, 1])]
)
def test_class_indices_in_every_form(value):
    y = arguments.as_classes(value, 3)
    assert y.dtype == torch.int64
    assert y.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3, 2).long(), "expected x as floating-point pixels .* Divide by 255 first"),
        (torch.zeros(3), r"expected x as a batch .* got shape \(3,\)\. Give one input as x\[None\]"),
        (
            torch.tensor([[0.0, 1.0], [torch.nan, 1.0]]),
            r"x without NaN and infinite values; got nan at x\[1, 0\]\. Leave",
        ),
        (torch.tensor([[0.0, torch.inf], [-torch.inf, 1.0]]), r"got inf at x\[0, 1\], the first of 2"),
        (torch.eye(2).to_sparse(), "dense tensor"),
        (np.array([["a"]]), "expected x as numbers"),
        ("images", "torch tensor or a numpy array; got str"),
        (None, "torch tensor or a numpy array; got NoneType"),
        ([[1.0], [1.0, 2.0]], "images of one shape"),
    ],
    ids=str,
)
def test_what_is_no_batch_of_images(value, message):
    with pytest.raises(InputError, match=message):
        arguments.as_images(value)


def test_values_whose_sum_overflows_are_finite():
    assert arguments.check_finite(torch.full((2, 2), 3e38), "x") == pytest.approx(3e38)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([[0], [1], [0]]), r"got a column \(3, 1\)\. Pass y\.flatten\(\)"),
        (torch.tensor([0, 1]), r"expected y as 3 class indices, .* got torch.int64 of shape \(2,\)"),
        (torch.tensor([0.0, 1.0, 0.0]), "got torch.float32"),
        (torch.tensor([True, False, True]), "got torch.bool"),
        (np.array(["cat", "dog", "cat"]), "expected y as numbers"),
        (torch.tensor(1), r"of shape \(\)"),
    ],
)
def test_what_are_no_class_indices(value, message):
    with pytest.raises(InputError, match=message):
        arguments.as_classes(value, 3)


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), np.array([0.5]), 0.5])
def test_one_number_in_every_form_is_a_plain_one(value):
    assert repr(arguments.as_number(value, "ridge")) == "0.5"


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), [1.0], torch.ones(2), 1j])
def test_what_is_no_number(value):
    with pytest.raises(InputError, match="expected ridge as a number; got"):
        arguments.as_number(value, "ridge")


@pytest.mark.parametrize("value", [0, -1, 2.0, 2.5, "3", None, True])
def test_what_is_no_count(value):
    with pytest.raises(InputError, match="expected steps as a whole number of 1 or more; got"):
        arguments.as_count(value, "steps")
    assert arguments.as_count(np.int64(3), "steps") == 3


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.grad, torch.func.hessian, torch.func.jacfwd])
def test_a_transform_of_torch_func_is_refused_with_what_to_call(transform):
    kernel = LinearKernel()
    z = torch.eye(3, dtype=torch.float64)
    for call in (lambda x: kernel(x, z).sum(), lambda x: kernel.diagonal(x).sum()):
        with pytest.raises(InputError, match=r"transform of torch\.func .* torch\.autograd\.functional\.jacobian"):
            transform(call)(z)


def test_vmap_is_refused_with_what_to_pass():
    x = torch.eye(3)
    with pytest.raises(InputError, match="Pass the whole batch"):
        torch.vmap(lambda one: LinearKernel()(one[None], x))(x)


def test_a_number_that_requires_a_gradient_is_refused_since_it_would_be_dropped():
    with pytest.raises(InputError, match=r"expected w_std as a plain number; .* Pass w_std\.detach\(\)"):
        arguments.as_number(torch.tensor(1.4, requires_grad=True), "w_std")
    assert arguments.as_number(torch.tensor(1.5), "w_std") == 1.5


def test_values_that_are_not_finite_are_found_among_many(monkeypatch):
    monkeypatch.setattr(arguments, "_MANY", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x = torch.ones(70, 3)
    x[0], x[1] = 3e38, -3e38
    arguments.check_finite(x, "x")
    x[69, 2] = torch.nan
    with pytest.raises(InputError, match=r"got nan at x\[69, 2\]"):
        arguments.check_finite(x, "x")


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e16), (torch.float64, 1e70)])
def test_inputs_whose_kernels_overflow_are_refused(dtype, most):
    x = torch.ones(3, 4, dtype=dtype)
    x[2, 1] = -1.01 * most
    with pytest.raises(
        InputError, match=r"expected z of values up to 1e\+\d\d in torch.float\d\d, .* Scale the inputs"
    ):
        arguments.as_images(x, "z")
    x[2] = 0.99 * most
    arguments.as_images(x, "z")
    kernel = analytic_kernel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)))
    assert kernel(x, x).isfinite().all()
