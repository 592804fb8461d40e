"""What public objects print as: one line of less than 100 columns, without the entries of tensors."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.attacks import diagnose
from ntklens.data import Split
from ntklens.features import Outcomes, ProjectedData
from ntklens.kernels.monte_carlo import Draws
from ntklens.linalg import Spectrum
from ntklens.statistics import proportion
from ntklens.transfer import Surrogate, TransferScore

N = 40
NAME = "a name that nobody would give to anything because it goes on and on and on and on and on and on"


class ANetworkWithANameThatIsAsLongAsNamesOfClassesCanBeInTheLargestOfCodeBases(nn.Sequential):
    pass


def images() -> torch.Tensor:
    return torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def labels() -> torch.Tensor:
    return torch.arange(N) % 2


def network() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)]
    return ANetworkWithANameThatIsAsLongAsNamesOfClassesCanBeInTheLargestOfCodeBases(*layers).eval()


def machine() -> nl.KernelMachine:
    return nl.KernelMachine(nl.analytic_kernel(network()), nl.Ridge(1e-3)).fit(images(), labels())


def tracker() -> nl.KernelTracker:
    made = nl.KernelTracker(images(), labels(), top_k=2)
    made.record(network(), 1)
    return made


def split() -> Split:
    return Split(images(), labels())


HALF = torch.arange(N) % 2 == 0
ESTIMATES = (proportion(1234, 10000),)
PUBLIC = {
    "BackdoorAudit": lambda: nl.BackdoorAudit(31 * ESTIMATES, 31 * ESTIMATES, (0,) * 30, 1, 60000),
    "UnlearnableAudit": lambda: nl.UnlearnableAudit(
        (nl.Ridge(0.0),),
        ESTIMATES,
        ESTIMATES,
        ESTIMATES,
        (proportion(0, 9),),
        (0.1,),
        16 / 255,
        60000,
        images(),
        images(),
    ),
    "Split": split,
    "Dataset": lambda: nl.Dataset(split(), split(), tuple(NAME + str(i) for i in range(30)), NAME),
    "NTKFeatures": lambda: nl.eigenfeatures(machine()),
    "FeatureScores": lambda: nl.eigenfeatures(machine()).usefulness(images(), labels()),
    "Outcomes": lambda: Outcomes(HALF.expand(3, N), HALF.expand(3, N)),
    "ProjectedData": lambda: ProjectedData(images(), torch.zeros(N, 1), labels(), 5, "labels"),
    "KernelMachine": machine,
    "a machine of chosen features": lambda: machine().refilter(nl.Band(range(30))),
    "AnalyticKernel": lambda: nl.analytic_kernel(network()),
    "a kernel of many layers": lambda: nl.analytic_kernel(network(), {"1": 1.123456789, "3": 1.987654321}),
    "EmpiricalKernel": lambda: nl.empirical_kernel(network()),
    "AttackResult": lambda: nl.attack(network(), images(), labels(), eps=0.1),
    "Evaluation": lambda: nl.evaluate(network(), images(), images(), labels(), eps=0.1),
    "Check": lambda: diagnose(network(), images(), labels(), 0.1, generator=torch.Generator(), steps=2, queries=2)[0],
    "KernelTracker": tracker,
    "Surrogate": lambda: Surrogate(NAME, network()),
    "TransferScore": lambda: TransferScore(proportion(3, N), proportion(1, N), HALF),
    "Spectrum": lambda: Spectrum(torch.rand(N), torch.rand(N, N)),
    "Factorisation": lambda: machine().factorisation,
    "Draws": lambda: Draws(torch.rand(3, N, N)),
    "Estimate": lambda: proportion(3, N),
    "Threat": lambda: nl.Threat(8 / 255, steps=10),
    "Parametrisation": nl.Parametrisation,
    "GradientFlow": lambda: nl.GradientFlow(time=50, learning_rate=1e-3),
    "RBFKernel": lambda: nl.RBFKernel(0.3),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_objects_print_on_one_short_line(name):
    text = repr(PUBLIC[name]())
    assert len(text) < 100
    assert "\n" not in text
    assert "tensor(" not in text
    assert " object at 0x" not in text
