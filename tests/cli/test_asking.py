"""Asking after runs from the command line: ls, query, note, plot, compare, diff."""

import csv
import io
import json
import subprocess

import pyarrow.parquet as pq
import pytest

from tests.helpers import make_run


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def six(project):
    """Two learning rates with three seeds each, one run failed, one without the metric."""
    for place in range(6):
        lr, seed = [0.1, 0.01][place % 2], place // 2
        points = [{"metrics": {"loss": lr * (3 - step) + seed / 1000, "acc": 0.5}, "step": step} for step in range(3)]
        make_run(project / "runs", f"3f9a-{place:03}", {"lr": lr, "seed": seed, "epochs": 3}, *(points if place < 5 else []),
                 sweep="3f9a", varied={"hp.lr": lr, "hp.seed": seed}, state="FAILED" if place == 5 else "SUCCEEDED",
                 config={"resources": {"cpus": 1 + (place == 0)}})  # fmt: skip
    return project / "runs"


def ids(text):
    return [line.split()[0][-1] for line in text.splitlines()[1:]]


# ---------------------------------------------------------------------- ls


def test_ls_selects_orders_and_shows_what_the_filter_names(six, lx):
    done = lx("ls", "-w", "hp.lr < 0.1 and loss is not null order by loss desc")
    header, *rows = done.out.splitlines()
    assert header.split() == ["run", "experiment", "state", "when", "hp.lr", "loss"]
    assert [row.split()[0] for row in rows] == ["3f9a-003", "3f9a-001"]
    assert "no runs in" in lx("ls", "-w", "hp.lr > 5").out
    assert ids(lx("ls", "3f9a-000", "3f9a-001", "-w", "order by id desc").out) == ["1", "0"]


def test_states_and_a_filter_go_together(six, lx):
    assert ids(lx("ls", "-s", "failed").out) == ["5"]
    assert ids(lx("ls", "-s", "succeeded", "-w", "hp.lr < 1 order by loss limit 2").out) == ["1", "3"]
    assert ids(lx("ls", "-s", "failed", "-w", "3f9a-000 or 3f9a-005").out) == ["5"]
    assert ids(lx("ls", "-s", "failed", "-s", "succeeded", "-w", "order by id limit 1").out) == ["0"]
    assert lx("ls", "-s", "failed", "-w", "hp.lr >").err == (
        "error: expected a value, the filter ends\n  hp.lr >\n         ^\n"
    )


def test_runs_that_were_put_away_are_left_out_unless_one_asks_for_them(six, lx):
    assert lx("note", "3f9a-001", "--archive").out == "3f9a-001  archived\n"
    assert ids(lx("ls").out) == ["0", "2", "3", "4", "5"]
    assert ids(lx("ls", "-w", "order by loss limit 2").out) == ["3", "0"]
    assert ids(lx("ls", "--archived").out) == ["0", "1", "2", "3", "4", "5"]
    assert ids(lx("ls", "-w", "archived = true").out) == ["1"]
    assert ids(lx("ls", "3f9a-001").out) == ["1"]
    assert "3f9a-001" not in lx("compare", "-w", "", "--each").out
    assert lx("note", "3f9a-001", "--unarchive").out == "3f9a-001  nothing is noted\n"
    assert ids(lx("ls").out) == ["0", "1", "2", "3", "4", "5"]


def test_tables_are_written_in_the_format_that_the_name_ends_in(six, lx, project):
    expected = lx("ls", "--csv", "-w", "order by loss").out
    rows = list(csv.DictReader(io.StringIO(expected)))
    assert list(rows[0]) == [
        "id",
        "experiment",
        "status",
        "created",
        "duration",
        "loss",
        "hp.lr",
        "hp.seed",
        "hp.epochs",
        "acc",
    ]
    assert rows[-1]["loss"] == ""
    for name in ("x.csv", "x.json", "x.jsonl", "X.PARQUET"):
        done = lx("ls", "-w", "order by loss", "-o", name)
        assert (done.code, done.out, done.err) == (0, "", f"6 rows in {name}\n")
    assert (project / "x.csv").read_text().splitlines() == expected.splitlines()
    assert json.loads((project / "x.json").read_text())[0]["hp.lr"] == 0.01
    assert len((project / "x.jsonl").read_text().splitlines()) == 6
    assert pq.read_table(project / "X.PARQUET").num_rows == 6
    done = lx("ls", "-o", "x.txt")
    assert (done.code, done.err) == (
        2, "error: cannot tell the format of x.txt\n  end its name in .csv, .json, .jsonl, .parquet\n",
    )  # fmt: skip
    for name in ("nowhere/x.csv", "nowhere/x.parquet"):
        assert lx("ls", "-o", name).err == f"error: cannot write {name}: No such file or directory\n"
    assert [path.name for path in project.iterdir() if "part" in path.name] == []


def test_a_broken_run_is_shown_and_hides_no_other(six, lx):
    (six / "demo" / "260101-000000-3f9a-002" / "config.json").write_text('{"metric": "loss"}')
    for arguments in (["ls"], ["ls", "-a"], ["ls", "-w", ""]):
        out = lx(*arguments).out
        assert ids(out) == ["0", "1", "2", "3", "4", "5"]
        assert "broken: KeyError: 'mode'" in out


