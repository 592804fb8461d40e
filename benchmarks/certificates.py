"""Certificates beside attacks on Fashion-MNIST or MNIST: soundness, shares of images, and time.

Run it with `python -m benchmarks.certificates sound FOLDER`, `python -m benchmarks.certificates table FOLDER [TRAIN]
[TEST] [ten | PAIR ...]` (minutes to hours) or `python -m benchmarks.certificates flips FOLDER`: the folder with the data
sets' files.

`sound` sets every bound of many machines against the least margin that PGD-100 from three starts, 1,000 corners and 1,000
random points of the ball have: dense ReLU networks of one and three layers, with and without biases; all features, few, a
ridge; linf and l2, nine radii; test images, noise, a black image, a training image and one that is twice in the data. It
prints how many bounds lie above what was found, which has to be none.

`table` prints, for machines of several filters, the shares of test images that are right, right under PGD (40 steps on the
margin), and proved right by the first bound and by both, at 1, 2, 4 and 8/255, and the milliseconds of all three. PAIR is
two classes such as 0,6; `ten` takes all classes. FC-1 and FC-3 with biases.

`flips` prints the shares of test images whose right prediction no 0, 1, 2, 5, 10 or 20 changed training labels change, and
the median number of changes that do. For the first 200 images it prints what 5 and 10 changes leave of all of them together
(a linear program), beside the sum of the single certificates. T-shirt / shirt, FC-1, 1,000 training and 2,000 test images;
then the same for ten classes with 2,000 and 500, and the first 100.
"""

import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import ntklens as nl
from benchmarks.common import cpu
from ntklens.bounds import KernelBounds

EPS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
RADII = {"linf": (1 / 255, 4 / 255, 8 / 255, 0.1, 0.3), "l2": (0.1, 0.5, 1.0, 2.0)}


def dense(depth: int, bias: bool) -> nn.Module:
    """Return a network of hidden ReLU layers on flattened images."""
    layers: list[nn.Module] = [nn.Flatten()]
    for place in range(depth):
        layers += [nn.Linear(784 if place == 0 else 8, 8, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 1, bias=bias))


def pair(split: nl.Dataset, classes: tuple[int, ...], count: int) -> tuple[Tensor, Tensor]:
    """Return the first images of some classes, and the places of their classes."""
    chosen = torch.isin(split.y, torch.tensor(classes))
    y = split.y[chosen][:count]
    return split.x[chosen][:count], torch.stack([y == c for c in classes]).int().argmax(0)


def least_margin(machine: nl.KernelMachine, x: Tensor, y: Tensor, threat: nl.Threat) -> Tensor:
    """Return the least margin that PGD-100 from three starts, 1,000 corners and 1,000 points of the ball have."""
    g = torch.Generator().manual_seed(0)
    sign = (2.0 * y - 1).double()

    def margins(images: Tensor) -> Tensor:
        return machine.outputs(images)[:, 0].double() * sign

    least = margins(x)
    for restart in range(3):
        options = {"random_start": True, "generator": g} if restart else {}
        x_adv = nl.pgd(machine, x, y, threat.eps, threat.norm, steps=100, loss="margin", **options)
        least = torch.minimum(least, margins(x_adv))
    for _ in range(1000):
        corner = threat.project(x + threat.eps * (2.0 * torch.randint(0, 2, x.shape, generator=g) - 1).to(x), x)
        least = torch.minimum(least, torch.minimum(margins(corner), margins(threat.random_start(x, g))))
    return least


def filters(machine: nl.KernelMachine, tops: tuple[int, ...]) -> Iterator[tuple[str, nl.KernelMachine]]:
    """Yield machines of several filters by name."""
    features, largest = nl.eigenfeatures(machine), machine.factorisation.largest
    for top in tops:
        yield f"top {top}", features.keep(range(top))
    yield "ridge 1e-2 λ_1", machine.refilter(nl.Ridge(1e-2 * largest))
    yield "t = 1000 / λ_1", machine.refilter(nl.GradientFlow(1000 / largest))
    yield "all features", machine


