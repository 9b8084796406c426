"""The border to transformers: imported late, quiet, and without a vision library that cannot load."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from atlas.errors import PluginFault

__all__ = ["load_transformers", "vision_fault"]

_VISION = "torchvision"


def vision_fault() -> str | None:
    """Hide an installed torchvision that cannot be imported; return why, or None.

    transformers imports torchvision for text models too. A torchvision built for another torch then
    stops every model from loading, although none of them needs it.
    """
    if _VISION in sys.modules or importlib.util.find_spec(_VISION) is None:
        return None
    try:
        importlib.import_module(_VISION)
    except Exception as error:  # whatever it raises, the answer is the same: leave it out, and say so
        sys.modules[_VISION] = None  # type: ignore[assignment] # the documented way to make it absent
        return f"{type(error).__name__}: {error}"
    return None


def load_transformers() -> ModuleType:
    """Import transformers without its progress bars and notices.

    Raises:
        PluginFault: It cannot be imported.
    """
    vision_fault()
    try:
        transformers = importlib.import_module("transformers")
        logging = importlib.import_module("transformers.utils.logging")
    except Exception as error:
        raise PluginFault(
            f"transformers cannot be imported: {type(error).__name__}: {error}",
            who="plugin 'huggingface'",
            fix="pip install --force-reinstall transformers",
        ) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return transformers
