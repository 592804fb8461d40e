"""PGD here beside foolbox and pyautoattack: robust accuracy and seconds on a trained network and on a kernel machine.

`python -m benchmarks.attacks_beside_others`: a thousand test images of Fashion-MNIST (the embedded subset), ten classes, at
ε = 8/255 in linf and 1 in l2. Steps and step sizes are the same; the libraries take turns, and seconds are medians.
"""

import logging
import warnings

import torch
from torch import nn

import ntklens as nl
from benchmarks.__main__ import cpu, medians
from ntklens.attacks import accuracy, attack
from ntklens.networks import build, train

warnings.simplefilter("ignore")
import foolbox  # noqa: E402
from pyautoattack import AutoAttack  # noqa: E402

STEPS = 20
RUNS = 3


def models(data: nl.Dataset) -> dict[str, nn.Module]:
    """A trained convolutional network, and the machine of an untrained one."""
    options = {"epochs": 12, "batch_size": 64, "learning_rate": 0.05, "generator": torch.Generator().manual_seed(0)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = build("small-cnn", data.shape, 10)
    network = train(start, data.train.x, data.train.y, **options)
    kernel = nl.analytic_kernel(build("fc3", data.shape, 10))
    machine = nl.KernelMachine(kernel).fit(data.train.x[:1000], data.train.y[:1000])
    return {"trained network": network.eval(), "kernel machine": machine.eval()}


def compare(model: nn.Module, x: torch.Tensor, y: torch.Tensor, norm: str, eps: float) -> None:
    """One line a library."""
    step = 2.5 * eps / STEPS
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    made = theirs(steps=STEPS, abs_stepsize=step, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    auto = AutoAttack(
        model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, version="custom", attacks=["apgd-ce"], seed=0
    )
    auto.verbose, auto.apgd.n_iter, auto.apgd.n_restarts = False, STEPS, 1
    works = {
        "ntklens PGD": lambda: nl.pgd(model, x, y, eps, norm, STEPS, step, batch_size=250),
        "foolbox PGD": lambda: torch.cat(
            [made(wrapped, a, b, epsilons=eps)[1] for a, b in zip(x.split(250), y.split(250), strict=True)]
        ),
        "pyautoattack APGD": lambda: auto.run_standard_evaluation(x, y, batch_size=250),
        "ntklens PGD, early stop": lambda: nl.pgd(model, x, y, eps, norm, STEPS, step, batch_size=250, early_stop=True),
    }
    seconds = medians(*works.values(), runs=RUNS)
    for (name, work), time in zip(works.items(), seconds, strict=True):
        found = work()
        robust = accuracy(model, found[0] if isinstance(found, tuple) else found, y)
        print(f"    {norm:5}{name:26}{robust!s:24}{time:8.2f} s{time / seconds[0]:8.2f}", flush=True)


def main() -> None:
    """Both models, both norms, and what Square adds."""
    logging.disable(logging.INFO)
    data = nl.load_dataset("fashion-mnist-mini")
    x, y = data.test.x, data.test.y
    print(f"{cpu()}, {torch.get_num_threads()} threads; {len(x)} images, {STEPS} steps; last column: time over ours")
    for name, model in models(data).items():
        print(f"{name}: clean {accuracy(model, x, y)}")
        for norm, eps in (("linf", 8 / 255), ("l2", 1.0)):
            compare(model, x, y, norm, eps)
        searched = attack(model, x, y, 8 / 255, "square", queries=200, generator=torch.Generator().manual_seed(0))
        print(f"    linf ntklens Square, 200 queries {searched.robust_accuracy}, {searched.queries} queries")


if __name__ == "__main__":
    main()
