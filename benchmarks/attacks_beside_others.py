"""Compare PGD with foolbox and pyautoattack: robust accuracy and seconds, on a trained network and on a kernel machine.

Run it with `python -m benchmarks.attacks_beside_others` (minutes): a thousand test images of Fashion-MNIST (the embedded
subset), ten classes, at ε = 8/255 in linf and ε = 1 in l2. Steps and step sizes are the same; the libraries take turns,
and seconds are medians.

Measured on 2026-11-23 at or before commit 2978875 (processor not noted): PGD of foolbox and ours leave the same accuracy
to 0.2 points.
"""

import logging
import warnings

import torch
from torch import nn

import ntklens as nl
from benchmarks.common import cpu, medians
from ntklens.attacks import accuracy, attack
from ntklens.networks import build, train

# Both libraries warn while they are imported; that is not what is measured.
warnings.simplefilter("ignore")
import foolbox  # noqa: E402
from pyautoattack import AutoAttack  # noqa: E402

STEPS = 20
RUNS = 3
BATCH = 250


def models(data: nl.Dataset) -> dict[str, nn.Module]:
    """Return a trained convolutional network, and a kernel machine of an untrained dense one."""
    options = {"epochs": 12, "batch_size": 64, "learning_rate": 0.05, "generator": torch.Generator().manual_seed(0)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = build("small-cnn", data.shape, 10)
    network = train(start, data.train.x, data.train.y, **options)
    kernel = nl.analytic_kernel(build("fc3", data.shape, 10))
    machine = nl.KernelMachine(kernel).fit(data.train.x[:1000], data.train.y[:1000])
    return {"trained network": network.eval(), "kernel machine": machine.eval()}


def compare(model: nn.Module, x: torch.Tensor, y: torch.Tensor, norm: str, eps: float) -> None:
    """Print one line per library."""
    # foolbox takes the step in pixels; 2.5 ε / steps is our default, said aloud for both.
    step = 2.5 * eps / STEPS
    foolbox_attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    foolbox_pgd = foolbox_attack(steps=STEPS, abs_stepsize=step, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    auto = AutoAttack(
        model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, version="custom", attacks=["apgd-ce"], seed=0
    )
    auto.verbose = False
    auto.apgd.n_iter = STEPS
    auto.apgd.n_restarts = 1

    def run_foolbox() -> torch.Tensor:
        batches = zip(x.split(BATCH), y.split(BATCH), strict=True)
        return torch.cat([foolbox_pgd(wrapped, images, labels, epsilons=eps)[1] for images, labels in batches])

    works = {
        "ntklens PGD": lambda: nl.pgd(model, x, y, eps, norm, STEPS, step, batch_size=BATCH),
        "foolbox PGD": run_foolbox,
        "pyautoattack APGD": lambda: auto.run_standard_evaluation(x, y, batch_size=BATCH),
        "ntklens PGD, early stop": lambda: nl.pgd(
            model, x, y, eps, norm, STEPS, step, batch_size=BATCH, early_stop=True
        ),
    }
    seconds = medians(*works.values(), runs=RUNS)
    for (name, work), time in zip(works.items(), seconds, strict=True):
        answer = work()
        x_adv = answer[0] if isinstance(answer, tuple) else answer  # pyautoattack returns the labels as well
        robust = accuracy(model, x_adv, y)
        print(f"    {norm:5}{name:26}{robust!s:24}{time:8.2f} s{time / seconds[0]:8.2f}", flush=True)


def main() -> None:
    """Compare on both models in both norms, and print what the Square attack finds in addition."""
    logging.disable(logging.INFO)
    data = nl.load_dataset("fashion-mnist-mini")
    x, y = data.test.x, data.test.y
    print(f"{cpu()}, {torch.get_num_threads()} threads; {len(x)} images, {STEPS} steps; last column: time over ours")
    for name, model in models(data).items():
        print(f"{name}: clean {accuracy(model, x, y)}")
        for norm, eps in (("linf", 8 / 255), ("l2", 1.0)):
            compare(model, x, y, norm, eps)
        search = attack(model, x, y, 8 / 255, "square", queries=200, generator=torch.Generator().manual_seed(0))
        print(f"    linf ntklens Square, 200 queries {search.robust_accuracy}, {search.queries} queries")


if __name__ == "__main__":
    main()
