"""Machines that are made for the proof, beside others and beside adversarially trained networks.

Run it with `python -m benchmarks.certified_training FOLDER [TASK ...] [--splits 5] [--test 400]` (hours): the folder with
the data sets' files, and tasks such as `fashion-mnist:0,6@8/255`; all four by default.

Each split draws 1,000 training and 300 held-out images of the two classes from the training files, and takes test images
that no other split has. FC-1 with biases. Held-out images choose every ridge, number of features, iterate, learning rate
and epoch; Adv-NTK learns on them. After each split it prints, over all splits so far: accuracy clean, under PGD-40 on the
margin and proved, with Wilson's intervals over all images, mean seconds of the training or of the choice, and the paired
differences of certified training to every other method.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

import ntklens as nl
from benchmarks.common import cpu
from ntklens.certificates.adversarial import adversarial_flow, adversarial_ridge
from ntklens.data.dataset import Split as Images
from ntklens.networks import train
from ntklens.statistics import Estimate, paired_difference, proportion

TASKS = ("fashion-mnist:0,6@8/255", "fashion-mnist:2,4@8/255", "fashion-mnist:5,7@8/255", "mnist:4,9@0.1")
RIDGES = tuple(10.0 ** (-k / 2) for k in range(11))
TOPS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100)
POOLED_RIDGES = (1e-3, 1e-2)
RATES = (0.01, 0.05)
OURS = "certified training"


class Split:
    """Images of one split: training, held-out and test, in float64."""

    def __init__(self, data: nl.Dataset, classes: tuple[int, int], seed: int, test: int) -> None:
        x, y = self._of(data.train, classes)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        self.train = x[order[:1000]], y[order[:1000]]
        self.held_out = x[order[1000:1300]], y[order[1000:1300]]
        x, y = self._of(data.test, classes)
        own = slice(seed * test, (seed + 1) * test)
        self.test = x[own], y[own]
        if len(self.test[0]) < test:
            raise SystemExit(f"{len(x)} test images are too few for split {seed} of {test}; give a smaller --test.")

    @staticmethod
    def _of(split: Images, classes: tuple[int, int]) -> tuple[Tensor, Tensor]:
        chosen = torch.isin(split.y, torch.tensor(classes))
        return split.x[chosen].double(), (split.y[chosen] == classes[1]).long()


def attacked_share(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: float, steps: int = 10) -> float:
    """Return the share of images that are right under PGD on the margin."""
    return float(attacked(model, x, y, eps, steps)[1].double().mean())


def attacked(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: float, steps: int) -> tuple[Tensor, Tensor]:
    """Return on which images a model is right, and on which it stays right under PGD on the margin."""
    x_adv = nl.pgd(model, x, y, eps, steps=steps, loss="margin")
    with torch.no_grad():
        clean, after = (model(images).argmax(1) == y for images in (x, x_adv))
    return clean, clean & after


def adversarial_network(split: Split, eps: float, seed: int) -> nn.Module:
    """Train a network of width 512 on PGD-7 images; held-out images choose the learning rate and the epoch."""
    x, y = (split.train[0].float(), split.train[1])
    held, labels = split.held_out[0].float(), split.held_out[1]
    best: tuple[float, nn.Module | None] = (-1.0, None)
    for rate in RATES:
        torch.manual_seed(seed)
        start = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 2))

        def keep(epoch: int, network: nn.Module, loss: float) -> None:
            nonlocal best
            if epoch and epoch % 5 == 0:
                score = attacked_share(network, held, labels, eps)
                if score > best[0]:
                    copy = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 2))
                    copy.load_state_dict(network.state_dict())
                    best = score, copy.eval()

        train(
            start, x, y, epochs=40, batch_size=50, learning_rate=rate, on_epoch=keep,
            attack=lambda network, images, classes: nl.pgd(network, images, classes, eps, steps=7),
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
    assert best[1] is not None
    return best[1]


def machines(split: Split, eps: float, seed: int) -> Iterator[tuple[str, float, nl.KernelMachine]]:
    """Yield machines by name, with the seconds that each took beyond the factor of the kernel matrix."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1))
    whole = nl.KernelMachine(nl.analytic_kernel(network)).fit(*split.train)
    largest = whole.factorisation.largest

    def timed(make: Callable[[], nl.KernelMachine]) -> tuple[float, nl.KernelMachine]:
        start = time.perf_counter()
        machine = make()
        return time.perf_counter() - start, machine

    def pooled() -> nl.KernelMachine:
        found = [adversarial_ridge(whole, *split.train, eps, ridge=ridge) for ridge in POOLED_RIDGES]
        return max(found, key=lambda machine: attacked_share(machine, *split.held_out, eps))

    ridges = [nl.Ridge(share * largest) for share in RIDGES]
    tops = [nl.Band(range(k)) for k in TOPS]
    generator = torch.Generator().manual_seed(seed)
    yield "all features", 0.0, whole
    yield "best ridge", *timed(lambda: nl.choose_filter(whole, ridges, *split.held_out, eps).machine)
    yield "best number of features", *timed(lambda: nl.choose_filter(whole, tops, *split.held_out, eps).machine)
    yield "pooled adversarial ridge", *timed(pooled)
    yield "Adv-NTK", *timed(lambda: adversarial_flow(whole, *split.held_out, eps, generator=generator))
    yield OURS, *timed(lambda: nl.certified_fit(whole, *split.train, eps, held_out=split.held_out))


