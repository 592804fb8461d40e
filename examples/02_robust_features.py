"""Step 2: find out which features of the data are useful, which are robust, and what keeping only the first ones does.

Each eigenvector of the kernel matrix is a predictor of its own, a feature. Features are numbered by their eigenvalue, the
largest first. Run it with `python examples/02_robust_features.py` (a few seconds).
"""

import ntklens as nl
from ntklens.attacks import accuracy
from ntklens.networks import build

EPS = 8 / 255


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
    x, y = data.test.x, data.test.y

    # `build` gives networks by name: fc1 has one hidden layer. One output is enough for two classes.
    network = build("fc1", data.shape, 1)
    machine = nl.KernelMachine(nl.analytic_kernel(network)).fit(data.train.x, data.train.y)
    features = nl.eigenfeatures(machine)

    # Usefulness: the accuracy of one feature alone. Robustness: its accuracy when the feature itself is attacked.
    indices = [0, 1, 5, 50, 200]
    useful = features.usefulness(x, y, indices)
    robust = features.robustness(x, y, EPS, indices)
    for i in indices:
        print(f"feature {i:3}: alone {useful[i]}, under attack {robust[i]}")

    # A machine of the first k features alone. More features raise the clean accuracy and lower the robust one.
    for k in (10, 50, 200, len(features)):
        first = features.keep(range(k))
        x_adv = nl.fgsm(first, x, y, EPS)
        print(f"first {k:3}: clean {accuracy(first, x, y)}, attacked {accuracy(first, x_adv, y)}")


if __name__ == "__main__":
    main()
