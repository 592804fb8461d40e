"""A fitted machine as a torch module and as a classifier of scikit-learn: saved, moved, copied, searched."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import ntklens as nl


def batch(n=20, seed=0):
    x = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x.sum(1) > 2).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


KERNELS = {
    "rbf": nl.RBFKernel(),
    "analytic": nl.analytic_kernel(network()),
    "empirical": nl.empirical_kernel(network()),
}


@pytest.fixture(params=KERNELS)
def machine(request):
    return nl.KernelMachine(KERNELS[request.param], nl.Ridge(1e-3)).fit(*batch())


def empty(machine):
    return nl.KernelMachine(machine.kernel, machine.filter)


def loaded(machine):
    other = empty(machine)
    assert str(other.load_state_dict(machine.state_dict())) == "<All keys matched successfully>"
    return other


def inside(machine):
    parent = nn.Sequential(empty(machine))
    parent.load_state_dict(nn.Sequential(machine).state_dict())
    return parent


def over_another(machine):
    other = nl.KernelMachine(machine.kernel, machine.filter).fit(*batch(20, 1))
    other(batch()[0])  # its function is computed, and forgotten when another state comes
    other.load_state_dict(machine.state_dict())
    return other


WAYS = {
    "load_state_dict": loaded,
    "inside a module": inside,
    "over another": over_another,
    "deepcopy": copy.deepcopy,
    # As worker processes of other libraries copy objects; these bytes were made a moment before, from no file.
    "pickle": lambda machine: pickle.loads(pickle.dumps(machine)),
    "half": lambda machine: copy.deepcopy(machine).half(),
    "float inside a module": lambda machine: nn.Sequential(copy.deepcopy(machine)).float(),
    "cpu": lambda machine: copy.deepcopy(machine).to("cpu"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_by_any_way_gives_the_same_outputs(machine, way):
    x = batch(7, 3)[0]
    torch.testing.assert_close(WAYS[way](machine)(x), machine(x), rtol=0, atol=0)


def test_half_precision_keeps_the_buffers_and_follows_the_images(machine):
    x = batch(7, 3)[0]
    half = copy.deepcopy(machine).half()
    assert half.coefficients.dtype == torch.float64
    torch.testing.assert_close(half(x.half()), machine(x.half().float()).half(), rtol=0, atol=2e-3)


def test_a_machine_leaves_its_device_with_all_that_it_holds(machine):
    assert len(machine.factorisation.spectrum.eigenvalues) == 20
    moved = copy.deepcopy(machine).to("meta")
    assert moved.factorisation.matrix.device.type == moved.coefficients.device.type == "meta"
    with pytest.raises(nl.InputError, match="expected x on meta, where the machine is; got it on cpu"):
        moved(batch()[0])


def test_a_state_of_another_kernel_or_filter_is_refused(machine):
    state = machine.state_dict()
    with pytest.raises(nl.InputError, match="expected the filter that the state was saved with, Ridge"):
        nl.KernelMachine(machine.kernel, nl.Ridge(0.5)).load_state_dict(state)
    with pytest.raises(nl.InputError, match="expected the kernel that the state was saved with"):
        nl.KernelMachine(nl.LinearKernel(), machine.filter).load_state_dict(state)
    with pytest.raises(nl.InputError, match="got one without coefficients, description, probe"):
        empty(machine).load_state_dict({name: state[name] for name in ("train_inputs", "targets")})


def test_a_state_that_is_loaded_leaves_machines_of_other_filters_alone(machine):
    x = batch(7, 3)[0]
    other = machine.refilter(nl.GradientFlow(3.0))
    before = other(x)
    machine.load_state_dict(nl.KernelMachine(machine.kernel, machine.filter).fit(*batch(20, 1)).state_dict())
    assert torch.equal(other(x), before)


def test_a_fit_that_fails_leaves_the_machine_as_it_was(machine, untyped):
    x, y = batch()
    before = machine(x)
    for bad_x, bad_y in ((x * torch.nan, y), (x[:, 0], y), (x, y[:3]), (x, y * 0)):
        with pytest.raises(nl.InputError, match="expected"):
            machine.fit(bad_x, bad_y)
        assert torch.equal(machine(x), before)


def test_coefficients_that_change_in_place_change_the_outputs(machine):
    x = batch(7, 3)[0]
    before = machine(x)
    machine.coefficients.mul_(2)
    torch.testing.assert_close(machine(x), 2 * before)


def test_the_filter_of_a_fitted_machine_is_not_assigned(machine):
    with pytest.raises(nl.InputError, match=r"Call machine\.refilter"):
        machine.filter = nl.Ridge(1.0)


def test_a_matrix_that_is_not_finite_is_told_with_its_inputs():
    class Broken(nl.Kernel):
        def __call__(self, x1, x2=None):
            return torch.full((len(x1), len(x1 if x2 is None else x2)), torch.nan)

        def gradient(self, x1, x2, weights):
            return x1

    with pytest.raises(nl.NumericalFailure, match="inputs 0 and 0 is nan"):
        nl.KernelMachine(Broken()).fit(*batch())


def test_scikit_learn_clones_and_searches(untyped):
    x, y = (t.numpy() for t in batch(40))
    machine = nl.KernelMachine(nl.RBFKernel(), nl.Ridge(1e-3))
    assert is_classifier(machine)
    assert not clone(machine.fit(x, y)).is_fitted
    assert clone(machine).filter == machine.filter
    assert machine.classes_.tolist() == [0, 1]
    pipeline = make_pipeline(FunctionTransformer(lambda a: a / 2), machine).fit(x, y)
    assert pipeline.score(x, y) > 0.9
    np.testing.assert_array_equal(pipeline.predict(x), machine.fit(x / 2, y).predict(x / 2))
    scores = cross_val_score(machine, x, y, cv=4)
    by_hand = [machine.fit(np.delete(x, f, 0), np.delete(y, f)).score(x[f], y[f]) for f in _folds(machine, x, y)]
    np.testing.assert_allclose(scores, by_hand)
    search = GridSearchCV(machine, {"filter": [nl.Ridge(1e-3), nl.Ridge(1e3)]}, cv=4, scoring="accuracy").fit(x, y)
    means = [
        cross_val_score(clone(machine).set_params(filter=g), x, y, cv=4).mean() for g in search.param_grid["filter"]
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], means)
    assert search.score(x, y) == search.best_estimator_.score(x, y)


def _folds(machine, x, y):
    from sklearn.model_selection import check_cv

    return [test for _, test in check_cv(4, y, classifier=True).split(x, y)]


def test_parameters_that_change_forget_the_fit(machine):
    with pytest.raises(nl.InputError, match="expected parameters among kernel, filter, arithmetic; got ridge"):
        machine.set_params(ridge=1.0)
    assert machine.is_fitted
    assert not machine.set_params(filter=nl.Ridge(1.0)).is_fitted
    assert machine.filter == nl.Ridge(1.0)


def test_arrays_are_taken_and_labels_in_a_column_refused(machine, untyped):
    x, y = batch()
    again = nl.KernelMachine(machine.kernel, machine.filter).fit(x.numpy(), y.tolist())
    assert torch.equal(again.coefficients, machine.coefficients)
    assert torch.equal(machine.predict(x.numpy()), machine.predict(x))
    assert machine.score(x.numpy(), y.numpy()) == machine.score(x, y)
    for labels, message in ((y[:, None], "column"), (torch.tensor(1), "20 class indices"), (y + 1, "from 0 to 1")):
        with pytest.raises(nl.InputError, match=message):
            machine.score(x, labels)
    assert machine(x[:0]).shape == (0, 2)
    with pytest.raises(nl.InputError, match="at least one input to score"):
        machine.score(x[:0], y[:0])
