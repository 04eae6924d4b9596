"""Registers this package's layers with Keras, so that ``import r2b_zoo`` alone is enough for ``load_model``.

Importing the layers also imports Larq and TensorFlow, which is slow. The layers are therefore imported right after
Keras: at once if Keras is imported already, else when the program imports it. In a notebook, TensorFlow's messages are
hidden while it is imported.
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
# The layers need both packages completely imported; each package imports the other before it is complete itself.
_KERAS = ("tensorflow", "tf_keras")
# The layers import Larq, and Larq imports Keras: do not import the layers before Larq is complete.
_WATCHED = (*_KERAS, "larq")


def register_layers_with_keras() -> None:
    """Imports the modules with layers at once if Keras is imported already, else as soon as Keras is imported."""
    watcher = _Watcher()
    if not watcher.register():
        sys.meta_path.insert(0, watcher)


class _Watcher(MetaPathFinder):
    """Finds no modules itself, but notices when the watched ones are completely imported."""

    def __init__(self) -> None:
        self._incomplete: set[str] = set()

    def register(self) -> bool:
        """Registers the layers if Keras is completely imported; returns whether it is."""
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
        self._incomplete.add(fullname)  # also prevents recursion in the search below
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._incomplete.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        # Wrap the method on the object, not on the class, so that the loader is otherwise unchanged.
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