def test_a_filter_that_is_no_utf8_is_an_error(six):
    from tests.helpers import LX

    done = subprocess.run([*LX, "ls", "-w", b"note = \xff"], check=False, capture_output=True)
    assert done.returncode == 2
    assert done.stderr == b"error: this is not UTF-8\n  note = ?\n         ^\n"


# ---------------------------------------------------------------------- query


def test_query_prints_a_table_json_or_csv_or_writes_a_file(six, lx, project):
    sql = 'select "hp.lr" as lr, count(*) as n, 0.5 as half from runs group by 1 order by 1'
    assert lx("query", sql).out.splitlines() == ["  lr  n  half", "0.01  3   0.5", " 0.1  3   0.5"]
    assert lx("query", sql, "--json").json == [{"lr": 0.01, "n": 3, "half": 0.5}, {"lr": 0.1, "n": 3, "half": 0.5}]
    assert lx("query", sql, "--csv").out.splitlines() == ["lr,n,half", "0.01,3,0.5", "0.1,3,0.5"]
    assert lx("query", sql, "-o", "x.parquet").err == "2 rows in x.parquet\n"
    assert lx("query", "select id from runs where sweep = 'x'").out == "no rows: id\n"
    done = lx("query", "select nothing from runs")
    assert done.code == 2
    assert done.err.startswith('error: Binder Error: Referenced column "nothing" not found')
    assert "metrics: run, name, step, time, value" in done.err
    assert lx("query", "drop table runs").err.startswith("error: only one SELECT is taken")


# ---------------------------------------------------------------------- note


def test_notes_are_kept_in_runs_and_found_by_filters(six, lx):
    assert lx("note", "3f9a-000", "3f9a-001", "-m", "größe\nzwei", "-t", "team=a=b", "-t", "x=").code == 0
    assert lx("note", "3f9a-000").out == "3f9a-000  größe\nzwei  team=a=b  x taken away\n"
    assert ids(lx("ls", "-w", "note contains GRÖSSE and tags.team = 'a=b'").out) == ["0", "1"]
    assert "# größe zwei" in lx("ls").out
    lx("note", "3f9a-000", "-m", "")
    assert lx("note", "3f9a-000", "--json").json == {
        "260101-000000-3f9a-000": {"note": "", "tags": {"team": "a=b", "x": None}, "archived": False}
    }
    assert ids(lx("ls", "-w", "note contains GRÖSSE").out) == ["1"]


def test_what_is_no_tag_and_no_run_is_an_error_and_changes_nothing(six, lx):
    done = lx("note", "3f9a", "-m", "x", "-t", "team")
    assert (done.code, done.err) == (2, "error: not a tag: 'team'\n  write NAME=VALUE, e.g. --tag team=vision\n")
    assert lx("note", "3f9b", "-m", "x").code == 2
    assert lx("note", "3f9a").out.count("nothing is noted") == 6


# ---------------------------------------------------------------------- plot


def test_plot_draws_in_the_terminal_and_to_files(six, lx, project):
    out = lx("plot", "loss", "-w", "succeeded order by loss limit 2").out
    assert "3f9a-001  lr=0.01 seed=0" in out
    assert "3f9a-003  lr=0.01 seed=1" in out
    assert out.count("3f9a-") == 2
    assert lx("plot", "loss", "3f9a", "-o", "x.PNG").err == "5 curves of loss in x.PNG\n"
    assert (project / "x.PNG").read_bytes().startswith(b"\x89PNG")
    points = lx("plot", "los", "3f9a-000", "--json").json
    assert points[0]["y"] == pytest.approx([0.3, 0.2, 0.1])
    assert points[0]["x"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "error: no metric 'nope' in these runs.\n  there are: loss, acc\n"),
        (["los", "3f9a-005"], "error: no metric 'los' in these runs.\n  there are: none\n"),
        (["lss"], "error: no metric 'lss' in these runs. Did you mean 'loss'?\n  there are: loss, acc\n"),
        (["s"], "error: no metric 's' in these runs.\n  there are: none\n"),
        (
            ["loss", "-o", "x.gif"],
            "error: cannot tell the format of x.gif\n  end its name in .png, .svg, .pdf or .html\n",
        ),
        (["loss", "-o", "no/x.png"], "error: cannot write no/x.png: No such file or directory\n"),
        (["loss", "-w", "loss >"], "error: expected a value, the filter ends\n  loss >\n        ^\n"),
        (["loss", "3f9z"], "error: no run '3f9z'. The latest is '3f9a-005'.\n  lx ls shows what there is\n"),
    ],
)
def test_what_cannot_be_drawn_is_told(six, lx, arguments, message):
    if arguments == ["s"]:
        arguments = ["s", "3f9a-005"]
    done = lx("plot", *arguments)
    assert (done.code, done.err) == (2, message)


# ---------------------------------------------------------------------- compare


