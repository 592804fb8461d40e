"""What scikit-learn's tools ask of a classifier, so that `clone`, `Pipeline` and `GridSearchCV` take a kernel machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntklens.errors import InputError


class Estimator:
    """The methods by which scikit-learn copies a classifier, changes its parameters and reads its classes.

    A machine is a torch module, which cannot inherit from scikit-learn's own base classes: those compare and copy the
    arguments of the constructor, and kernels are shared. scikit-learn is imported only where it calls first.
    """

    _estimator_type = "classifier"
    _PARAMETERS: tuple[str, ...] = ()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor by name; `deep` has no effect, because none of them is an estimator."""
        return {name: getattr(self, name) for name in self._PARAMETERS}

    def set_params(self, **params: Any) -> Any:
        """Change arguments of the constructor; what was fitted with the earlier ones is forgotten.

        Raises:
            InputError: an unknown name, or a value that the constructor refuses.
        """
        if unknown := sorted(set(params) - set(self._PARAMETERS)):
            raise InputError(f"expected parameters among {', '.join(self._PARAMETERS)}; got {', '.join(unknown)}.")
        if params:
            checked = type(self)(**(self.get_params() | params))  # refuses what does not fit before anything is changed
            self._hold()
            for name in params:
                setattr(self, name, getattr(checked, name))
        return self

    def _hold(self) -> None:
        """Forget what was fitted."""
        raise NotImplementedError

    def __sklearn_clone__(self) -> Any:
        """Return an unfitted estimator with the same parameters, which are shared because they never change."""
        return type(self)(**self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is something to predict with."""
        return bool(getattr(self, "is_fitted", False))

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of a classifier."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        tags = Tags(
            estimator_type="classifier", target_tags=TargetTags(required=True), classifier_tags=ClassifierTags()
        )
        tags.input_tags = InputTags(two_d_array=True, three_d_array=True)
        return tags

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The classes, in the order of the logits; there are none before `fit`."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError("the machine has no classes yet. Call fit(x, y) first.")
        return np.arange(self._class_count())

    def _class_count(self) -> int:
        raise NotImplementedError
