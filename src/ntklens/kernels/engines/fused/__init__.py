"""The fast engine for processors: all layers of a pair of inputs in the cache, compiled once by Numba.

The plain recursion (`ntklens.kernels.engines.recursion`, the readable twin) goes layer by layer through all pairs, and
through memory. This engine turns the loops around: it runs the whole network for one input x and LANES inputs z, and
writes nothing to memory but the kernel. In the order in which the files are best read:

- `codes` is the instruction set. Instructions act on maps: a map holds the covariances of one node at one offset Δ, of x
  at position p with z at position p + Δ, for LANES inputs z. Each number of the recursion becomes a vector.
- `program` and `compiler`: a graph is compiled into a program, a list of instructions in which every map has an address
  in a small work space (`space`). `geometry` has the positions, `precision` says where float32 is not enough.
- `vm` runs a program, and `steps` has one function for each instruction. Their loops over the positions of a map are in
  `loops`, `sliding` (windows) and `relu` (activations), written with the vectors of `vectors`. K is float64, or float32
  in networks of images whose only activations are erf and GELU (`two_precisions`); Θ has the dtype of the inputs. What
  depends on one input alone, such as the standard deviations that an activation divides by, is computed beforehand and
  is called a marginal.
- `adjoint` compiles the gradient: a program that computes the values which activations read, and then runs the adjoints
  of the instructions (`steps_adjoint`) from the output to the input. The cotangent v̄ of a number v is named `_bar`.
- Inputs without positions have maps of one position. Their covariance is a matrix product that is computed beforehand
  (`inner_products`, `near_pairs`), and FLAT_WIDTH blocks of lanes stand side by side in a map. If the kernel depends on
  norms and the angle alone, one instruction evaluates a series in the angle in place of all layers (`zonal`, `angle`).
- Activations with kinks anywhere (`numbers`, `kinks`, `hardswish`, `wedges`, `tails`) read tails of the normal distribution
  at their kinks, which are marginals, too.
- Smooth activations are series in the correlation (`hermite`), and those with a corner at zero series in the angle
  (`corner`), with tables of coefficients for each input and position (`coefficients`).
- Few pairs of images fill the lanes (`packed`), and their sums are divided (`means`).
- `engine` is what the analytic kernel calls. `dense` and `images` cut matrices into tasks for threads (`threads`), and
  `layout` lays their inputs out in lanes.

A program prints as a list, here for a convolution of images with 4 x 4 pixels:

>>> from torch import nn
>>> from ntklens.kernels import analytic_kernel
>>> from ntklens.kernels.engines.fused.compiler import compile_graph
>>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))
>>> print(compile_graph(analytic_kernel(net, b_std=0.0).graph((1, 4, 4))))
GRAM dst=0 h=4 w=4 row_step=4
WINDOW dst=16 src=0 h=2 w=2 in_h=4 in_w=4 kernel_h=3 kernel_w=3
    stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 weight=0.2222 weight_share=0.2222
RELU dst=16 src=16 h=2 w=2 row_step=2 position_step=1
REDUCE dst=0 src=16 in_h=2 in_w=2
MEAN dst=0 src=0 h=1 w=1 in_h=1 factor=0.25
AFFINE dst=0 src=0 h=1 w=1 weight=2 weight_share=2
"""
