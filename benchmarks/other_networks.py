"""Networks by other authors, to try every command on: factories for `--arch`, `--victim` and lists of networks.

`pip install --no-deps pytorchcv`, then `python -m benchmarks.other_networks FOLDER [NAME ...]` trains them for five epochs
(Adam, 1e-3, seed 0) on the first 10,000 images of Fashion-MNIST, whose files lie in FOLDER, and writes NAME.pt. The table
of docs/my_resnet.md names this file nets.py. Measured on 2026-11-26 on the first 1,000 test images, one thread of a busy
AMD EPYC: resnet 86.5 % (37 s), preresnet 82.0 % (33 s), vgg 87.1 % (12 s), lstm 77.7 % (4 s), mlp 82.4 % (2 s).
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ntklens as nl


def resnet() -> nn.Module:
    """A ResNet of pytorchcv with BatchNorm, MaxPool2d and relu(x + f(x)); its pooling fits images of 28 x 28."""
    from pytorchcv.models.resnet import ResNet

    channels = [[16, 16], [32, 32]]
    network = ResNet(channels, 16, bottleneck=False, conv1_stride=True, in_channels=1, in_size=(28, 28), num_classes=10)
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return network


def preresnet() -> nn.Module:
    """A pre-activation ResNet of pytorchcv."""
    from pytorchcv.models.preresnet_cifar import CIFARPreResNet

    network = CIFARPreResNet([[8], [16], [32]], 8, bottleneck=False, in_channels=1, in_size=(28, 28), num_classes=10)
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return network


def vgg() -> nn.Module:
    """A VGG of pytorchcv with two stages and a smaller classifier."""
    from pytorchcv.models.vgg import VGG

    network = VGG([[16], [32]], use_bn=False, in_channels=1, in_size=(28, 28), num_classes=10)
    network.output = nn.Sequential(nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    return network


class Rows(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the state after the last row."""
        logits: Tensor = self.head(self.lstm(x.squeeze(1))[0][:, -1])
        return logits


def lstm() -> nn.Module:
    """The LSTM on rows."""
    return Rows()


def mlp() -> nn.Module:
    """Two hidden layers with GELU."""
    layers = [nn.Linear(784, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


FACTORIES = {function.__name__: function for function in (resnet, preresnet, vgg, lstm, mlp)}


def main() -> None:
    """Train the networks and print their accuracy."""
    torch.set_num_threads(1)
    data = nl.load_dataset("fashion-mnist", data_dir=sys.argv[1], train=10_000, test=1000)
    for name in sys.argv[2:] or FACTORIES:
        torch.manual_seed(0)
        network = FACTORIES[name]()
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        network.train()
        for _ in range(5):
            for batch in torch.randperm(len(data.train)).split(64):
                loss = F.cross_entropy(network(data.train.x[batch]), data.train.y[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        torch.save(network.eval().state_dict(), f"{name}.pt")
        print(name, nl.accuracy(network, data.test.x, data.test.y), flush=True)


if __name__ == "__main__":
    main()
