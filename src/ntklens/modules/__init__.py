"""Users' modules: how they are copied, called and checked, so that they and their inputs stay as they are.

- `copying`: copies of modules, without the wrappers of torch.compile and of parallel training.
- `outputs`: the one tensor in what a module returns.
"""

from ntklens.modules.copying import check_materialised, copied, copied_function, sharing_copy, unwrapped
from ntklens.modules.outputs import single_output

__all__ = ["check_materialised", "copied", "copied_function", "sharing_copy", "single_output", "unwrapped"]
