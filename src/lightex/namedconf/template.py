"""Commands as templates: Jinja2 fills them in, and a value stays one argument whatever it holds."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from lightex.core.errors import ConfigError, did_you_mean
from lightex.core.journal import jsonable
from lightex.namedconf.export import flags, text_of
from lightex.namedconf.tree import to_tree

if TYPE_CHECKING:
    from jinja2 import Environment, Template

# A value stands in the rendered text as a placeholder between two characters that no command holds (Unicode
# private use), so that the text is split into words before the value is put in.
_LEFT, _RIGHT = "\ue000", "\ue001"
_PLACE = re.compile(f"{_LEFT}(\\d+){_RIGHT}")
_SHELL = re.compile(r"&&|\|\||[|;<>&`]|\$[A-Za-z_{(]")


class _Values(list[str]):
    """Several arguments from one expression."""


def render(command: str | Sequence[str], context: Mapping[str, Any]) -> list[str]:
    """The arguments of a command.

    Args:
        command: a text, which is split into words as a shell would, or a list of words. `{{ hp.lr }}` puts a value
            in; `{{ hp | flags }}` (and any other list), alone in its word, becomes several arguments.
        context: the names that expressions may use.

    Raises:
        ConfigError: the template does not parse, names what is not there, or needs a shell.
    """
    if isinstance(command, str):
        return _fill(command, context, _split)
    return [argument for word in command for argument in _fill(str(word), context, lambda text: [text])]


def render_text(template: str, context: Mapping[str, Any]) -> str:
    """A text with its expressions filled in.

    Raises:
        ConfigError: the template does not parse, or names what is not there.
    """
    return " ".join(_fill(template, context, lambda text: [text]))


def _fill(template: str, context: Mapping[str, Any], split: Any) -> list[str]:
    if "{" not in template:
        return list(split(template))
    values: list[Any] = []
    rendered = _render(template, context, values)
    arguments: list[str] = []
    for word in split(rendered):
        whole = _PLACE.fullmatch(word)
        if whole and isinstance(values[int(whole[1])], _Values):
            arguments += values[int(whole[1])]
        else:
            arguments.append(_PLACE.sub(lambda match: _joined(values[int(match[1])]), word))
    return arguments


def _joined(value: Any) -> str:
    return " ".join(value) if isinstance(value, _Values) else str(value)


def _render(template: str, context: Mapping[str, Any], values: list[Any]) -> str:
    from jinja2 import TemplateSyntaxError, UndefinedError
    from jinja2.exceptions import SecurityError

    try:
        return _compiled(template).render({**context, "__values__": values})
    except TemplateSyntaxError as error:
        raise ConfigError(
            f"the template does not parse: {error.message} (line {error.lineno})", f"in: {template}"
        ) from None
    except UndefinedError as error:
        raise _undefined(template, context, str(error)) from None
    except SecurityError as error:
        raise ConfigError(f"the template reaches where it must not: {error}", f"in: {template}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"the template fails: {type(error).__name__}: {error}", f"in: {template}") from None


@lru_cache(maxsize=1024)
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@cache
def _environment() -> Environment:
    from jinja2 import StrictUndefined, Undefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    @pass_context
    def finalize(context: Any, value: Any) -> Any:
        if isinstance(value, Undefined):
            str(value)  # raises
        values = context["__values__"]
        values.append(_argument(value))
        return f"{_LEFT}{len(values) - 1}{_RIGHT}"

    # Configs may come from others; a sandbox keeps a template from reaching beyond the values that it is given.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=finalize, autoescape=False)
    environment.filters["flags"] = lambda value: _Values(flags(to_tree(value)))
    return environment


def _argument(value: Any) -> Any:
    if isinstance(value, _Values):
        return value
    tree = jsonable(to_tree(value))
    if isinstance(tree, list):
        return _Values(text_of(item) for item in tree)
    return text_of(tree)


@lru_cache(maxsize=1024)
def _split(text: str) -> tuple[str, ...]:
    """The words of a text; cached, because the experiments of a sweep share the text between their values."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"the command cannot be split into words: {str(error).lower()}", f"in: {_shown(text)}"
        ) from None
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"|\\.", "", text)
    if found := _SHELL.search(bare):
        raise ConfigError(
            f"the command has '{found[0]}', but no shell runs it", f"in: {_shown(text)}",
            'quote it if it is meant as it stands, or ask for a shell: command=["bash", "-c", "..."]',
        )  # fmt: skip
    return tuple(words)


def _shown(text: str) -> str:
    return _PLACE.sub("{{ }}", text)


def _undefined(template: str, context: Mapping[str, Any], words: str) -> ConfigError:
    """What is missing and what there is: Jinja2 says `'HP object' has no attribute 'lrr'` or `'x' is undefined`."""
    missing = (re.findall(r"'([^']*)'", words) or [""])[-1]
    for owner, name in re.findall(r"([A-Za-z_][\w.]*)\.([A-Za-z_]\w*)", template):
        node: Any = context.get(owner.split(".")[0])
        for part in owner.split(".")[1:]:
            node = node.get(part) if isinstance(node, Mapping) else getattr(node, part, None)
        valid = _names(node)
        if name == missing and valid and name not in valid:
            near = did_you_mean(name, valid).replace("'", f"'{owner}.", 1)
            return ConfigError(
                f"the template names {owner}.{name}, which is not there.{near}",
                f"in: {template}", f"{owner} has: {', '.join(valid)}",
            )  # fmt: skip
    return ConfigError(
        f"the template names {missing}, which is not there.{did_you_mean(missing, context)}",
        f"in: {template}", f"there are: {', '.join(context)}",
    )  # fmt: skip


def _names(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        return [str(name) for name in node]
    return [field.name for field in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []
