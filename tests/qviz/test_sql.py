"""SQL over runs: what it answers, and what it refuses."""

import math
import os
import warnings
from datetime import date

import pytest

from lightex.core.errors import LightexError
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.qviz.sql import TABLES, query
from lightex.qviz.table import Table
from tests.helpers import make_run


@pytest.fixture
def ask(tmp_path):
    """Asks the runs of a root."""
    root = Root(tmp_path / "runs")

    def answer(sql):
        with Index(root) as index:
            return query(index, sql).rows

    answer.root = root.path
    return answer


@pytest.fixture
def three(ask):
    for place in range(3):
        make_run(ask.root, f"s-{place}", {"lr": 0.1 * place, "flag": place == 1, "layers": [1, place]},
                 {"metrics": {"loss": 9.0}, "step": 0, "time": 1.0},
                 {"metrics": {"loss": float(place), "odd": float("nan")}, "step": 1}, sweep="s",
                 state=["SUCCEEDED", "FAILED", None][place])  # fmt: skip
    return ask


def test_the_four_tables_say_what_runs_are(three):
    assert three("select \"hp.lr\", loss from runs where status = 'SUCCEEDED'") == [[0.0, 0.0]]
    assert three("select count(*), sum(value) from metrics where name = 'loss'") == [[6, 30.0]]
    assert three("select run, step, time, value from metrics where name = 'loss' and step = 0 limit 1") == [
        ["260101-000000-s-0", 0.0, 1.0, 9.0]
    ]
    assert three("select number from params where name = 'hp.flag' order by run") == [[0.0], [1.0], [0.0]]
    assert three("select value from params where name = 'hp.layers' order by run limit 1") == [["[1,0]"]]
    assert three("select state, count(*) from events group by 1 order by 1") == [
        ["FAILED", 1], ["QUEUED", 3], ["RUNNING", 3], ["SUCCEEDED", 1],
    ]  # fmt: skip
    assert three("select r.id from runs r join metrics m on m.run = r.id where m.name = 'odd' and isnan(m.value) "
                 "order by 1 desc limit 1") == [["260101-000000-s-2"]]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("table", "condition"),
    [("runs", f"{name} = 'x'") for name in ("sweep", "reason", "config", "engine", "user", "host", "note")]
    + [("runs", f"{name} > 1e18") for name in ("exit_code", "created", "started", "ended", "duration")]
    + [("events", f"{name} = 'x'") for name in ("reason", "cause", "host", "state")]
    + [("events", f"{name} > 1e18") for name in ("exit_code", "duration", "peak_memory", "time")]
    + [("params", "value = 'x'"), ("params", "number > 1.5"), ("metrics", "name = 'x'"), ("metrics", "step > 0.5")],
)
def test_columns_in_which_nothing_is_yet_have_their_kind_all_the_same(ask, table, condition, count):
    for place in range(count):
        make_run(ask.root, f"s-{place}", state=None, created=None)
    assert ask(f"select * from {table} where {condition}") == []


def test_names_that_differ_in_case_only_or_are_those_of_fields_are_all_there(ask):
    make_run(ask.root, "s-0", {"LR": 1, "lr": 2, "Lr": 3}, {"params": {"id": 4, "STATUS": 5, "A": 6, "": 7}},
             {"metrics": {"a": 8.0, "hp.lr": 9.0}}, {"tags": {"a": "10", "params.a": "11"}})  # fmt: skip
    with Index(Root(ask.root)) as index:
        found = query(index, "select * from runs")
    assert len({name.lower() for name in found.columns}) == len(found.columns)
    (row,) = list(found)
    assert {1, 2, 3, 4, 5, 6, 7, 8.0, 9.0, "10", "11"} <= set(row.values())
    assert (row["id"], row["status"], row["hp.LR"]) == ("260101-000000-s-0", "SUCCEEDED", 1)
    assert row["params.id"] == 4


def test_parameters_of_mixed_kinds_are_texts_and_strange_ones_do_no_harm(ask):
    for place, value in enumerate([1, "a", None, True, [1], {}, {"a": {}}, 2**64 - 1, float("inf")]):
        make_run(ask.root, f"s-{place}", {"mixed": value, "empty": {}, "big": 2**64 - 1, "lists": [[], {"a": place}]},
                 {"params": {"deep": {"a": [{}]}}})  # fmt: skip
    assert [row[0] for row in ask('select "hp.mixed" from runs order by id')][:4] == ["1", "a", None, "true"]
    assert ask('select distinct "hp.empty" from runs') == [["{}"]]
    assert ask('select max("hp.big") from runs')[0][0] == pytest.approx(2.0**64)


@pytest.mark.parametrize(
    "sql",
    ["", ";", "--", "insert into runs values (1)", "drop table runs", "update runs set id = 'x'", "select 1; select 2",
     "create table x as select 1", "pragma version", "install httpfs", "load httpfs", "set threads = 1",
     "copy (select 1) to '{folder}/out.csv'", "attach '{folder}/out.db'", "export database '{folder}/out'",
     "call pragma_version()", "begin", "vacuum", "checkpoint", "delete from runs"],
)  # fmt: skip
def test_only_one_select_is_taken(three, tmp_path, sql):
    with pytest.raises(LightexError) as caught:
        three(sql.format(folder=tmp_path))
    assert caught.value.message.startswith("only one SELECT is taken: runs are not changed by SQL")
    assert [line.partition(":")[0] for line in caught.value.details] == list(TABLES)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "sql",
    ["select * from read_csv('{file}')", "select * from '{file}'", "select * from read_text('{file}')",
     "select * from read_blob('{file}')", "select * from glob('{folder}/*')", "select * from read_json('{file}')",
     "select * from sniff_csv('{file}')", "select * from parquet_scan('{file}')", "select getenv('HOME')",
     "explain analyze copy (select 1) to '{folder}/out.csv'", "select * from sqlite_scan('{file}', 't')",
     "select * from caught", "select * from found", "select * from TABLES", "select * from index",
     "select * from query_table('{file}')", "select * from query('copy runs to ''{folder}/out.csv''')",
     "from read_duckdb('{file}')", "select * from read_csv_auto(['{file}'])", "explain copy runs to '{folder}/out.csv'"],
)  # fmt: skip
def test_neither_files_nor_variables_are_seen(three, tmp_path, sql):
    file = tmp_path / "secret.csv"
    file.write_text("a,b\nsecret,2\n")
    found = Table(["a"], [["secret"]])  # a name that DuckDB might look up
    try:
        said = str(three(sql.format(file=file, folder=tmp_path)))
    except LightexError as error:
        said = str(error)
    assert "secret,2" not in said
    assert "Python" not in said
    assert os.environ["HOME"] not in said
    assert not list(tmp_path.glob("out*"))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select", r"^Parser Error: "),
        ("select nothing from runs", r'^Binder Error: Referenced column "nothing" not found'),
        ("select * from nowhere", r"^Catalog Error: Table with name nowhere does not exist"),
        ("select cast('a' as int)", r"^Conversion Error: "),
    ],
)
def test_what_is_wrong_is_told_with_what_there_is(three, sql, message):
    with pytest.raises(LightexError, match=message):
        three(sql)


def test_answers_of_all_kinds_can_be_written(three, tmp_path):
    sql = """select 0.1 as decimal, to_timestamp(0) as moment, date '2026-01-02' as day, 1::hugeint << 100 as huge,
             interval 3 hours as span, [1, 2] as list, {'a': 1, 'b': null} as struct, map {'k': 1.5} as map, 'x'::blob as blob,
             uuid() is null as flag, null as nothing, 'nan'::double as odd, id, id, id as "ID" from runs limit 1"""  # fmt: skip
    with Index(Root(three.root)) as index:
        found = query(index, sql)
    assert len({name.lower() for name in found.columns}) == 15
    assert (found.column("decimal"), found.column("day")) == ([0.1], [date(2026, 1, 2)])
    assert found.column("moment")[0].timestamp() == 0
    assert math.isnan(found.column("odd")[0])
    _, row = found.to_csv().splitlines()
    assert row.startswith("0.1,1970-01-01T00:00:00+00:00,2026-01-02,1.2676506002282294e+30,10800.0,")
    assert '"list": [\n' in found.to_json()
    assert found.to_jsonl().count("\n") == 1
    found.to_parquet(tmp_path / "x.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.to_pandas().shape == found.to_polars().shape == (1, 15)


def test_a_broken_run_hides_no_other(three):
    bad = three.root / "demo" / "260101-000000-s-1"
    (bad / "run.json").unlink()
    (bad / "events.jsonl").write_bytes(b'{"process":[1],"reason":{"a":1},"time":"x","attempt":null}\n\xff\n')
    assert three("select count(*) from runs where reason like 'broken%'") == [[1]]
    assert three("select count(distinct run) from events") == [[3]]
    (bad / "events.jsonl").unlink()
    (bad / "events.jsonl").mkdir()
    assert three("select count(distinct run) from events") == [[2]]
