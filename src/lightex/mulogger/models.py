"""Saving a trained model in its framework's own format, without pickling what could be kept otherwise."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError

Save = Callable[[Any, Path], None]


def _save_skops(model: Any, path: Path) -> None:
    import skops.io

    skops.io.dump(model, path)


def _save_torch(model: Any, path: Path) -> None:
    import torch

    torch.save(model.state_dict(), path)


# root module of the model's class -> (format, file suffix, package that saves, save)
FORMATS: dict[str, tuple[str, str, str, Save]] = {
    "sklearn": ("skops", ".skops", "skops", _save_skops),
    "torch": ("torch-state-dict", ".pt", "torch", _save_torch),
}


def save(model: Any, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Write a model below a folder.

    Args:
        model: a scikit-learn estimator (kept as skops, which loads without running code of the file) or a
            PyTorch module (its state_dict).
        folder: where to.
        name: file name without suffix.

    Returns:
        The file, and what is known of it: `format`, `class`, `versions`.

    Raises:
        LightexError: there is no format for this kind of model, or a package is missing.
    """
    modules = [cls.__module__.partition(".")[0] for cls in type(model).__mro__]
    found = next((FORMATS[module] for module in modules if module in FORMATS), None)
    if found is None:
        raise LightexError(
            f"log_model cannot save a {type(model).__module__}.{type(model).__qualname__}",
            f"it saves models of: {', '.join(FORMATS)}",
            "save it yourself and hand over the file: run.log_model('model.bin')",
        )
    kind, suffix, package, write = found
    path = folder / f"{name}{suffix}"
    staged = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(model, staged)
    except ModuleNotFoundError as error:
        raise LightexError(f"saving this model needs the package '{error.name}'", f"pip install {package}") from error
    staged.replace(path)
    framework = "scikit-learn" if kind == "skops" else package
    about = {
        "format": kind,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "versions": {name: version(name) for name in sorted({package, framework})},
    }
    return path, about
