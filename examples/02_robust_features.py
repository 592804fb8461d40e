"""Which features of the data are useful, which are robust, and what keeping only the first ones does."""

import ntklens as nl
from ntklens.attacks import accuracy
from ntklens.networks import build

EPS = 8 / 255


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
    x, y = data.test.x, data.test.y
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 1))).fit(data.train.x, data.train.y)
    features = nl.eigenfeatures(machine)
    indices = [0, 1, 5, 50, 200]
    useful, robust = features.usefulness(x, y, indices), features.robustness(x, y, EPS, indices)
    for i in indices:
        print(f"feature {i:3}: alone {useful[i]}, under attack {robust[i]}")
    for k in (10, 50, 200, len(features)):
        kept = features.keep(range(k))
        print(f"first {k:3}: clean {accuracy(kept, x, y)}, attacked {accuracy(kept, nl.fgsm(kept, x, y, EPS), y)}")


if __name__ == "__main__":
    main()