def told(outcomes: Tensor) -> str:
    """Write a share of images with its interval."""
    return written(proportion(int(outcomes.sum()), len(outcomes)))


def written(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]".replace("+", " ")


def run(folder: str, task: str, splits: int, test: int) -> None:
    """Print the figures of one task after each split."""
    where, eps_text = task.split("@")
    name, pair = where.split(":")
    first, second = map(int, pair.split(","))
    eps = float(Fraction(eps_text))
    data = nl.load_dataset(name, data_dir=Path(folder))
    found: dict[str, dict[str, list[Tensor]]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(splits):
        split = Split(data, (first, second), seed, test)
        for method, taken, machine in machines(split, eps, seed):
            proofs = nl.certify(machine, *split.test, eps)
            own = {"clean": proofs.clean, "PGD-40": proofs.attacked, "proved": proofs.certified}
            for column, outcome in own.items():
                found.setdefault(method, {}).setdefault(column, []).append(outcome)
            seconds.setdefault(method, []).append(taken)
        start = time.perf_counter()
        network = adversarial_network(split, eps, seed)
        seconds.setdefault("network of width 512", []).append(time.perf_counter() - start)
        right = attacked(network, split.test[0].float(), split.test[1], eps, 40)
        for column, outcome in zip(("clean", "PGD-40"), right, strict=True):
            found.setdefault("network of width 512", {}).setdefault(column, []).append(outcome)
        report(task, seed + 1, found, seconds)


def report(task: str, splits: int, found: dict[str, dict[str, list[Tensor]]], seconds: dict[str, list[float]]) -> None:
    """Print the figures over all splits so far."""
    joined = {method: {c: torch.cat(parts) for c, parts in columns.items()} for method, columns in found.items()}
    print(f"{task}, {splits} splits, {len(joined[OURS]['clean'])} test images", flush=True)
    for method, columns in joined.items():
        shares = " | ".join(f"{column} {told(outcome)}" for column, outcome in columns.items())
        print(f"  {method:25} {shares} | {sum(seconds[method]) / splits:.0f} s", flush=True)
    for method, columns in joined.items():
        if method != OURS:
            parts = [
                f"{column} {written(paired_difference(joined[OURS][column].numpy(), outcome.numpy()))}"
                for column, outcome in columns.items()
            ]
            print(f"  {OURS} minus {method}: {' | '.join(parts)}", flush=True)


def main() -> None:
    """Run the tasks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("tasks", nargs="*", default=TASKS)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--test", type=int, default=400)
    arguments = parser.parse_args()
    print(f"{cpu()}, {torch.get_num_threads()} threads", flush=True)
    for task in arguments.tasks:
        run(arguments.folder, task, arguments.splits, arguments.test)


if __name__ == "__main__":
    main()
