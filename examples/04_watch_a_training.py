"""Standard and adversarial training of one network, its tangent kernel measured after every epoch."""

import torch

import ntklens as nl
from ntklens.dynamics import advice
from ntklens.networks import build, train

EPS = 8 / 255


def one_step(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nl.fgsm(network, x, y, EPS)


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", train=800, test=60)
    torch.manual_seed(0)
    network = build("small-cnn", data.shape, 10, width=16)
    for name, attack in (("standard", None), ("one-step", one_step)):
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
        for row in tracker.rows():
            print(
                f"  epoch {row['epoch']:.0f}: moved {row['velocity']:.3f}, top 10 hold {100 * row['concentration']:.2f} % "
                f"of the spectrum, right on {100 * row['probe_accuracy']:.0f} %"
            )
        for found in advice(tracker.rows(), 0.01, tracker.distance()):
            print(f"  {found.text}")


if __name__ == "__main__":
    main()
