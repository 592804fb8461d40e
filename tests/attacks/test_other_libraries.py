"""pyautoattack and ART attack a kernel machine as it is; our attacks run on a model of foolbox."""

import logging
import warnings

import pytest
import torch

import ntklens as nl
from ntklens.networks import build

EPS = 8 / 255


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=[0, 2, 4]).first(150, 60)


@pytest.fixture(scope="module")
def machine(data):
    return nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 3))).fit(data.train.x, data.train.y).eval()


def share_right(model, x, y) -> float:
    return float((model.predict(x) == y).double().mean())


def test_autopgd_of_pyautoattack(machine, data):
    library = pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    x, y = data.test.x, data.test.y
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    made = library.AutoAttack(machine, norm="Linf", eps=EPS, version="custom", attacks=["apgd-ce"], seed=0)
    made.verbose, made.apgd.n_iter, made.apgd.n_restarts = False, 10, 1
    result = made.run_standard_evaluation(x, y, batch_size=60)
    theirs = result[0] if isinstance(result, tuple) else result
    assert float((theirs - x).abs().max()) <= EPS + 1e-6
    ours = nl.pgd(machine, x, y, EPS, steps=10)
    assert share_right(machine, theirs, y) < share_right(machine, x, y) - 0.1
    assert share_right(machine, ours, y) == pytest.approx(share_right(machine, theirs, y), abs=0.05)


@pytest.mark.filterwarnings("ignore")
def test_one_step_and_pgd_of_art(machine, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed")
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier
    x, y = data.test.x, data.test.y
    wrapped = PyTorchClassifier(
        machine, torch.nn.CrossEntropyLoss(), data.shape, 3, clip_values=(0, 1), device_type="cpu"
    )
    step = torch.from_numpy(FastGradientMethod(wrapped, eps=EPS).generate(x.numpy(), y.numpy()))
    assert float(((nl.fgsm(machine, x, y, EPS) - step).abs() < 1e-6).double().mean()) > 0.99
    attack = ProjectedGradientDescent(wrapped, eps=EPS, eps_step=EPS / 4, max_iter=10, verbose=False)
    theirs = torch.from_numpy(attack.generate(x.numpy(), y.numpy()))
    ours = nl.pgd(machine, x, y, EPS, steps=10, step_size=EPS / 4)
    assert share_right(machine, ours, y) == pytest.approx(share_right(machine, theirs, y), abs=0.05)


def test_our_attack_on_a_model_of_foolbox(machine, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    x, y = data.test.x, data.test.y
    theirs = foolbox.PyTorchModel(machine, bounds=(0, 1), device="cpu")
    torch.testing.assert_close(nl.fgsm(theirs, x, y, EPS), nl.fgsm(machine, x, y, EPS))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_of_pyautoattack(machine, data, norm):
    """Two random searches of one schedule, on images that the machine gets right: as many fooled within chance."""
    library = pytest.importorskip("pyautoattack.square", reason="pyautoattack is not installed")
    keep = machine.predict(data.test.x) == data.test.y
    x, y, eps = data.test.x[keep], data.test.y[keep], {"linf": EPS / 2, "l2": 0.8}[norm]
    left: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        left["ours"].append(share_right(machine, nl.square(machine, x, y, eps, norm, queries=300, generator=g), y))
        name = {"linf": "Linf", "l2": "L2"}[norm]
        search = library.SquareAttack(machine, norm=name, n_queries=300, eps=eps, seed=seed, device="cpu")
        left["theirs"].append(share_right(machine, search.perturb(x, y), y))
    ours, theirs = (sum(values) / 3 for values in left.values())
    assert 0.1 < theirs < 0.9
    assert ours == pytest.approx(theirs, abs=0.08), left
