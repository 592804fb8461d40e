"""ntklens: see, attack and explain the adversarial robustness of a network through its tangent kernel.

Data flows one way, and each stage is usable alone: data, kernel, machine, attacks, features and dynamics, report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ntklens.attacks import (
        AttackResult,
        Check,
        Threat,
        accuracy,
        attack,
        diagnose,
        evaluate,
        fgsm,
        noise,
        pgd,
        square,
    )
    from ntklens.audits import BackdoorAudit, UnlearnableAudit, backdoor_audit, unlearnable_audit
    from ntklens.certificates import (
        Certificates,
        CollectiveFlips,
        FilterChoice,
        LabelFlips,
        Smoothed,
        certified_fit,
        certify,
        choose_filter,
        collective_flips,
        label_flips,
        smooth,
    )
    from ntklens.data import Dataset, load_dataset
    from ntklens.dynamics import KernelTracker
    from ntklens.errors import InputError, NtklensError, NumericalFailure, UnsupportedLayer
    from ntklens.features import FeatureScores, NTKFeatures
    from ntklens.features.eigenfeatures import eigenfeatures  # mypy would take the module for the function
    from ntklens.kernels import (
        AnalyticKernel,
        EmpiricalKernel,
        Kernel,
        LinearKernel,
        NNGPKernel,
        Parametrisation,
        RBFKernel,
        activation,
        analytic_kernel,
        empirical_kernel,
    )
    from ntklens.linalg import (
        Band,
        ClusterHome,
        CrossEntropy,
        Filter,
        GradientDescent,
        GradientFlow,
        MemoryHome,
        Ridge,
        StoreHome,
    )
    from ntklens.machine import KernelMachine
    from ntklens.networks import linearize, load_network, ntk_parametrize
    from ntklens.statistics import Estimate
    from ntklens.transfer import surrogate

    __version__: str
else:
    # `import ntklens` loads nothing; a public name loads its module when it is first used (PEP 562). The command line
    # therefore shows a help page without importing torch. A type checker reads the imports above instead, and so still
    # reports a name that does not exist.
    import importlib

    _MODULE_OF = {
        "AnalyticKernel": "kernels",
        "AttackResult": "attacks",
        "BackdoorAudit": "audits",
        "Band": "linalg",
        "Certificates": "certificates",
        "Check": "attacks",
        "ClusterHome": "linalg",
        "CollectiveFlips": "certificates",
        "CrossEntropy": "linalg",
        "Dataset": "data",
        "EmpiricalKernel": "kernels",
        "Estimate": "statistics",
        "FeatureScores": "features",
        "Filter": "linalg",
        "FilterChoice": "certificates",
        "GradientDescent": "linalg",
        "GradientFlow": "linalg",
        "InputError": "errors",
        "Kernel": "kernels",
        "KernelMachine": "machine",
        "KernelTracker": "dynamics",
        "LabelFlips": "certificates",
        "LinearKernel": "kernels",
        "MemoryHome": "linalg",
        "NNGPKernel": "kernels",
        "NTKFeatures": "features",
        "NtklensError": "errors",
        "NumericalFailure": "errors",
        "Parametrisation": "kernels",
        "RBFKernel": "kernels",
        "Ridge": "linalg",
        "Smoothed": "certificates",
        "StoreHome": "linalg",
        "Threat": "attacks",
        "UnlearnableAudit": "audits",
        "UnsupportedLayer": "errors",
        "accuracy": "attacks",
        "activation": "kernels",
        "analytic_kernel": "kernels",
        "attack": "attacks",
        "backdoor_audit": "audits",
        "certified_fit": "certificates",
        "certify": "certificates",
        "choose_filter": "certificates",
        "collective_flips": "certificates",
        "diagnose": "attacks",
        "eigenfeatures": "features",
        "empirical_kernel": "kernels",
        "evaluate": "attacks",
        "fgsm": "attacks",
        "label_flips": "certificates",
        "linearize": "networks",
        "load_dataset": "data",
        "load_network": "networks",
        "noise": "attacks",
        "ntk_parametrize": "networks",
        "pgd": "attacks",
        "smooth": "certificates",
        "square": "attacks",
        "surrogate": "transfer",
        "unlearnable_audit": "audits",
    }
    """The module of each public name."""

    _SUBMODULES = {*_MODULE_OF.values(), "record", "report", "study"}
    """Submodules that `ntklens.NAME` loads, as in `ntklens.attacks.accuracy`."""

    def __getattr__(name: str) -> object:
        """Load a public name, a submodule or the version when it is first used."""
        if name in _MODULE_OF:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        elif name in _SUBMODULES:
            value = importlib.import_module(f"{__name__}.{name}")
        elif name == "__version__":
            value = importlib.import_module("importlib.metadata").version(__name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value  # the next use finds it without this function
        return value

    def __dir__() -> list[str]:
        """List the public names, loaded or not."""
        return sorted({*globals(), *__all__, *_SUBMODULES, "__version__"})


__all__ = [
    "AnalyticKernel",
    "AttackResult",
    "BackdoorAudit",
    "Band",
    "Certificates",
    "Check",
    "ClusterHome",
    "CollectiveFlips",
    "CrossEntropy",
    "Dataset",
    "EmpiricalKernel",
    "Estimate",
    "FeatureScores",
    "Filter",
    "FilterChoice",
    "GradientDescent",
    "GradientFlow",
    "InputError",
    "Kernel",
    "KernelMachine",
    "KernelTracker",
    "LabelFlips",
    "LinearKernel",
    "MemoryHome",
    "NNGPKernel",
    "NTKFeatures",
    "NtklensError",
    "NumericalFailure",
    "Parametrisation",
    "RBFKernel",
    "Ridge",
    "Smoothed",
    "StoreHome",
    "Threat",
    "UnlearnableAudit",
    "UnsupportedLayer",
    "accuracy",
    "activation",
    "analytic_kernel",
    "attack",
    "backdoor_audit",
    "certified_fit",
    "certify",
    "choose_filter",
    "collective_flips",
    "diagnose",
    "eigenfeatures",
    "empirical_kernel",
    "evaluate",
    "fgsm",
    "label_flips",
    "linearize",
    "load_dataset",
    "load_network",
    "noise",
    "ntk_parametrize",
    "pgd",
    "smooth",
    "square",
    "surrogate",
    "unlearnable_audit",
]