def sound(folder: str) -> None:
    """Print the bounds that lie above what was found."""
    data = nl.load_dataset("fashion-mnist", data_dir=folder)
    x, y = pair(data.train, (0, 6), 300)
    x, y = torch.cat([x, x[5:6]]).double(), torch.cat([y, y[5:6]])
    tests, _ = pair(data.test, (0, 6), 4)
    noise = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.cat([tests.double(), noise, torch.zeros(1, 1, 28, 28).double(), x[:1], x[5:6]])
    total = above = 0
    for depth, b_std in ((1, 0.0), (1, 0.1), (3, 0.0), (3, 0.1), (5, 0.3)):
        kernel = nl.analytic_kernel(dense(depth, b_std > 0), b_std=b_std)
        whole = nl.KernelMachine(kernel, nl.Ridge(0.0)).fit(x, y)
        bounds = KernelBounds(kernel, whole.double_inputs)
        for name, machine in filters(whole, (10,)):
            predicted = machine.predict(images)
            column = machine.coefficients[:, 0]
            signs = 2.0 * predicted.double() - 1
            nearest = float("inf")
            for norm, radii in RADII.items():
                for eps in radii:
                    threat = nl.Threat(eps, norm)
                    found = least_margin(machine, images, predicted, threat)
                    both = bounds.linear(images, threat, torch.stack([column, -column], 1))
                    linear = torch.where(predicted == 1, both[:, 0], both[:, 1])
                    quadratic = bounds.quadratic(images, threat, column[:, None] * signs)
                    for bound in (linear, quadratic):
                        total += len(bound)
                        above += int((bound > found).sum())
                        nearest = min(nearest, float((found - bound).min()))
            print(
                f"depth {depth}, b_std {b_std}, {name}: {above} of {total} bounds above what was found; nearest "
                f"{nearest:.1e}",
                flush=True,
            )


def table(folder: str, train: int, test: int, tasks: list[str]) -> None:
    """Print the shares of images by machine and radius."""
    data = nl.load_dataset("fashion-mnist", data_dir=folder)
    print(f"{cpu()}, {torch.get_num_threads()} threads; n = {train}, {test} test images", flush=True)
    for task in tasks:
        classes = tuple(range(10)) if task == "ten" else tuple(map(int, task.split(",")))
        x, y = pair(data.train, classes, train)
        tests, labels = pair(data.test, classes, test)
        for depth in (1, 3):
            whole = nl.KernelMachine(nl.analytic_kernel(dense(depth, True))).fit(x, y)
            for name, machine in filters(whole, (10, 50)):
                cells = []
                for eps in EPS:
                    start = time.perf_counter()
                    found = nl.certify(machine, tests, labels, eps)
                    seconds = time.perf_counter() - start
                    first = float((found.tier == "linear").mean())
                    shares = (found.attacked_accuracy.value, first, found.certified_accuracy.value)
                    cells.append(" ".join(f"{share:.3f}" for share in shares))
                clean = found.clean_accuracy.value
                print(
                    f"{task:4} FC-{depth} {name:15} clean {clean:.3f} | " + " | ".join(cells) + f" | at 8/255 "
                    f"{1e3 * seconds / test:.0f} ms per image",
                    flush=True,
                )


def flips(folder: str) -> None:
    """Print what changed training labels leave."""
    data = nl.load_dataset("fashion-mnist", data_dir=folder)
    for classes, train, test in (((0, 6), 1000, 2000), (tuple(range(10)), 2000, 500)):
        x, y = pair(data.train, classes, train)
        tests, labels = pair(data.test, classes, test)
        whole = nl.KernelMachine(nl.analytic_kernel(dense(1, True))).fit(x, y)
        features, largest = nl.eigenfeatures(whole), whole.factorisation.largest
        machines = {
            "all features": whole,
            "ridge 1e-3 λ_1": whole.refilter(nl.Ridge(1e-3 * largest)),
            "t = 1000 / λ_1": whole.refilter(nl.GradientFlow(1000 / largest)),
            "top 100": features.keep(range(100)),
            "top 20": features.keep(range(20)),
        }
        print(f"{len(classes)} classes, {train} training and {len(labels)} test images", flush=True)
        for name, machine in machines.items():
            found = nl.label_flips(machine, tests)
            shares = " ".join(f"{found.accuracy(labels, r).value:.3f}" for r in (0, 1, 2, 5, 10, 20))
            right = found.needed[(found.predictions == labels) & (found.needed >= 0)]
            line = f"{name:15} {shares} | median {int(right.median())}"
            some = slice(0, 200 if len(classes) == 2 else 100)
            single = nl.label_flips(machine, tests[some])
            for r in (5, 10):
                start = time.perf_counter()
                together = nl.collective_flips(machine, tests[some], labels[some], r)
                seconds = time.perf_counter() - start
                alone = single.accuracy(labels[some], r).value
                line += f" | {r} changes: {together.certified_accuracy:.3f} beside {alone:.3f} ({seconds:.1f} s)"
            print(line, flush=True)


def main() -> None:
    """Run one of the three."""
    work, folder, *rest = sys.argv[1:]
    if work == "sound":
        sound(folder)
        return
    if work == "flips":
        flips(folder)
        return
    numbers = [int(a) for a in rest if a.isdecimal()]
    tasks = [a for a in rest if not a.isdecimal()] or ["0,6", "2,4", "5,7", "ten"]
    table(folder, *[*numbers, *(2000, 1000)[len(numbers) :]], tasks)


if __name__ == "__main__":
    main()
