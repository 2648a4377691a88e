"""The filter language: `hp.lr > 0.01 and status = failed order by val.acc desc limit 10`, made into SQL.

query       [condition] [order by NAME [asc|desc], ...] [limit N]: the first N in that order, else the latest N
condition   terms joined by and (or nothing), or, not, and parentheses
term        NAME = != < <= > >= VALUE   NAME ~ REGEX   NAME contains TEXT   NAME like PATTERN
            NAME [not] in (VALUE, ...)   NAME is [not] null|nan   WORD: in a run's id, names or note; or a state
VALUE       a number, a word, 'text', true, nan, inf; of times 2026-11-24, "7d ago"; of durations 90s, 1h30m
"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

from lightex.core.errors import ConfigError, LightexError, NotFoundError, did_you_mean
from lightex.core.rundir import STATES
from lightex.core.units import parse_duration
from lightex.qviz.literals import number_of, time_of
from lightex.qviz.names import FIELDS, Name, Names

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<op><=|>=|!=|==|=~|!~|<>|[<>=~])
    | (?P<mark>[(),])
    | (?P<text>'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*")
    | `(?P<name>[^`]+)`
    | (?P<word>[^\s()<>=!~,'"`]+)""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "like", "contains", "order", "limit"})
_SAME = {"==": "=", "<>": "!=", "=~": "~"}
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_OPERATORS = "= != < <= > >= ~ contains like in is"
_EXAMPLES = {"archived": "= true", "text": "~ a", "time": "> 7d ago", "duration": "> 1h"}  # by name, by type
_DEEPEST = 100  # parentheses and nots inside each other
_MOST_VALUES = 30_000  # SQLITE_MAX_VARIABLE_NUMBER is 32,766
_LONGEST_PATTERN = 10_000  # SQLITE_MAX_LIKE_PATTERN_LENGTH is 50,000 bytes


class FilterError(ConfigError):
    """A filter that is not understood.

    Attributes:
        position: of the character, from 0.
        hint: what is wrong there.
    """

    def __init__(self, text: str, position: int, hint: str, *details: str) -> None:
        super().__init__(hint, re.sub(r"\s", " ", text), " " * position + "^", *details)
        self.position, self.hint, self.more = position, hint, details


@dataclass(frozen=True)
class Token:
    """A piece of the text. Kinds: op, mark, text, name, word, end."""

    kind: str
    value: str
    position: int


@dataclass(frozen=True)
class Query:
    """A filter made into SQL over the columns of an index.

    Attributes:
        where: a condition.
        values: for its question marks.
        order: columns to order by; empty: nothing is said.
        limit: at most so many; None: nothing is said.
        names: what it speaks of, in order of appearance.
    """

    where: str
    values: list[Any]
    order: str
    limit: int | None
    names: list[Name] = field(default_factory=list)


def parse(text: str, names: Names, now: float | None = None) -> Query:
    """Understand a filter.

    Args:
        text: the filter; empty: all runs.
        names: what there is to be named.
        now: UTC seconds since the epoch that "7d ago" counts from; default: the clock.

    Raises:
        FilterError: it is not understood, and where.
    """
    return _Parser(text, names, time.time() if now is None else now).query()


def check(text: str) -> None:
    """Understand a filter whose names need not be there yet.

    Raises:
        FilterError: it is not understood, and where.
    """
    _Parser(text, _AnyNames(), time.time()).query()


class _AnyNames(Names):
    """Knows every name: fields as they are, all others as metrics."""

    def __init__(self) -> None:
        pass

    def find(self, given: str) -> Name:
        """What a name may mean."""
        return Name("field", given, type=FIELDS[given]) if given in FIELDS else Name("metrics", given)

    def column(self, name: Name) -> str:
        """A column that is not there."""
        return name.name


def tokens(text: str) -> list[Token]:
    """The pieces of a filter.

    Raises:
        FilterError: a quote is open, or a character has no meaning.
    """
    found, position = list[Token](), 0
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise FilterError(text.encode(errors="replace").decode(), error.start, "this is not UTF-8") from None
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            hint = "a quote is not closed" if text[position] in "'\"`" else f"'{text[position]}' means nothing here"
            raise FilterError(text, position, hint)
        kind = str(match.lastgroup)
        if kind != "space":
            value = match[kind]
            value = re.sub(r"\\(.)", r"\1", value[1:-1]) if kind == "text" else value
            found.append(Token(kind, value, position))
        position = match.end()
    return [*found, Token("end", "", len(text))]


class _Parser:
    """Recursive descent; each method takes what it knows and returns SQL, values go in the order of question marks."""

    def __init__(self, text: str, names: Names, now: float) -> None:
        self._text, self._names, self._now = text, names, now
        self._tokens, self._at = tokens(text), 0
        self._depth = 0
        self._values: list[Any] = []
        self._used: list[Name] = []

    def query(self) -> Query:
        where = "1" if self._is("order", "limit") or self._next.kind == "end" else self._or()
        order, limit = "", None
        if self._take("order"):
            if not self._take("by"):
                raise self._wrong("expected 'by' after 'order'")
            order = self._order()
        if self._take("limit"):
            token = self._pop()
            if not re.fullmatch(r"[0-9]{1,18}", token.value):
                raise self._wrong("expected a whole number after 'limit'", token)
            limit = int(token.value)
        if self._next.kind != "end":
            raise self._wrong(f"'{self._next.value}' is not expected here", None, "joined by: and, or; grouped by ( )")
        if len(self._values) > _MOST_VALUES:
            raise FilterError(self._text, 0, f"more than {_MOST_VALUES:,} values")
        return Query(where, self._values, order, limit, list(dict.fromkeys(self._used)))

    # ------------------------------------------------------------------ conditions

    def _or(self) -> str:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return _joined(parts, "OR")

    def _and(self) -> str:
        parts = [self._not()]
        while self._take("and") or not (self._next.kind == "end" or self._is("or", "order", "limit", ")")):
            parts.append(self._not())
        return _joined(parts, "AND")

    def _not(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong("this is nested too deeply")
        if self._take("not"):
            sql = f"NOT coalesce({self._not()}, 0)"
        elif self._take("("):
            sql = self._or()
            if not self._take(")"):
                raise self._wrong("expected ')'")
        else:
            sql = self._term()
        self._depth -= 1
        return sql

    def _term(self) -> str:
        left = self._pop()
        if left.kind not in ("word", "name", "text") or (left.kind == "word" and left.value.lower() in _KEYWORDS):
            what = f"got '{left.value}'" if left.value else "the filter ends"
            raise self._wrong(f"expected a name or a word, {what}", left)
        operator = self._next
        if operator.kind == "op":
            self._pop()
            return self._compare(left, _SAME.get(operator.value, operator.value), self._value())
        negated = self._is("not") and self._peek(1).value.lower() in ("in", "like", "contains")
        if negated:
            self._pop()
        if self._is("in", "like", "contains", "is"):
            word = self._pop().value.lower()
            found = self._is_what(left) if word == "is" else self._in(left) if word == "in" else self._like(left, word)
            return f"NOT coalesce({found}, 0)" if negated else found
        return self._word(left)

    def _word(self, token: Token) -> str:
        """A word that stands alone: a state, or a part of what a run is called."""
        if token.kind == "word" and token.value.upper() in STATES:
            return self._sql("status = ?", token.value.upper())
        if token.kind != "text":
            try:
                name = self._names.find(token.value)
            except NotFoundError:
                pass
            else:
                example = _EXAMPLES.get(name.name, _EXAMPLES.get(name.type, "> 0.1"))
                raise self._wrong(
                    f"an operator is missing after '{token.value}'",
                    Token("end", "", token.position + len(token.value)),
                    f"e.g. {name.written} {example}; operators: {_OPERATORS}; a word to search for: '{token.value}'",
                )
        said = " || ' ' || ".join(f"coalesce({each}, '')" for each in ("id", "experiment", "config_name", "note"))
        return self._sql(f"instr(folded({said}), ?) > 0", token.value.casefold())

    # ------------------------------------------------------------------ terms

    def _compare(self, left: Token, operator: str, right: Token) -> str:
        if number_of(left.value) is not None and left.kind == "word" and operator in _FLIPPED and right.kind != "text":
            left, operator, right = right, _FLIPPED[operator], left  # 0.1 < hp.lr
        name = self._name(left)
        column = self._names.column(name)
        if operator in ("~", "!~"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of sets that mean something else in a later Python
                    re.compile(right.value)
            except (re.error, OverflowError, RecursionError) as error:
                raise self._wrong(f"not a regular expression: {error}", right) from None
            sql = self._sql(f"{column} REGEXP ?", right.value)
            return sql if operator == "~" else f"NOT coalesce({sql}, 0)"
        if operator == "!=":  # of what has another value, or none
            return f"NOT coalesce({self._equal(name, column, right)}, 0)"
        if operator == "=":
            return self._equal(name, column, right)
        value = self._typed(name, right)
        if name.kind == "metrics" and right.kind == "word" and isinstance(value, str):
            raise self._wrong(f"'{name.name}' is a number, got '{right.value}'", right)
        if name.kind == "tags" and not isinstance(value, str):  # which are texts, also those that look like numbers
            return self._sql(f"number({column}) {operator} ?", value)
        kinds = "'text'" if isinstance(value, str) else "'integer', 'real'"
        return self._sql(f"(typeof({column}) IN ({kinds}) AND {column} {operator} ?)", value)

    def _equal(self, name: Name, column: str, token: Token) -> str:
        value = self._typed(name, token)
        if name.name == "id" and name.kind == "field":
            self._values.append(value)
            return self._sql("(id = ? OR short = ?)", value)
        if token.kind == "word" and not isinstance(value, str) and name.type == "any":
            self._values.append(value)  # a tag of 1 is the text "1"
            return self._sql(f"({column} = ? OR {column} = ?)", token.value)
        return self._sql(f"{column} = ?", value)

    def _in(self, left: Token) -> str:
        name = self._name(left)
        column = self._names.column(name)
        if not self._take("("):
            raise self._wrong("expected '(' after 'in'", None, "e.g. hp.lr in (0.1, 0.01)")
        parts = [self._equal(name, column, self._value())]
        while self._take(","):
            parts.append(self._equal(name, column, self._value()))
        if not self._take(")"):
            raise self._wrong("expected ',' or ')'")
        return _joined(parts, "OR")

    def _like(self, left: Token, word: str) -> str:
        column = self._names.column(self._name(left))
        right = self._value()
        if word == "like":
            if len(right.value) > _LONGEST_PATTERN:
                raise self._wrong(f"a pattern of more than {_LONGEST_PATTERN:,} characters", right)
            return self._sql(f"{column} LIKE ?", right.value)
        return self._sql(f"instr(folded({column}), ?) > 0", right.value.casefold())

    def _is_what(self, left: Token) -> str:
        negated, column = self._take("not"), self._names.column(self._name(left))
        what = self._pop()
        found = {"null": f"{column} IS NULL", "missing": f"{column} IS NULL", "nan": f"{column} IS 'NaN'"}
        sql = found.get(what.value.lower())
        if sql is None:
            raise self._wrong("expected null, missing or nan after 'is'", what)
        return f"NOT ({sql})" if negated else sql

    def _order(self) -> str:
        parts = dict[str, str]()
        while True:
            column = self._names.column(self._name(self._pop()))
            down = self._take("desc")
            if not down:
                self._take("asc")
            parts.setdefault(column, order_by(column, down))
            if not self._take(","):
                return ", ".join(parts.values())

    # ------------------------------------------------------------------ values

    def _typed(self, name: Name, token: Token) -> Any:
        """The value that is compared with a name of a type."""
        text = token.value
        if name.type == "state":
            if text.upper() not in STATES:
                known = [state.lower() for state in STATES]
                raise self._wrong(f"no state '{text}'.{did_you_mean(text.lower(), known)}", token, ", ".join(known))
            return text.upper()
        try:
            if name.type == "duration":
                return parse_duration(text)
            if name.type == "time":
                return time_of(text, self._now)
        except LightexError as error:
            raise self._wrong(error.message, token, *error.details) from None
        if token.kind == "text" and name.type != "number":
            return text
        if name.kind != "field" and text.lower() == "nan":
            return "NaN"
        if name.type != "text" and text.lower() in ("true", "false"):
            return int(text.lower() == "true")
        number = number_of(text)
        if name.type == "number" and number is None:
            raise self._wrong(f"'{name.name}' is a number, got '{text}'", token)
        return text if number is None or name.type == "text" else number

    def _value(self) -> Token:
        token = self._pop()
        if token.kind not in ("word", "text", "name"):
            what = f"got '{token.value}'" if token.value else "the filter ends"
            raise self._wrong(f"expected a value, {what}", token)
        if self._is("ago"):  # 7d ago
            self._pop()
        return token

    def _name(self, token: Token) -> Name:
        if token.kind not in ("word", "name"):
            what = f"got '{token.value}'" if token.value else "the filter ends"
            raise self._wrong(f"expected a name, {what}", token, "a name with spaces goes in `...`")
        try:
            name = self._names.find(token.value)
        except NotFoundError as error:
            raise self._wrong(error.message, token, *error.details) from None
        self._used.append(name)
        return name

    def _sql(self, sql: str, value: Any) -> str:
        self._values.append(value)
        return sql

    # ------------------------------------------------------------------ tokens

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _peek(self, count: int) -> Token:
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def _pop(self) -> Token:
        token = self._next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _is(self, *words: str) -> bool:
        return self._next.kind in ("word", "mark") and self._next.value.lower() in words

    def _take(self, word: str) -> bool:
        return self._is(word) and bool(self._pop())

    def _wrong(self, hint: str, token: Token | None = None, *details: str) -> FilterError:
        return FilterError(self._text, (token or self._next).position, hint, *details)


def order_by(column: str, down: bool) -> str:
    """SQL that orders by a column: numbers before texts, NaN behind these, runs without it last."""
    way = " DESC" if down else ""
    return f"{column} IS NULL, {column} IS 'NaN', typeof({column}) = 'text', {column}{way}"


def _joined(parts: list[str], word: str) -> str:
    """Conditions joined as a tree that is as flat as can be: SQLite takes 1,000 levels."""
    if len(parts) < 3:
        return parts[0] if len(parts) == 1 else f"({parts[0]} {word} {parts[1]})"
    half = len(parts) // 2
    return f"({_joined(parts[:half], word)} {word} {_joined(parts[half:], word)})"
