"""Lets Keras find the layers of this package by name wherever ``import r2b_zoo`` was said.

``load_model`` needs them before any network is built, and importing them takes as long as Larq and TensorFlow do. So
they are imported right after Keras is: at once where it is there already, else when somebody imports it. In a notebook
TensorFlow's messages are kept away at the same moment, whoever imports it.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional

from r2b_zoo.system.quiet_start import without_messages_in_a_notebook

_WITH_LAYERS = ("r2b_zoo.models.layers", "r2b_zoo.ops.batch_norm")
# The layers take all three, and whoever imports one of them may be half done with another: TensorFlow imports Keras
# before it is complete itself, and the other way round.
_KERAS = ("tensorflow", "tf_keras")
_WATCHED = (*_KERAS, "larq")


def register_layers_with_keras() -> None:
    """Imports the modules with layers where Keras is imported already, and sees to it that they are when it will be."""
    watcher = _Watcher()
    if not watcher.register():
        sys.meta_path.insert(0, watcher)


class _Watcher(MetaPathFinder):
    """Finds no modules itself; hears when the watched ones are complete."""

    def __init__(self) -> None:
        self._incomplete: set[str] = set()

    def register(self) -> bool:
        """Whether Keras was there, and the layers are registered now."""
        if self._incomplete or not all(name in sys.modules for name in _KERAS):
            return False
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in _WITH_LAYERS:
            importlib.import_module(name)
        return True

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname not in _WATCHED or fullname in self._incomplete:
            return None
        self._incomplete.add(fullname)  # also so that the search below does not come here again
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._incomplete.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        # On the object, not the class: the loader stays what it is, for those who ask it for other things.
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            quietly = without_messages_in_a_notebook if fullname == "tensorflow" else contextlib.nullcontext
            self._incomplete.add(fullname)
            try:
                with quietly():
                    execute(module)
            finally:
                self._incomplete.discard(fullname)
            self.register()

        loader.exec_module = exec_module
        return spec
