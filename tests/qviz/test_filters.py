"""The filter language: what it selects, and what it says where it does not understand."""

import math
import random
import re
from dataclasses import dataclass
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import note as hypothesis_note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lightex.core.errors import NotFoundError
from lightex.core.index import Index
from lightex.core.journal import number
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.qviz.filters import FilterError, parse
from lightex.qviz.names import Name, Names
from lightex.qviz.runs import select
from tests.helpers import make_run

NAMES = ["lr", "a b", "it's", '"q"', "x.min", "x", "größe", "ünï cödé", "'; DROP TABLE runs; --", "%", "1", "NaN", "and",
         "id", "params.x", "?", "\\", "(", "a\nb", "\x00"]  # fmt: skip
VALUES = [0.1, 1, 1.0, 10, -3, True, False, None, "a", "A", "b c", "1", "10", "x' OR 1=1 --", "Ä", "ä", 'q"q', "", "%", "null",
          [1, 2], {}, float("inf"), float("nan"), 2**63, 2**64 - 1, -(2**63), 1e300, "NaN", "true"]  # fmt: skip
TAGS = ["1", "2", "10", "a", "B", "true", "", "x' OR 1=1 --", "1e3"]
POINTS = [0.5, -1.0, float("nan"), float("inf"), float("-inf"), 3.0, 0.0]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Runs with all sorts of names and values."""
    chosen = random.Random(0)
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LX_CACHE", str(tmp_path_factory.mktemp("cache")))
        for place in range(60):
            some = {name: chosen.choice(VALUES) for name in NAMES if chosen.random() < 0.6}
            points = [{"metrics": {name: chosen.choice(POINTS) for name in NAMES if chosen.random() < 0.3},
                       "step": step} for step in range(3)]  # fmt: skip
            tags = {name: chosen.choice(TAGS) for name in NAMES if chosen.random() < 0.4}
            state = chosen.choice(["SUCCEEDED", "FAILED", None])
            run = make_run(folder, f"s-{place:02}", {}, {"params": some}, {"tags": tags}, *points, state=state,
                           experiment=chosen.choice(["digits", "Ärger"]), user=chosen.choice(["ada", None]),
                           created=1000.0 + place)  # fmt: skip
            if chosen.random() < 0.3:
                run.note(chosen.choice(["GUT", "nicht ÜBEL"]), archived=chosen.random() < 0.5)
        with Index(Root(folder)) as found:
            yield found


# ---------------------------------------------------------------------- SQL and plain Python agree


@dataclass(frozen=True)
class Term:
    """A condition as text, and what it means."""

    text: str
    holds: object


def plain(run, name):
    """A value as the index has it: no booleans, one NaN, lists as their text."""
    if name.kind == "metrics":
        value = run.metrics.get(name.name) if name.part == "last" else run.best.get(name.name, {}).get(name.part)
    else:
        value = getattr(run, name.kind).get(name.name)
    if value in ("Infinity", "-Infinity"):
        value = number(value)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, (list, dict)):
        return str(value).replace(" ", "")
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else float(value)
    return value


def as_number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def compares(name, operator, value):
    def holds(run):
        mine = plain(run, name)
        if name.kind == "tags" and not isinstance(value, str):
            mine = as_number(mine)
        if mine is None or isinstance(mine, str) != isinstance(value, str):
            return False
        left, right = (mine.encode(), value.encode()) if isinstance(mine, str) else (mine, value)
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]

    return holds


def equals(name, value, word):
    return lambda run: plain(run, name) == value or (word is not None and plain(run, name) == word)


names = st.builds(
    Name, st.sampled_from(["params", "metrics", "tags"]), st.sampled_from([name for name in NAMES if "`" not in name])
)
parts = st.sampled_from(["last", "min", "max", "step"])
quoted = st.sampled_from([v for v in VALUES if isinstance(v, str)] + TAGS) | st.text(max_size=4)


def quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@st.composite
def terms(draw):  # noqa: C901  a case for each kind of term
    kind, plain_name = draw(st.sampled_from(["params", "metrics", "tags"])), draw(st.sampled_from(NAMES))
    part = draw(parts) if kind == "metrics" and plain_name not in ("x", "x.min") else "last"
    name = Name(kind, plain_name, part)
    said = f"`{kind}.{plain_name}" + (f".{part}`" if part != "last" else "`")
    negated = draw(st.booleans())
    match draw(st.sampled_from(["number", "text", "word", "in", "is", "contains", "regex"])):
        case "number":
            value = draw(st.sampled_from([0.1, 1, 10, -3, 0, 2.5, 1e300, 2**63, 2**70, -(2**63), math.inf, -math.inf]))
            operator = draw(st.sampled_from(["<", "<=", ">", ">=", "=", "!="]))
            text = repr(value)
            value = float(value) if abs(value) >= 2**63 and value != -(2**63) else value
            if operator in ("=", "!="):
                same = equals(name, value, text)
                return Term(f"{said} {operator} {text}", same if operator == "=" else lambda run: not same(run))
            if draw(st.booleans()):
                flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}[operator]
                return Term(f"{text} {flipped} {said}", compares(name, operator, value))
            return Term(f"{said} {operator} {text}", compares(name, operator, value))
        case "text":
            value, operator = draw(quoted), draw(st.sampled_from(["<", "<=", ">", ">="]))
            return Term(f"{said}{operator}{quote(value)}", compares(name, operator, value))
        case "word":
            word, value = draw(st.sampled_from([("true", 1), ("False", 0), ("nan", "NaN"), ("a", "a"), ("NaN", "NaN")]))
            return Term(f"{said} == {word}", equals(name, value, word if not isinstance(value, str) else None))
        case "in":
            values = draw(st.lists(quoted, min_size=1, max_size=3))
            inside = ", ".join(map(quote, values))
            return Term(f"{said} {'not ' * negated}in ({inside})",
                        lambda run: (plain(run, name) in values) != negated)  # fmt: skip
        case "is":
            what, value = draw(st.sampled_from([("null", None), ("missing", None), ("NaN", "NaN")]))
            return Term(f"{said} is {'not ' * negated}{what}", lambda run: (plain(run, name) == value) != negated)
        case "contains":
            value = draw(quoted)

            def contains(run):
                mine = plain(run, name)
                return (mine is not None and value.casefold() in str(mine).casefold()) != negated

            return Term(f"{said} {'not ' * negated}contains {quote(value)}", contains)
        case "regex":
            value = draw(st.sampled_from(["a", "^1", "[ab]$", "(?i)ä", "."]))

            def matches(run):
                mine = plain(run, name)
                return (mine is not None and re.search(value, str(mine)) is not None) != negated

            return Term(f"{said} {'!~' if negated else '~'} {quote(value)}", matches)


def joined(inner):
    def join(word, pieces):
        combine = any if word == "or" else all
        text = f" {word} ".join(f"({piece.text})" for piece in pieces)
        return Term(text, lambda run: combine([piece.holds(run) for piece in pieces]))

    def negate(piece):
        return Term(f"not ({piece.text})", lambda run: not piece.holds(run))

    return st.builds(join, st.sampled_from(["and", "or", " "]), st.lists(inner, min_size=2, max_size=3)) | st.builds(
        negate, inner
    )


@hypothesis_settings(max_examples=300)
@given(st.recursive(terms(), joined, max_leaves=5))
def test_sql_selects_what_plain_python_selects(index, term):
    expected = [run.id for run in index.select() if term.holds(run)]
    hypothesis_note(term.text)
    assert [run.id for run in select(index, term.text)] == expected


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("kind", ["params", "metrics", "tags"])
@pytest.mark.parametrize("plain_name", ["lr", "'; DROP TABLE runs; --", "größe"])
def test_order_puts_numbers_first_then_texts_then_nan_then_nothing(index, kind, plain_name, down):
    name = Name(kind, plain_name)
    found = [plain(run, name) for run in select(index, f"order by `{kind}.{plain_name}` {'desc' * down}")]
    numbers = [value for value in found if isinstance(value, (int, float))]
    texts = [value for value in found if isinstance(value, str) and value != "NaN"]
    nans, missing = [value for value in found if value == "NaN"], [value for value in found if value is None]
    assert found == numbers + texts + nans + missing
    assert numbers == sorted(numbers, reverse=down)
    assert texts == sorted(texts, key=str.encode, reverse=down)
    assert len(found) == 60


def test_every_name_can_be_written_as_it_is_shown(index):
    known = Names(index)
    for name in known.all():
        assert known.find(name.text) == name, name
    assert known.find("metrics.lr.step") == Name("metrics", "lr", "step")


# ---------------------------------------------------------------------- what it means


@pytest.fixture
def few(tmp_path):
    for place, (lr, loss, note) in enumerate([(0.1, 0.5, "Große Ärger"), (0.01, 0.3, ""), (0.001, math.nan, "gut")]):
        run = make_run(tmp_path / "runs", f"3f9a-{place:03}", {"lr": lr, "clip": math.inf, "model": {"lr": 1}},
                       {"metrics": {"val.loss": 1.0}, "step": 0}, {"metrics": {"val.loss": loss}, "step": 7},
                       {"tags": {"fold": str(place * 9), "team": "a"}}, sweep="3f9a", created=1000.0 + place,
                       state=["SUCCEEDED", "FAILED", None][place])  # fmt: skip
        run.note(note)
    with Index(Root(tmp_path / "runs")) as index:
        yield index


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 1, 2]),
        ("hp.lr >= 0.01", [0, 1]),
        ("hp.lr > 0.001 hp.lr < 0.1", [1]),
        ("hp.clip = inf", [0, 1, 2]),
        ("hp.clip > 1e9", [0, 1, 2]),
        ("val.loss is nan", [2]),
        ("loss = nan or loss.min < 0.4", [1, 2]),
        ("val.loss.max = 1 and val.loss.step = 7", [0, 1, 2]),
        ("failed", [1]),
        ("status = Succeeded or status in (running)", [0, 2]),
        ("not failed", [0, 2]),
        ("id = 3f9a-001", [1]),
        ("id = 260101-000000-3f9a-001", [1]),
        ("3F9A-00", [0, 1, 2]),
        ("ärger", [0]),
        ("GROSSE", [0]),
        ("note contains ÄRG", [0]),
        ("note like 'g_t'", [2]),
        ("tags.fold > 8", [1, 2]),
        ("tags.fold = 9", [1]),
        ("tags.fold in (9, 18)", [1, 2]),
        ("duration = 1m", [0, 1]),
        ("duration > 59 and exit_code = 0", [0, 1]),
        ("created < 7d ago", [0, 1, 2]),
        ("created > '7d ago'", []),
        ("created > 1970-01-01", [0, 1, 2]),
        ("order by val.loss desc", [0, 1, 2]),
        ("order by val.loss", [1, 0, 2]),
        ("team = a order by id desc limit 2", [2, 1]),
        ("limit 0", []),
        ("limit 1", [2]),
        ("limit 2", [1, 2]),
        ("model.lr = 1 limit 1", [2]),
        ("archived = false ORDER BY hp.lr LIMIT 1", [2]),
        ("reason is null and engine is missing limit 1", [1]),
    ],
)
def test_filters_select(few, text, expected):
    assert [int(run.id[-1]) for run in select(few, text)] == expected


def test_a_limit_holds_beside_the_filters_own(few):
    assert [run.id[-3:] for run in select(few, "order by id limit 2", limit=1)] == ["000"]
    assert len(select(few, "limit 999999999999999999")) == 3


def test_many_values_and_many_terms_are_taken(few):
    ids = ", ".join(f"3f9a-{place:03}" for place in range(3000))
    assert len(select(few, f"id in ({ids})")) == 3
    assert len(select(few, " or ".join("hp.clip > 1" for _ in range(3000)))) == 3
    assert len(select(few, "hp.lr > 0 " * 3000)) == 3


def test_what_is_ambiguous_names_what_it_may_be(few):
    with pytest.raises(FilterError) as caught:
        parse("lr > 1", Names(few))
    assert str(caught.value) == "'lr' may be hp.lr, hp.model.lr\n  lr > 1\n  ^\n  write one of these"
    with pytest.raises(NotFoundError, match="no run has 'hp.lrr'. Did you mean 'hp.lr'?"):
        Names(few).find("hp.lrr")


def test_a_tag_that_is_called_archived_shows_nothing_that_was_put_away(few):
    RunDir(select(few, "id = 3f9a-001")[0].dir).note(tags={"archived": "x"}, archived=True)
    few.refresh()
    assert [run.id[-3:] for run in select(few, "`tags.archived` = x or hp.lr > 0", archived=False)] == ["000", "002"]
    assert [run.id[-3:] for run in select(few, "archived = true", archived=False)] == ["001"]


def test_what_a_parameter_and_a_metric_share_is_no_name(tmp_path):
    make_run(tmp_path / "runs", "3f9a-000", {}, {"params": {"loss": "mse"}}, {"metrics": {"loss": 0.5}, "step": 0})
    with Index(Root(tmp_path / "runs")) as index:
        with pytest.raises(NotFoundError, match="'loss' may be params.loss, metrics.loss"):
            Names(index).find("loss")
        assert [Names(index).find(f"{kind}.loss").kind for kind in ("params", "metrics")] == ["params", "metrics"]
        assert Names(index).find("loss.min").part == "min"


def test_dates_are_of_this_machines_zone(few):
    midnight = datetime(2026, 11, 24).timestamp()
    assert parse("created > 2026-11-24", Names(few)).values == [midnight]
    assert parse("created > '2026-11-24 18:30'", Names(few)).values == [midnight + 18.5 * 3600]
    assert parse("created > 2026-11-24T00:00:00Z", Names(few)).values == [1795478400.0]
    assert parse("created > 90m ago", Names(few), now=10_000.0).values == [4600.0]


# ---------------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hp.lr >", "expected a value, the filter ends\n  hp.lr >\n         ^"),
        ("hp.lr", "an operator is missing after 'hp.lr'\n  hp.lr\n       ^\n  e.g. hp.lr > 0.1; "
                  "operators: = != < <= > >= ~ contains like in is; a word to search for: 'hp.lr'"),
        ("hp.lr > 'a", "a quote is not closed\n  hp.lr > 'a\n          ^"),
        ("hp.lr ! 1", "'!' means nothing here\n  hp.lr ! 1\n        ^"),
        ("(failed", "expected ')'\n  (failed\n         ^"),
        ("failed)", "')' is not expected here\n  failed)\n        ^\n  joined by: and, or; grouped by ( )"),
        ("and failed", "expected a name or a word, got 'and'\n  and failed\n  ^"),
        ("failed and", "expected a name or a word, the filter ends\n  failed and\n            ^"),
        ("status = faild", "no state 'faild'. Did you mean 'failed'?\n  status = faild\n           ^\n  "
                           "queued, submitted, running, succeeded, failed, cancelled, lost"),
        ("'hp.lr' = 1", "expected a name, got 'hp.lr'\n  'hp.lr' = 1\n  ^\n  a name with spaces goes in `...`"),
        ("hp.lr in 1", "expected '(' after 'in'\n  hp.lr in 1\n           ^\n  e.g. hp.lr in (0.1, 0.01)"),
        ("hp.lr in (1", "expected ',' or ')'\n  hp.lr in (1\n             ^"),
        ("hp.lr is 3", "expected null, missing or nan after 'is'\n  hp.lr is 3\n           ^"),
        ("note ~ '('", "not a regular expression: missing ), unterminated subpattern at position 0\n"
                       "  note ~ '('\n         ^"),
        ("duration > long", "not a duration: 'long'\n  duration > long\n             ^\n  "
                            'write seconds, or a text such as "90s", "45m", "1h30m", "2d"'),
        ("created > 2026", "not a time: '2026'\n  created > 2026\n            ^\n  "
                           'write 2026-11-24, "2026-11-24 18:30", or a duration: 7d ago'),
        ("val.loss > two", "'val.loss' is a number, got 'two'\n  val.loss > two\n             ^"),
        ("attempt > two", "'attempt' is a number, got 'two'\n  attempt > two\n            ^"),
        ("order hp.lr", "expected 'by' after 'order'\n  order hp.lr\n        ^"),
        ("order by", "expected a name, the filter ends\n  order by\n          ^\n  a name with spaces goes in `...`"),
        ("limit 1.5", "expected a whole number after 'limit'\n  limit 1.5\n        ^"),
        ("limit ²", "expected a whole number after 'limit'\n  limit ²\n        ^"),
        ("limit -1", "expected a whole number after 'limit'\n  limit -1\n        ^"),
        ("limit 1 failed", "'failed' is not expected here\n  limit 1 failed\n          ^\n  "
                           "joined by: and, or; grouped by ( )"),
        ("failed\n and\thp.lr >", "expected a value, the filter ends\n  failed  and hp.lr >\n                     ^"),
        ("not " * 200 + "failed", "this is nested too deeply\n  " + "not " * 200 + "failed\n  " + " " * 400 + "^"),
        ("note = \udcff", "this is not UTF-8\n  note = ?\n         ^"),
    ],
)  # fmt: skip
def test_an_error_points_at_the_character_and_says_what_is_expected(few, text, message):
    with pytest.raises(FilterError) as caught:
        parse(text, Names(few))
    assert str(caught.value) == message


WORDS = ["and", "or", "not", "in", "is", "null", "order", "by", "limit", "(", ")", ",", "=", "!=", "<", "~", "!~", "like",
         "contains", "hp.lr", "created", "duration", "status", "val.loss", "attempt", "id", "'a'", '"', "`", "0.1", "7d",
         "ago", "nan", "inf", "9" * 400, "1e999", "\\", "[[a]", "a{99999999999}", "²", "٣", "0001-01-01", "9999-12-31",
         "20261124", "tags.fold", "desc", "\x00", "\ud800", "_", "1__0"]  # fmt: skip


@hypothesis_settings(max_examples=500)
@given(st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
@example("(" * 5000)
@example("not " * 5000 + "failed")
@example("a," * 40_000)
@example("failed " * 40_000)
@example(f"hp.lr in ({'1,' * 40_000}1)")
@example(f"note like '{'%a' * 40_000}'")
@example("order by " + "hp.lr, " * 3000 + "hp.lr")
@example("limit " + "9" * 5000)
@example("hp.lr > " + "9" * 5000)
@example("created > " + "9" * 5000)
def test_nothing_but_an_error_with_a_place_comes_of_any_text(index_of_one, text):
    try:
        assert select(index_of_one, text) is not None
    except FilterError as error:
        assert 0 <= error.position <= len(text)


@pytest.fixture(scope="module")
def index_of_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LX_CACHE", str(tmp_path_factory.mktemp("cache")))
        make_run(folder, "s-0", {"lr": 0.1}, {"metrics": {"val.loss": 1.0}}, {"tags": {"fold": "1"}})
        with Index(Root(folder)) as found:
            yield found
