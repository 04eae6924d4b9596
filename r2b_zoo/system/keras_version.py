"""Selects Keras 2 before TensorFlow loads.

Larq is written for Keras 2. TensorFlow 2.16 and newer use Keras 3 unless ``TF_USE_LEGACY_KERAS`` is set *before*
TensorFlow is imported, so ``import r2b_zoo`` sets it first.
"""

import os
import sys

ENVIRONMENT_VARIABLE = "TF_USE_LEGACY_KERAS"


def select_keras_2() -> None:
    """Makes ``tf.keras`` mean Keras 2 in this process.

    Raises:
        ImportError: TensorFlow was already imported and its ``tf.keras`` is Keras 3; that cannot be undone.
    """
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        # tf.keras is tf_keras or keras; TensorFlow chose one of them when it was imported.
        if not tf.keras.Model.__module__.startswith("tf_keras."):
            version = getattr(tf.keras, "__version__", "3")
            raise ImportError(
                f"r2b_zoo needs Keras 2, but TensorFlow was imported before it and already uses Keras {version}: "
                f"import r2b_zoo before tensorflow, or set {ENVIRONMENT_VARIABLE}=1 before Python starts."
            )
    os.environ[ENVIRONMENT_VARIABLE] = "1"
