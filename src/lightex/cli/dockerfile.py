"""A Dockerfile for a project: what its experiments need, without its code, which is mounted."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

from lightex.core.errors import LightexError

_DOCKERFILE = """# What experiments need to run. The code is not in it: lx mounts it, so that edits need no new image.
# For GPUs the wheels of PyTorch and JAX bring CUDA along; the machine needs nvidia-container-toolkit.
ARG BASE=python:{python}-slim
FROM ${{BASE}}

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
{install}
"""

_FROM_REQUIREMENTS = """COPY requirements.txt /tmp/
RUN pip install -r /tmp/requirements.txt"""

_FROM_PYPROJECT = """COPY pyproject.toml /tmp/
RUN python -c "import tomllib; print(*tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['dependencies'], \\
        sep='\\n')" > /tmp/requirements.txt && pip install -r /tmp/requirements.txt"""

_IGNORE = """# Only what the Dockerfile copies: lx mounts the rest.
*
!{source}
"""

_NOT_CODE = {".git", ".venv", "venv", "node_modules", "site-packages", "__pycache__", "build", "dist"}


def write(folder: Path, force: bool) -> Iterator[str]:
    """Write Dockerfile and .dockerignore, and requirements.txt where nothing says what the project needs.

    Args:
        folder: of the project.
        force: whether to write over what is there.

    Yields:
        The name of each file, and what is in it.

    Raises:
        LightexError: one of them is there.
    """
    for name in ("Dockerfile", ".dockerignore"):
        if (folder / name).exists() and not force:
            raise LightexError(f"{name} exists already", "--force writes over it")
    source = next((name for name in ("requirements.txt", "pyproject.toml") if _says_needs(folder / name)), None)
    if source is None:
        source, needs = "requirements.txt", sorted(_imported(folder))
        text = "".join(f"{need}\n" for need in needs)
        (folder / source).write_text("# What the code here imports, as it is installed now.\n" + text)
        yield f"requirements.txt ({', '.join(needs) or 'nothing: no import of another package was found'})"
    install = _FROM_PYPROJECT if source == "pyproject.toml" else _FROM_REQUIREMENTS
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(python=python, install=install))
    yield f"Dockerfile (Python {python}, and what {source} names)"
    (folder / ".dockerignore").write_text(_IGNORE.format(source=source))
    yield ".dockerignore (code is mounted, not copied)"


def _says_needs(path: Path) -> bool:
    """Whether a file says what a project needs."""
    if not path.is_file():
        return False
    if path.name != "pyproject.toml":
        return True
    try:
        return "dependencies" in tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LightexError(f"{path} does not parse: {error}") from None


def _imported(folder: Path) -> set[str]:
    """The installed packages, with their versions, that the code in a folder imports."""
    files = [path for path in folder.rglob("*.py") if not _NOT_CODE & set(path.relative_to(folder).parts)]
    own = {path.stem for path in files} | {path.parent.name for path in files} | {"lightex"}
    names = {name for path in files for name in _imports(path)} - own - set(sys.stdlib_module_names)
    installed = packages_distributions()
    return {f"{each}=={version(each)}" for name in names for each in installed.get(name, ())}


def _imports(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):  # it is not run here
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
