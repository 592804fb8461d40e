"""Audits of training data on Fashion-MNIST, for kernel machines and for finite networks.

Run it with `python -m benchmarks.audits FOLDER [unlearnable] [backdoor] [shortcut]` (ten minutes in one thread): the
folder with the data sets' files, and which of the three; all by default. FC-1 kernel with biases. Networks are trained
for 60 epochs by SGD at a rate of 0.05 in batches of 64: a dense one of width 512 and `small-cnn` of width 64, three
seeds (0, 1, 2) each. Intervals are of 95 %, those of networks over seeds and images.

`unlearnable` perturbs 1,000 training images of ten classes by at most 16/255, guided by the next 1,000, for the machine
that is stopped at 64 / λ_1, in 8 steps; it scores machines of five filters and the networks on the first 2,000 test
images.

`backdoor` adds triggered images of T-shirts (0), labelled as shirts (6), to 500 training images of the two classes: a
white patch of 4 x 4 pixels in the bottom right corner. Candidates are the T-shirts among the next 1,000 images, and the
figures are of the 2,000 test images. Machines of three filters count the images that are needed, and networks are
trained with the images that the machine of all features has chosen.

`shortcut` puts a patch of 4 x 4 pixels and brightness 0.5 on training images (T-shirt against shirt, 1,000 images): on
the shirts, so that it goes with the class, but for a share that is the other way round; a half is the control, 0.95 the
shortcut. The machine has all features. The features to leave out are chosen on the first 1,000 test images; all figures
are of the other 1,000.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import ntklens as nl
from benchmarks.certificates import dense, pair
from benchmarks.common import cpu
from ntklens.audits import Patch, difference_over_seeds, share_over_seeds, trained_predictions
from ntklens.features import shortcut_audit
from ntklens.networks import build, seeded_network
from ntklens.statistics import Estimate, proportion

WIDTHS = {"fc1": 512, "small-cnn": 64}
SEEDS = 3


def say(*cells: object) -> None:
    """Print the cells of a row."""
    print(" | ".join(map(str, cells)), flush=True)


def cell(e: Estimate) -> str:
    """Write an estimate with its interval."""
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def builder(name: str, classes: int) -> Callable[[int], nn.Module]:
    """Return what makes a network with the initial weights of a seed."""
    return lambda seed: seeded_network(partial(build, name, (1, 28, 28), classes, width=WIDTHS[name]), seed)


def kernel() -> nl.AnalyticKernel:
    """Return the kernel of one hidden layer with biases."""
    return nl.analytic_kernel(dense(1, True))


def unlearnable(data: nl.Dataset) -> None:
    """Print what perturbed training images cost."""
    classes = tuple(range(10))
    x, y = pair(data.train, classes, 2000)
    tests, labels = pair(data.test, classes, 2000)
    machine = nl.KernelMachine(kernel(), nl.Ridge(1.0)).fit(x[:1000], y[:1000])
    largest = machine.factorisation.largest
    named = {
        "all features": nl.Ridge(0.0),
        "t = 1000 / λ_1": nl.GradientFlow(1000 / largest),
        "t = 64 / λ_1": nl.GradientFlow(64 / largest),
        "ridge 1e-2 λ_1": nl.Ridge(1e-2 * largest),
        "top 30": nl.Band(range(30)),
    }
    start = time.perf_counter()
    found = nl.unlearnable_audit(
        machine.refilter(named["t = 64 / λ_1"]),
        tests,
        labels,
        16 / 255,
        held_out=(x[1000:], y[1000:]),
        generator=torch.Generator().manual_seed(0),
        filters=list(named.values()),
        keep_images=True,
    )
    say(f"unlearnable: {time.perf_counter() - start:.0f} s; losses {', '.join(f'{loss:.3f}' for loss in found.losses)}")
    say("model", "clean", "noise", "perturbed", "noise - perturbed")
    for name, *estimates in zip(named, found.clean, found.noise, found.perturbed, found.cost, strict=True):
        say(name, *map(cell, estimates))
    for name in WIDTHS:
        right = []
        for images in (x[:1000], found.noisy, found.images):
            (predicted,) = trained_predictions(builder(name, 10), images, y[:1000], [tests], seeds=SEEDS)
            right.append(predicted == labels)
        shares = [cell(share_over_seeds(r)) for r in right]
        each = ", ".join(f"{value:.3f}" for value in right[2].double().mean(1).tolist())
        say(f"{name}, {WIDTHS[name]}", *shares, cell(difference_over_seeds(right[1], right[2])), f"by seed {each}")


def backdoor(data: nl.Dataset) -> None:
    """Print how many bad training images a backdoor needs."""
    x, y = pair(data.train, (0, 6), 1500)
    tests, labels = pair(data.test, (0, 6), 2000)
    candidates = x[500:][y[500:] == 0]
    whole = nl.KernelMachine(kernel()).fit(x[:500], y[:500])
    largest = whole.factorisation.largest
    named = {"all features": nl.Ridge(0.0), "ridge 1e-2 λ_1": nl.Ridge(1e-2 * largest), "top 10": nl.Band(range(10))}
    say("backdoor; model", "bad images", "success", "accuracy")
    chosen: tuple[int, ...] = ()
    for name, g in named.items():
        count = 10 if name == "all features" else 30
        start = time.perf_counter()
        found = nl.backdoor_audit(whole.refilter(g), Patch(), candidates, 1, tests, labels, count=count)
        chosen = chosen or found.chosen
        for bad in (0, 1, 2, 3, 5, 10, 20, 30):
            if bad <= count:
                say(name, bad, cell(found.success[bad]), cell(found.accuracy[bad]))
        say(name, f"needed for 90 %: {found.needed()}", f"{time.perf_counter() - start:.0f} s")
    for name in WIDTHS:
        for bad in (0, 1, 3, 10):
            images = torch.cat([x[:500], Patch()(candidates)[list(chosen[:bad])]])
            classes = torch.cat([y[:500], torch.ones(bad, dtype=y.dtype)])
            triggered = Patch()(tests[labels == 0])
            success, clean = trained_predictions(builder(name, 2), images, classes, [triggered, tests], seeds=SEEDS)
            each = ", ".join(f"{value:.3f}" for value in (success == 1).double().mean(1).tolist())
            estimates = share_over_seeds(success == 1), share_over_seeds(clean == labels)
            say(f"{name}, {WIDTHS[name]}", bad, *map(cell, estimates), f"by seed {each}")


def shortcut(data: nl.Dataset) -> None:
    """Print which features a planted patch acts through."""
    x, y = pair(data.train, (0, 6), 1000)
    tests, labels = pair(data.test, (0, 6), 2000)

    def with_patch(images: Tensor, where: Tensor) -> Tensor:
        return torch.where(where.bool()[:, None, None, None], Patch(brightness=0.5)(images), images)

    say(
        "shortcut; p",
        "aligned",
        "conflicting",
        "gap",
        "features (share)",
        "without the top three, aligned",
        "conflicting",
    )
    for p in (0.5, 0.95):
        agrees = torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < p
        patch = torch.where(agrees, y, 1 - y)
        machine = nl.KernelMachine(kernel()).fit(with_patch(x, patch), y)
        aligned, conflicting = with_patch(tests, labels), with_patch(tests, 1 - labels)
        half = slice(1000)
        chosen = shortcut_audit(machine, aligned[half], conflicting[half], labels[half], attribute=2.0 * patch - 1)
        rest = slice(1000, None)
        found = shortcut_audit(machine, aligned[rest], conflicting[rest], labels[rest], attribute=2.0 * patch - 1)

        def scores(
            of: nl.KernelMachine, rest: slice = rest, sets: tuple[Tensor, ...] = (aligned, conflicting)
        ) -> list[str]:
            right = [of.predict(images[rest]) == labels[rest] for images in sets]
            return [cell(proportion(int(r.sum()), len(r))) for r in right]

        shares = "none: the interval has 0 in it"
        if found.shares is not None:
            shares = ", ".join(
                f"{row['feature']} ({row['share']:.2f}; {row['aligned']:.3f} / {row['conflicting']:.3f}; "
                f"{row['attribute_energy']:.3f}, {row['label_energy']:.3f})"
                for row in found.rows(3)
            )
            shares += (
                f"; features 0 to 9 {float(found.shares[:10].sum()):.2f}, 0 to 49 {float(found.shares[:50].sum()):.2f}"
            )
        repaired = scores(chosen.without(3)) if chosen.has_gap else ["no feature is to blame"]
        say(
            p, *scores(machine), f"{found.gap.value:.3f} [{found.gap.low:.3f}, {found.gap.high:.3f}]", shares, *repaired
        )


def main() -> None:
    """Run those that were asked for."""
    folder, *works = sys.argv[1:]
    data = nl.load_dataset("fashion-mnist", data_dir=folder)
    say(f"{cpu()}, {torch.get_num_threads()} threads")
    for work in (shortcut, backdoor, unlearnable):
        if not works or work.__name__ in works:
            work(data)


if __name__ == "__main__":
    main()
