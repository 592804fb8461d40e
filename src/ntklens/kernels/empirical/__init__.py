"""The tangent kernel of a finite network at its current weights: Θ(x, x') = <∂f(x)/∂θ, ∂f(x')/∂θ>.

The Jacobian of a whole batch is too large to form: it has n O numbers for every parameter. But the gradient in the weight
of a layer z = W h is an outer product δ ⊗ h of the layer's input h and of δ = ∂f/∂z, the cotangent of its output. The
kernel of that weight is then <h, h'> <δ, δ'>, which needs h and δ alone. So the kernel of a batch is computed like this:

1. `kernel` checks the arguments; `snapshot` holds a copy of the network and computes the tangents of batches.
2. `observe` runs the network on copies of one input, by `recording`, and decides which layers fit this scheme. Its
   `plan` also counts how much memory the tangents of one input take.
3. `schedule` chooses how many outputs and inputs are taken at once, so that their tangents fit into the memory limit.
4. `layerwise` runs a block of inputs forward and backward, and collects h and δ of every call of every such layer.
5. `layers` turns the calls of a layer into its tangent: for a weight a `products.WeightTangent`, which holds `inputs` and
   cotangents; for gains, shifts and lone biases a plain Jacobian. `jacobians` has the plain Jacobian of any other
   parameter: batched where that agrees with plain autograd, and otherwise by plain autograd itself. `batched_operations`
   lists what a pass of `layerwise` may batch without such a comparison.
6. `products` multiplies the tangents of two blocks, in the cheapest of three orders of summation.
7. `matrices` adds up the products of all layers, blocks and outputs; `gradient` differentiates them in the first inputs.

Two ways lead around these steps: `projections` replaces tangents by random projections of them, and `weight_space` sums
tangents over inputs, so that a fitted machine is evaluated without its training inputs.

Every pass runs on a copy of the network, and a plain one on a copy from `copies`.

Read `tangents` first (what a tangent is, the letters of the axes), then `jacobians`, `products`, `layers`,
`layerwise`, `observe`, `snapshot` and `matrices`.
"""

from ntklens.kernels.empirical.kernel import EmpiricalKernel, empirical_kernel
from ntklens.kernels.empirical.snapshot import check_mode

__all__ = ["EmpiricalKernel", "check_mode", "empirical_kernel"]
