"""How often C7 and C8 are seen where nothing is: pairs of trainings that differ in the order of their batches alone.

Each seed trains one network twice on clean images, with two orders. Then claims are judged on draws of four seeds, of which
each pair is exchanged at random. With `--seeds 12` the trainings take about three minutes on two cores.

    python -m benchmarks.false_alarms_dynamics --seeds 12 --draws 200

Printed: C7 and C8 seen in 0 % and contradicted in 0 % of 200 draws; over all 12 pairs the ratio of settling epochs is 1.03
[0.94, 1.12], that of effective ranks 1.00 [0.97, 1.03].
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import ntklens as nl
from ntklens.networks import build, train
from ntklens.statistics import mean
from ntklens.study.claims.ratio import MARGIN, Ratio
from ntklens.vocabulary import CANNOT_TELL, CONTRADICTED, SEEN

EPOCHS, BATCH, RATE, IMAGES, PROBE = 40, 100, 0.1, 2000, 100


def settled(data: nl.Dataset, seed: int, order: int) -> tuple[float, float]:
    """Return the settling epoch and the effective rank at the end of one training on clean images."""
    torch.manual_seed(seed)
    network = build("small-cnn", data.shape, len(data.classes), width=32)
    tracker = nl.KernelTracker(data.test.x[:PROBE], data.test.y[:PROBE])
    train(
        network,
        data.train.x[:IMAGES],
        data.train.y[:IMAGES],
        epochs=EPOCHS,
        batch_size=BATCH,
        learning_rate=RATE,
        momentum=0.0,
        generator=torch.Generator().manual_seed(order),
        on_epoch=lambda epoch, trained, loss: tracker.record(trained, epoch),
    )
    epoch = tracker.settling().epoch
    return float("nan") if epoch is None else epoch, tracker.row()["centred_rank"]


def measured(seeds: int, file: Path | None) -> np.ndarray:
    """Return (seeds, 2 orders, 2 measures), from a file if there is one of as many seeds."""
    if file is not None and file.exists():
        known = np.load(file)
        if len(known) >= seeds:
            return np.asarray(known[:seeds])
    data = nl.load_dataset("fashion-mnist-mini")
    values = np.array([[settled(data, seed, order + 2 * seed) for order in (0, 1)] for seed in range(200, 200 + seeds)])
    if file is not None:
        np.save(file, values)
    return values


def main() -> None:
    """Train, draw and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="Seeds that are trained twice.")
    parser.add_argument("--draws", type=int, default=200, help="Draws of four pairs.")
    parser.add_argument("--file", type=Path, help="An .npy file that keeps what was measured.")
    options = parser.parse_args()
    values, rng = measured(options.seeds, options.file), np.random.default_rng(0)
    for name, column in (("C7, settling epoch", 0), ("C8, effective rank", 1)):
        pairs = values[:, :, column]
        logs = mean(np.log(pairs[:, 0] / pairs[:, 1]))
        words = []
        for _ in range(options.draws):
            drawn = pairs[rng.choice(len(pairs), 4, replace=False)]
            flipped = np.where(rng.random((4, 1)) < 0.5, drawn, drawn[:, ::-1])
            words.append(Ratio.over_seeds(name, [(float(a), float(b)) for a, b in flipped]).verdict)
        shares = ", ".join(
            f"{word} {100 * words.count(word) / len(words):.1f} %" for word in (SEEN, CONTRADICTED, CANNOT_TELL)
        )
        print(f"{name}: {shares} of {options.draws} draws of 4 pairs, margin {MARGIN}")
        print(
            f"  all {len(pairs)} pairs: ratio {np.exp(logs.value):.2f} [{np.exp(logs.low):.2f}, {np.exp(logs.high):.2f}]"
        )


if __name__ == "__main__":
    main()
