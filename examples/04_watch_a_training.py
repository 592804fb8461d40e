"""Step 4: watch how the tangent kernel of a network moves under standard and under adversarial training.

Run it with `python examples/04_watch_a_training.py` (about ten seconds).
"""

import torch

import ntklens as nl
from ntklens.dynamics import advice
from ntklens.networks import build, train

EPS = 8 / 255
NOISE = 0.01  # a settled kernel that still moves by this or more per epoch is told to be moved by noise


def one_step(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Attack a batch; a training that is given this function trains on its result."""
    return nl.fgsm(network, x, y, EPS)


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", train=800, test=60)
    torch.manual_seed(0)
    network = build("small-cnn", data.shape, 10, width=16)

    for name, attack in (("standard", None), ("one-step", one_step)):
        # The tracker measures the kernel on its own 60 images. With `attack` it also compares the tangents of attacked
        # images with those of the clean ones, which is how one-step training is seen to break down.
        tracker = nl.KernelTracker(data.test.x, data.test.y, attack=one_step)
        train(
            network,
            data.train.x,
            data.train.y,
            epochs=6,
            batch_size=50,
            learning_rate=0.02,
            attack=attack,
            generator=torch.Generator().manual_seed(0),
            on_epoch=lambda epoch, trained, loss, tracker=tracker: tracker.record(trained, epoch, loss=loss),
        )
        print(f"{name} training")
        # `moved` is the kernel distance to the epoch before; the first row has none and says nan.
        for row in tracker.rows():
            print(
                f"  epoch {row['epoch']:.0f}: moved {row['velocity']:.3f}, top 10 hold {100 * row['concentration']:.2f} % "
                f"of the spectrum, right on {100 * row['probe_accuracy']:.0f} %"
            )
        # What the records mean, in words.
        for advised in advice(tracker.rows(), NOISE, tracker.distance()):
            print(f"  {advised.text}")


if __name__ == "__main__":
    main()
