"""Saving a trained model in its framework's own format, and loading it back, without running code of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightex.core import journal
from lightex.core.errors import LightexError, NotFoundError
from lightex.core.root import Root
from lightex.core.rundir import RunDir


@dataclass(frozen=True)
class Format:
    """How models of one framework are kept.

    Attributes:
        name: of the format.
        suffix: of its files.
        packages: whose versions are recorded; the first is what saving needs.
        save: writes a model to a path.
    """

    name: str
    suffix: str
    packages: tuple[str, ...]
    save: Callable[[Any, Path], None]


def _save_skops(model: Any, path: Path) -> None:
    import skops.io

    skops.io.dump(model, path)


def _save_torch(model: Any, path: Path) -> None:
    import torch

    torch.save(model.state_dict(), path)


FORMATS = {  # root module of the model's class -> format
    "sklearn": Format("skops", ".skops", ("skops", "scikit-learn"), _save_skops),
    "torch": Format("torch-state-dict", ".pt", ("torch",), _save_torch),
}


def save(model: Any, folder: Path, name: str, example: Any = None) -> tuple[Path, dict[str, Any]]:
    """Write a model below a folder; its file, and what the record says: `format`, `class`, `versions`, `example`."""
    modules = [cls.__module__.partition(".")[0] for cls in type(model).__mro__]
    form = next((FORMATS[module] for module in modules if module in FORMATS), None)
    if form is None:
        raise LightexError(
            f"log_model cannot save a {type(model).__module__}.{type(model).__qualname__}",
            f"it saves models of: {', '.join(FORMATS)}",
            "save it yourself and hand over the file: run.log_model('model.bin')",
        )
    path = folder / f"{name}{form.suffix}"
    staged = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        form.save(model, staged)
    except ModuleNotFoundError as error:
        raise LightexError(
            f"saving this model needs the package '{error.name}'", f"pip install {form.packages[0]}"
        ) from error
    staged.replace(path)
    about: dict[str, Any] = {
        "format": form.name,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "versions": {package: version(package) for package in sorted(form.packages)},
    }
    if example is not None:
        answer = model.predict(example) if hasattr(model, "predict") else model(example)
        about["example"] = {"input": _listed(example), "output": _listed(answer)}
    return path, about


def load_model(
    run: str | os.PathLike[str], name: str = "model", *, into: Any = None, trusted: Sequence[str] = ()
) -> Any:
    """A model that a run kept by `log_model`. No pickle is read.

    Args:
        run: the run's id (or a unique prefix), or its directory.
        name: the name that it was logged under.
        into: a PyTorch module of the same architecture, which gets the weights; None: they are returned as a dict.
        trusted: names of types beyond scikit-learn's and NumPy's own that the file may hold (skops).

    Returns:
        The estimator, the module `into`, or the state_dict.

    Raises:
        LightexError: there is no such run or model, or its file holds types that are not trusted.
    """
    directory = RunDir(Path(run)) if Path(run).is_dir() else Root.locate().find_run(os.fspath(run))
    records = (record for path in directory.records_files() for record in journal.read(path))
    kept = [record["artifact"] for record in records if (record.get("artifact") or {}).get("model")]
    found = [about for about in kept if about["model"].get("name") == name]
    if not found:
        known = ", ".join(dict.fromkeys(str(about["model"].get("name")) for about in kept))
        raise NotFoundError(f"run {directory.short_id} has no model '{name}'", f"it has: {known or 'none'}")
    path = directory.path / found[-1]["path"]
    kind = found[-1]["model"].get("format")
    if kind == "skops":
        return _load_skops(path, trusted)
    if kind == "torch-state-dict":
        import torch

        weights = torch.load(path, map_location="cpu", weights_only=True)
        if into is None:
            return weights
        into.load_state_dict(weights)
        return into
    raise LightexError(f"LightEx does not load models of format '{kind}'", f"the file is {path}")


def _load_skops(path: Path, trusted: Sequence[str]) -> Any:
    import skops.io

    unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(trusted))
    if unknown:
        raise LightexError(
            f"{path} holds types that could run code when they are loaded: {', '.join(unknown)}",
            f"if you know where the file comes from: load_model(..., trusted={unknown!r})",
        )
    return skops.io.load(path, trusted=list(trusted))


def _listed(value: Any) -> Any:
    value = value.detach().cpu() if hasattr(value, "detach") else value
    value = value.values if hasattr(value, "iloc") else value
    return value.tolist() if hasattr(value, "tolist") else value