def test_seeds_are_one_row_with_mean_and_spread_best_first(six, lx):
    out = lx("compare", "3f9a").out.splitlines()
    assert out[0].split() == ["runs", "n", "lr", "acc", "↑", "loss"]
    out = lx("compare", "3f9a", "--by", "loss").out.splitlines()
    assert out[0].split() == ["runs", "n", "lr", "loss", "↓", "acc"]
    assert out[1].split() == [
        "3f9a-001",
        "+2",
        "3",
        "0.01",
        "0.0105",
        "±",
        "0.0007071",
        "(2)",
        "*",
        "0.5",
        "±",
        "0",
        "(2)",
    ]
    assert out[2].split() == ["3f9a-000", "+2", "3", "0.1", "0.101", "±", "0.001", "0.5", "±", "0"]
    assert out[3] == "mean ± standard deviation over hp.seed. Each run: lx compare --each"
    assert "same for all: epochs=3" in out[4]
    assert "config differs: resources.cpus 1 | 2" in out[5]
    assert out[-2] == "1 failed, e.g. 3f9a-005: lx why tells more"
    assert out[-1].startswith("best: 3f9a-001.")


def test_each_run_has_a_row_and_only_the_best_value_is_marked(six, lx):
    out = lx("compare", "3f9a", "--each", "--by", "loss").out.splitlines()
    assert [row.split()[0] for row in out[1:7]] == [f"3f9a-00{n}" for n in (1, 3, 0, 2, 4, 5)]
    assert [row.count("*") for row in out[1:7]] == [1, 0, 0, 0, 0, 0]
    assert len(lx("compare", "3f9a", "--each", "--top", "2").out.splitlines()[1:]) > 2
    found = lx("compare", "-w", "hp.lr = 0.1", "--json", "--by", "loss", "--top", "1").json
    assert [run["id"][-3:] for run in found["runs"]] == ["000"]


def test_runs_that_are_equal_are_one_row_too(project, lx):
    for place in range(2):
        make_run(project / "runs", f"same-{place}", {"lr": 1}, {"metrics": {"loss": place}})
    out = lx("compare", "-w", "").out
    assert "mean ± standard deviation over equal runs. Each run: lx compare --each" in out


def test_importance_names_the_parameter_that_matters_first(six, lx):
    out = lx("compare", "3f9a", "--importance", "--by", "loss").out.splitlines()
    at = out.index("importance for loss (share of its variance)")
    assert out[at + 1].split()[-1] == "hp.lr"
    found = lx("compare", "3f9a", "--importance", "--json", "--by", "loss").json["importance"]
    assert list(found) == ["hp.lr", "hp.seed"]
    assert lx("compare", "3f9a-000", "3f9a-001", "--importance").err == (
        "error: importance needs 4 runs or more with 'acc', there are 2\n"
    )


def test_a_comparison_can_be_written(six, lx, project):
    assert lx("compare", "3f9a", "--by", "loss", "-o", "x.csv").err == "6 rows in x.csv\n"
    rows = list(csv.DictReader(io.StringIO((project / "x.csv").read_text())))
    assert [row["id"][-1] for row in rows] == ["1", "3", "0", "2", "4", "5"]
    assert lx("compare", "-w", "hp.lr > 5").out == "no runs match\n"


# ---------------------------------------------------------------------- diff


def test_two_runs_differ_in_config_environment_and_code(project, lx):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    assert lx("run", "base").code == 0
    with (project / "train.py").open("a") as file:
        file.write("# changed\n")
    (project / "extra ü.py").write_text("extra\n")
    assert lx("run", "base", "hp.lr=0.5").code == 0
    one, two = (run["id"] for run in sorted(lx("ls", "--json").json, key=lambda run: run["created"]))
    out = lx("diff", one, two).out
    assert out.splitlines()[1].split() == ["hp.lr", "0.01", "0.5"]
    assert "+# changed" in out
    assert "+++ b/extra ü.py" in out
    assert {"hp.lr", "code"} <= set(lx("diff", one, two, "--json").json)
    assert lx("diff", one, one).out == f"{one} and {one} are equal\n"
    compared = lx("compare", one, two).out
    assert "code differs: " in compared
    assert f"See: lx diff {two[14:]} {one[14:]}" in compared or f"See: lx diff {one[14:]} {two[14:]}" in compared
    for archive in (project / "runs").glob(f"demo/{two}/code.*"):
        archive.unlink()
        archive.write_bytes(b"broken")
    done = lx("diff", one, two)
    assert done.code == 2
    assert done.err.startswith("error: the code of one cannot be read: ")
    assert "code." in done.err


def test_where_code_was_not_kept_it_is_said(six, lx):
    equal = lx("diff", "3f9a-002", "3f9a-002").out
    assert equal == "3f9a-002 and 3f9a-002 are equal; the code of 3f9a-002 and 3f9a-002 was not kept\n"
    done = lx("diff", "3f9a-002", "3f9a-003")
    assert "hp.lr" in done.out
    assert done.err == "the code of 3f9a-002 and 3f9a-003 was not kept\n"
