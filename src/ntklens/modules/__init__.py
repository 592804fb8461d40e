"""Users' modules: how they are copied, called and checked, so that they and their inputs stay as they are.

- `autocast`: computations in the precision of their inputs, whatever the caller has switched on.
- `copying`: copies of modules, without the wrappers of torch.compile and of parallel training.
- `guard`: a model as a function of single images, for as long as a public function calls it.
- `held`: what modules hold beside their parameters, put back as it was.
- `stored`: tensors with a graph that a module holds, which its copies cannot differentiate.
- `outputs`: the one tensor in what a module returns.
"""

from ntklens.modules.autocast import is_in_autocast, without_autocast
from ntklens.modules.copying import check_materialised, copied, copied_function, sharing_copy, unwrapped
from ntklens.modules.guard import Guarded, depends_on_the_batch, guarded, layers_in_training
from ntklens.modules.outputs import single_output
from ntklens.modules.stored import check_computed_in_forward, followed

__all__ = [
    "Guarded",
    "check_computed_in_forward",
    "check_materialised",
    "copied",
    "copied_function",
    "depends_on_the_batch",
    "followed",
    "guarded",
    "is_in_autocast",
    "layers_in_training",
    "sharing_copy",
    "single_output",
    "unwrapped",
    "without_autocast",
]
