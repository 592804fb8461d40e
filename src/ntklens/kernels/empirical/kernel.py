"""The tangent kernel of a finite network at its current weights, as users hold it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ntklens.arguments import as_count, as_tensor, check_generator
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel, checked_weights
from ntklens.kernels.empirical.gradient import kernel_gradient
from ntklens.kernels.empirical.matrices import kernel_matrices
from ntklens.kernels.empirical.snapshot import Snapshot, check_mode, checked_inputs, described
from ntklens.kernels.empirical.weight_space import WeightSpaceExpansion, least_inputs, weight_space_expansion
from ntklens.kernels.expansion import Expansion
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.modules import copied_function, without_autocast
from ntklens.texts import shortened


class EmpiricalKernel(Kernel):
    """Θ(x, x')_ab = <∂f_a(x)/∂θ, ∂f_b(x')/∂θ> of a network as it is now (Jacot et al. 2018, eq. 4).

    Parameters and buffers are copied: training the network afterwards does not change the kernel. Only parameters that
    require a gradient count. Dense and convolutional layers, embeddings, and the gains and shifts of normalisations are
    taken without forming Jacobians, in the cheapest order of summation (Novak et al. 2022); so are layers that are called
    several times, and weights that several layers of one class share. Any other parameter is taken by its plain Jacobian:
    `plan` says which parameters those are.

    With `projections`, Jacobians are replaced by their products with k directions of random signs, which takes k
    forward-mode passes and n O k numbers however many parameters there are. The result is an unbiased estimate
    (Achlioptas 2003; Park et al. 2023, section 3). The variance of Θ_ab(x, x') is at most
    (Θ_aa(x, x) Θ_bb(x', x') + Θ_ab(x, x')²) / k, that of the trace
    Σ_ab (Θ_ab(x, x) Θ_ab(x', x') + Θ_ab(x, x') Θ_ba(x, x')) / (k O²); standard errors are the square roots.

    Args:
        module: the network, in eval mode where it has dropout or batch norm.
        outputs: "trace" (mean over outputs), "full" (n1, n2, O, O), or "pseudo" (gradient of the sum of the outputs
            over sqrt(O); Mohamadi et al. 2023).
        parametrisation: None takes the parameters as they are. A `Parametrisation`, or "ntk" for the one with the default
            standard deviations, scales the blocks of a network in torch's own parametrisation: in the kernel, weights by
            w_std²/fan_in and biases by b_std². With it, and with "standard", which scales nothing, the affine parameters
            of normalisation layers count as frozen, as in `ntk_parametrize`.
        memory_limit: bytes that tangents and their products may take beside the result.
        layerwise: False takes every parameter by its plain Jacobian, the slow way to the same result.
        projections: number k of random directions; None for the exact kernel.
        generator: draws the directions, once; by default a new one with seed 0. The result does not depend on batches.

    Raises:
        InputError: a layer is in training mode, no parameter requires a gradient, or there are fewer than one projections.
        UnsupportedLayer: a parametrisation is given and a layer has no rule in it.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> empirical_kernel(net)(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
        tensor([[1., 1.],
                [1., 5.]])
    """

    def __init__(
        self,
        module: nn.Module,
        outputs: str = "trace",
        parametrisation: Parametrisation | str | None = None,
        *,
        memory_limit: int = 1 << 30,
        layerwise: bool = True,
        projections: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if outputs not in ("trace", "full", "pseudo"):
            raise InputError(f'expected outputs "trace", "full" or "pseudo"; got "{outputs}".')
        if projections is not None:
            projections = as_count(projections, "projections")
        as_count(memory_limit, "memory_limit")
        check_generator(generator, optional=True)
        network = copied_function(module)
        check_mode(network)
        if parametrisation is not None:
            parametrisation = Parametrisation.of_module(network, parametrisation=parametrisation)
        trainable = [name for name, p in network.named_parameters() if p.requires_grad]
        scales = dict.fromkeys(trainable, 1.0) if parametrisation is None else parametrisation.scales(network)
        scales = {name: scales[name] for name in trainable if name in scales}
        if not scales:
            raise InputError(
                "expected a network with a parameter that requires a gradient; got none, so its tangent kernel is zero."
            )
        self.outputs = outputs
        self.parametrisation = parametrisation
        self.memory_limit = memory_limit
        self.layerwise = layerwise
        self.projections = projections
        self._snapshot = Snapshot(
            network,
            scales,
            outputs=outputs,
            memory_limit=memory_limit,
            layerwise=layerwise,
            seeds=None if projections is None else _direction_seeds(projections, generator),
        )

    @without_autocast
    def __call__(
        self,
        x1: Shaped[Tensor, "n1 *shape1"],
        x2: Shaped[Tensor, "n2 *shape2"] | None = None,
        kind: str = "ntk",
    ) -> Float[Tensor, "n1 n2"] | Float[Tensor, "n1 n2 O O"]:
        """Compute the matrix (n1, n2), or (n1, n2, O, O) for full outputs.

        Without x2 it is the kernel of x1 with itself, which is exactly symmetric. Inputs may be integers (tokens) where
        the network takes them; the kernel then has the network's precision.

        Args:
            x1: (n1, *shape).
            x2: (n2, *shape); x1 by default.
            kind: "ntk", the one kernel that a finite network has.

        Raises:
            InputError: inputs of two shapes, no inputs, or a dtype that the network does not take; outputs that are not
                (n, O), or that depend on chance or on the rest of the batch; another kind.
        """
        if not isinstance(kind, str) or kind != "ntk":
            raise InputError(
                f'expected kind="ntk" for the kernel of one finite network; got {kind!r}. The NNGP is a covariance over '
                'draws of the weights: analytic_kernel(module)(x1, x2, kind="nngp").'
            )
        a, b = checked_inputs(x1, x2)
        return kernel_matrices(self._snapshot, a, None if x2 is None else b, per_layer=False)[""]

    @without_autocast
    def per_layer(self, x1: Tensor, x2: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the kernel of each layer's parameters, by the names that `plan` gives; their sum is the kernel.

        Raises:
            InputError: as when the kernel is called, and with projections, which mix the layers.
        """
        if self.projections is not None:
            raise InputError(
                "expected an exact kernel; got random projections, which mix the layers. Leave out projections=."
            )
        a, b = checked_inputs(x1, x2)
        return kernel_matrices(self._snapshot, a, None if x2 is None else b, per_layer=True)

    @without_autocast
    def plan(self, x: Tensor) -> dict[str, str]:
        """Return how each layer or parameter is taken for inputs like those of x.

        - "Conv2d, structured": without forming its Jacobian;
        - "Jacobian": by its Jacobian, which is computed for all images at once and compared with plain autograd;
        - "Jacobian, one image and output at a time": by plain autograd alone, since torch cannot batch an operation of the
          network, or batches it wrongly;
        - "unused, zero": the outputs do not depend on it.

        A weight that several modules share, or that is trained without its bias, has its own name.
        """
        a, _ = checked_inputs(x, None)
        with torch.inference_mode(False):
            plan = self._snapshot.plan(a)
        ways = {name: f"{layer.layer_class.__name__}, structured" for name, layer in plan.layers.items()}
        for name in plan.rest:
            ways[name] = "Jacobian"
            if name in plan.one_by_one:
                ways[name] = "Jacobian, one image and output at a time"
            if name in plan.unused:
                ways[name] = "unused, zero"
        return ways

    @without_autocast
    def gradient(self, x1: Tensor, x2: Tensor, weights: Float[Tensor, "n1 n2"]) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), in the shape of x1, keeping no graph.

        Raises:
            InputError: full outputs, inputs of integers, or weights that do not fit the inputs.
        """
        if self.outputs == "full":
            raise InputError('expected a kernel with one value per pair; got outputs="full". Use "trace" or "pseudo".')
        a, b = checked_inputs(x1, as_tensor(x2, "x2"))
        if not a.is_floating_point():
            raise InputError(f"expected x1 as inputs of floating point for a gradient; got {described(a)}.")
        return kernel_gradient(self._snapshot, a, b, checked_weights(weights, a, b))

    @without_autocast
    def expansion(self, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype) -> Expansion:
        """Return the function Σ_j Θ(x, z_j) A_j: by directions in weight space, or through the kernel's matrix.

        The cost of directions does not grow with the number of z.

        Args:
            z: (m, *shape) in float64.
            coefficients: (m, k) in float64.
            arithmetic: dtype in which the function is evaluated.

        Returns:
            The function; through the kernel's matrix where the kernel is full, has embeddings, its O k directions exceed
            the memory limit, or z are so few that the matrix takes fewer multiplications (`least_inputs`). The latter is
            for float64 alone: in float32 the large coefficients have to cancel in the directions.
        """
        function = None
        if arithmetic != torch.float64 or len(z) >= self.least_inputs(z, coefficients.shape[1]):
            function = self.in_weight_space(z, coefficients, arithmetic)
        return super().expansion(z, coefficients, arithmetic) if function is None else function

    @without_autocast
    def in_weight_space(self, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype) -> WeightSpaceExpansion | None:
        """Return the function of `expansion` by directions in weight space, however few the z; None where it has none."""
        if self.outputs == "full" or not z.is_floating_point():
            return None
        return weight_space_expansion(self._snapshot, checked_inputs(z, None)[0], coefficients, arithmetic)

    @without_autocast
    def least_inputs(self, z: Tensor, columns: int) -> int:
        """Return the number of z from which directions in weight space with k columns cost less than the kernel's matrix.

        Args:
            z: (m, *shape), of which the first is looked at.
            columns: k.
        """
        if self.outputs == "full" or not z.is_floating_point():
            return 0
        return least_inputs(self._snapshot, checked_inputs(z, None)[0], columns)

    def identity(self) -> str:
        """Return the class of the network and the options, by which a file tells this kernel from others."""
        projections = "" if self.projections is None else f", projections={self.projections}"
        return f"EmpiricalKernel({type(self._snapshot.network).__name__}, outputs={self.outputs!r}{projections})"

    def __repr__(self) -> str:
        network = type(self._snapshot.network).__name__
        return self.identity().replace(network, shortened(network, 30), 1)


empirical_kernel = EmpiricalKernel


def _direction_seeds(count: int, generator: torch.Generator | None) -> list[int]:
    """Draw one seed per random direction."""
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    return [int(seed) for seed in torch.randint(2**62, (count,), generator=generator, device=generator.device)]
