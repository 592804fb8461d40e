"""Count how often the rules on features see what is not there, and how often what is.

Run it with `python -m benchmarks.false_alarms --runs 200`. Under the null of C3, C5 and C6 the labels of all images are
shuffled, so that no feature means anything; each run draws training images, test images and labels. Under the null of C4
the other kernel's features are random ones of the same spectrum, or those of a kernel that sees other images in the place
of these. The power is the share of runs in which the same rule, on as many images with their own labels and on two real
kernels, says "seen". It prints one line per claim and size; at most 5 % may be seen under a null.

Printed for pullover and coat with 150 training and 200 test images, 200 runs under each null: C3, C5 and C6 seen in 0 %
(contradicted in 24, 12 and 24 %), C4 in 0.5 % with random features of the same spectrum and in 0 % with a kernel that sees
other images. Power at that size: C3 and C6 67 % and C5 87 % of 30 runs, C4 between fc1 and fc3 100 % of 200.
With 1,200 training and 2,000 test images (`--runs 5 --power 5 --only labels`) 0 of 5 runs with shuffled labels see any of
C3, C5 and C6, and 5 of 5 with labels of their own see all three.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ntklens as nl
from ntklens.data import Dataset
from ntklens.features import (
    NTKFeatures,
    chance_of_outputs,
    common_spaces,
    feature_outputs,
    output_agreement,
    random_features,
)
from ntklens.networks import build
from ntklens.progress import Progress
from ntklens.record import Record, provenance
from ntklens.study import Spec
from ntklens.study.claims import claims
from ntklens.study.claims.base import decide
from ntklens.study.context import Context
from ntklens.study.stages.features.kept import first_features
from ntklens.vocabulary import SEEN

BY_HEAD_AND_TAIL = ("C3", "C5", "C6")
CLASSES = ["Pullover", "Coat"]


def verdicts(train: int, test: int, seed: int, *, shuffled: bool, whole: Dataset, steps: int = 10) -> dict[str, str]:
    """Judge C3, C5 and C6 on images and labels of one draw.

    Args:
        train: number of training images, drawn from all images.
        test: number of test images, drawn from the others.
        seed: of the draw of images, of the shuffle, and of the halves.
        shuffled: give every image the label of another one.
        whole: the images that are drawn from.
        steps: of PGD on head, tail and all features.
    """
    rng = np.random.default_rng(seed)
    x = torch.cat([whole.train.x, whole.test.x])
    y = torch.cat([whole.train.y, whole.test.y])
    chosen = rng.permutation(len(x))[: train + test]
    labels = y[chosen].numpy()
    if shuffled:
        rng.shuffle(labels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "drawn.npz"
        images = x[chosen].numpy()
        np.savez(file, x_train=images[:train], y_train=labels[:train], x_test=images[train:], y_test=labels[train:])
        attack = {"curve": [], "steps": steps}
        spec = Spec.parse({"seed": seed, "data": {"name": str(file)}, "attack": attack, "features": {"compare": []}})
        context = Context(spec)
        features = nl.eigenfeatures(context.machine)
        assert spec.features is not None
        tables = first_features(context, features, spec.features, Progress(None))
        record = Record.create(Path(folder) / "run", "alarms", "Alarms", {}, provenance(seed=seed, data="drawn"))
        # The scores of single features inform only, and C5 asks that there are some.
        record.add_stage("features", tables=tables | {"features": [{"index": 0, "robustness": 0.0}]})
        return {row["claim"]: row["verdict"] for row in claims(record)["claims"] if row["claim"] in BY_HEAD_AND_TAIL}


def of_outputs(train: int, test: int, seed: int, whole: Dataset, k: int = 20, draws: int = 100) -> dict[str, str]:
    """Judge C4 under both nulls and between two real kernels, on images of one draw.

    Args:
        train: number of training images.
        test: number of test images.
        seed: of all draws.
        whole: the images that are drawn from.
        k: number of features that are compared.
        draws: of chance.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.cat([whole.train.x, whole.test.x]).double(), torch.cat([whole.train.y, whole.test.y])
    chosen = torch.randperm(len(x), generator=generator)
    fitted, held_out = chosen[:train], chosen[train : train + test]

    def features(name: str, order: Tensor) -> NTKFeatures:
        kernel = nl.analytic_kernel(build(name, whole.shape, 1), w_std=2**0.5, b_std=0.1)
        return nl.eigenfeatures(nl.KernelMachine(kernel).fit(x[fitted][order], y[fitted]))

    def first_of(found: NTKFeatures, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return found.eigenvectors[:, :k], found.eigenvalues[:k], feature_outputs(found, at, k)

    same = torch.arange(train)
    one, two = features("fc1", same), features("fc3", same)
    at = x[held_out]
    drawn = random_features(one.eigenvalues[: one.rank], k, generator)
    arranged = (
        one.eigenvectors[:, : one.rank] @ drawn,
        two.eigenvalues[:k],
        feature_outputs(one, at, one.rank) @ drawn,
    )
    elsewhere = features("fc3", torch.randperm(train, generator=generator))
    others = {
        "random features of the same spectrum": arranged,
        "a kernel that sees other images": first_of(elsewhere, at[torch.randperm(test, generator=generator)]),
        "fc1 and fc3": first_of(two, at),
    }
    # All three have the spectrum of fc3, and so one chance.
    own, k_values = feature_outputs(one, at, one.rank), two.eigenvalues[:k]
    chance = chance_of_outputs(own, one.eigenvalues[: one.rank], k_values, draws, generator)
    margin = float(np.quantile(chance, 0.975))
    found = {}
    for name, (vectors, values, outputs) in others.items():
        spaces = common_spaces(one.eigenvectors[:, :k], vectors, one.eigenvalues[:k], values)
        found[name] = decide(output_agreement(own[:, :k], outputs, spaces, generator), margin)
    return found


def main() -> None:
    """Print the shares of verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="runs under each null")
    parser.add_argument("--power", type=int, default=20, help="runs with labels of their own")
    parser.add_argument("--train", type=int, default=150, help="training images of a run")
    parser.add_argument("--test", type=int, default=200, help="test images of a run")
    parser.add_argument("--only", choices=["labels", "outputs"], help="C3, C5 and C6 alone, or C4 alone")
    arguments = parser.parse_args()
    whole = nl.load_dataset("fashion-mnist-mini", classes=CLASSES)
    size = f"{arguments.train} training and {arguments.test} test images"
    start = time.perf_counter()
    if arguments.only != "outputs":
        for shuffled, runs in ((True, arguments.runs), (False, arguments.power)):
            found = [
                verdicts(arguments.train, arguments.test, seed, shuffled=shuffled, whole=whole) for seed in range(runs)
            ]
            for claim in BY_HEAD_AND_TAIL:
                _tell(f"{claim}, {'shuffled' if shuffled else 'own'} labels, {size}", [row[claim] for row in found])
    if arguments.only != "labels":
        agreed = [of_outputs(arguments.train, arguments.test, seed, whole) for seed in range(arguments.runs)]
        for name in agreed[0]:
            _tell(f"C4, {name}, {size}", [row[name] for row in agreed])
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes")


def _tell(name: str, found: list[str]) -> None:
    counts = Counter(found)
    print(f"{name}: seen {100 * counts[SEEN] / len(found):.1f} % of {len(found)} runs; {dict(counts)}", flush=True)


if __name__ == "__main__":
    main()
