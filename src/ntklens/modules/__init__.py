"""Users' modules: how they are copied, called and checked, so that they and their inputs stay as they are.

- `copying`: copies of modules, without the wrappers of torch.compile and of parallel training.
- `guard`: a model as a function of single images, for as long as a public function calls it.
- `outputs`: the one tensor in what a module returns.
"""

from ntklens.modules.copying import check_materialised, copied, copied_function, sharing_copy, unwrapped
from ntklens.modules.guard import Guarded, depends_on_the_batch, guarded, layers_in_training
from ntklens.modules.outputs import single_output

__all__ = [
    "Guarded",
    "check_materialised",
    "copied",
    "copied_function",
    "depends_on_the_batch",
    "guarded",
    "layers_in_training",
    "sharing_copy",
    "single_output",
    "unwrapped",
]
