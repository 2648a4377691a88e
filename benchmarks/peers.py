"""What the peers do with the runs of a root, each a process of its own: python peers.py PEER ACTION STORE [ROOT].

PEER is mlflow, trackio or aim; ACTION is fill (with ROOT), list (filter by a parameter and the state, order by a
metric), or history (of one metric of 100 runs). Needs only the peer: it runs in whichever Python has it.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METRIC, PARAM, LEAST, HISTORIES = "val.acc", "hp.lr", 0.01, 100
STATUS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED", "LOST": "FAILED"}


def runs(root: str) -> Iterator[dict[str, Any]]:
    """Id, experiment, state, times, params by dotted names, tags and records of metrics of each run."""
    for folder in sorted(Path(root).glob("[!.]*/*"), key=lambda path: path.name):
        config = json.loads((folder / "config.json").read_bytes())
        events = [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]
        records = (json.loads(line) for line in (folder / "records.jsonl").read_bytes().splitlines())
        yield {
            "id": folder.name,
            "experiment": folder.parent.name,
            "state": events[-1]["state"],
            "began": events[0]["time"],
            "ended": events[-1]["time"],
            "params": flat(config["hp"], "hp."),
            "tags": config["tags"],
            "rows": [record for record in records if "metrics" in record],
        }


def flat(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Nested values by dotted names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


class Mlflow:
    """MLflow 3 on a SQLite store."""

    @staticmethod
    def client(store: str) -> Any:
        """Its own client."""
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{store}/mlflow.db")

    @classmethod
    def fill(cls, store: str, root: str) -> None:
        """By its API; the values before the last go into its table of metrics at once, as it would write them itself.

        log_batch takes 0.3 s for 1,000 values, five minutes for this.
        """
        from mlflow.entities import Metric, Param, RunTag

        client, experiments, rows = cls.client(store), {}, []
        for run in runs(root):
            if run["experiment"] not in experiments:
                experiments[run["experiment"]] = client.create_experiment(run["experiment"])
            made = client.create_run(experiments[run["experiment"]], round(run["began"] * 1000), run_name=run["id"])
            ident = made.info.run_id
            last = run["rows"][-1:]
            client.log_batch(
                ident,
                [Metric(k, v, round(r["time"] * 1000), r["step"]) for r in last for k, v in r["metrics"].items()],
                [Param(k, str(v)) for k, v in run["params"].items()],
                [RunTag(k, v) for k, v in run["tags"].items()],
            )
            client.set_terminated(ident, STATUS[run["state"]], round(run["ended"] * 1000))
            rows += [(name, value, round(row["time"] * 1000), ident, row["step"], 0)
                     for row in run["rows"][:-1] for name, value in row["metrics"].items()]  # fmt: skip
        with sqlite3.connect(f"{store}/mlflow.db") as database:
            columns = "key, value, timestamp, run_uuid, step, is_nan"
            database.executemany(f"INSERT INTO metrics ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)

    @classmethod
    def list(cls, store: str) -> int:
        """Its params are texts that it compares as such, so the parameter is looked at here."""
        client = cls.client(store)
        found: list[Any] = []
        token = None
        while True:
            page = client.search_runs(
                [each.experiment_id for each in client.search_experiments()],
                "attributes.status = 'FINISHED'",
                max_results=50_000,
                order_by=[f"metrics.`{METRIC}` DESC"],
                page_token=token,
            )
            found += [run for run in page if float(run.data.params[PARAM]) > LEAST]
            if not (token := page.token):
                return len(found)

    @classmethod
    def history(cls, store: str) -> int:
        """One call for each run: its client has no other."""
        client = cls.client(store)
        experiments = [each.experiment_id for each in client.search_experiments()]
        page = client.search_runs(experiments, "attributes.status = 'FINISHED'", max_results=HISTORIES)
        return sum(len(client.get_metric_history(run.info.run_id, METRIC)) for run in page)


class Trackio:
    """trackio's SQLite file, by the SQL that it offers (`trackio query`)."""

    @staticmethod
    def storage(store: str) -> Any:
        """Its own storage."""
        os.environ["TRACKIO_DIR"] = store
        from trackio.sqlite_storage import SQLiteStorage

        return SQLiteStorage

    @classmethod
    def fill(cls, store: str, root: str) -> None:
        """By its own call for many values."""
        storage = cls.storage(store)
        for run in runs(root):
            if run["rows"]:
                storage.bulk_log(
                    "bench",
                    run["id"],
                    [row["metrics"] for row in run["rows"]],
                    [row["step"] for row in run["rows"]],
                    config={**run["params"], "status": run["state"]},
                    run_id=run["id"],
                )

    @classmethod
    def list(cls, store: str) -> int:
        """Its table has a row per step, so the last one of each run is looked for."""
        sql = f"""SELECT c.run_id, c.config, m.metrics, json_extract(m.metrics, '$."{METRIC}"') AS value
            FROM configs c JOIN (SELECT run_id, MAX(step) AS step FROM metrics GROUP BY run_id) l ON l.run_id = c.run_id
            JOIN metrics m ON m.run_id = l.run_id AND m.step = l.step
            WHERE json_extract(c.config, '$."{PARAM}"') > {LEAST} AND json_extract(c.config, '$.status') = 'SUCCEEDED'
            ORDER BY value DESC"""
        return int(cls.storage(store).query_project("bench", sql, max_rows=10**6)["row_count"])

    @classmethod
    def history(cls, store: str) -> int:
        """One query for all."""
        sql = f"""SELECT run_id, step, timestamp, json_extract(metrics, '$."{METRIC}"') AS value FROM metrics
            WHERE run_id IN (SELECT run_id FROM configs WHERE json_extract(config, '$.status') = 'SUCCEEDED'
            ORDER BY run_id LIMIT {HISTORIES}) ORDER BY run_id, step"""
        return int(cls.storage(store).query_project("bench", sql, max_rows=10**6)["row_count"])


class Aim:
    """Aim's repository."""

    @staticmethod
    def fill(store: str, root: str) -> None:
        """Value by value: it has no other call."""
        import aim

        repo = aim.Repo(store, init=True)
        for found in runs(root):
            run = aim.Run(
                repo=repo, experiment=found["experiment"], log_system_params=False, capture_terminal_logs=False
            )
            run["hp"] = {name.removeprefix("hp."): value for name, value in found["params"].items()}
            run["status"] = found["state"]
            for row in found["rows"]:
                for name, value in row["metrics"].items():
                    run.track(value, name=name, step=row["step"])
            run.close()
        repo._recreate_index()  # `aim up` does so in the background; without it no query finds the runs

    @staticmethod
    def list(store: str) -> int:
        """Its query language filters; it has no order, so the last values are sorted here."""
        import aim
        from aim.storage.context import Context

        query = f"run.hp['{PARAM.removeprefix('hp.')}'] > {LEAST} and run.status == 'SUCCEEDED'"
        found = []
        for part in aim.Repo(store).query_runs(query, report_mode=0).iter_runs():
            metric = part.run.get_metric(METRIC, Context({}))
            found.append((metric.values.last()[1], part.run.hash, part.run["hp"]))
        found.sort(key=lambda each: each[0], reverse=True)
        return len(found)

    @staticmethod
    def history(store: str) -> int:
        """All values of the metric of the first runs."""
        import aim
        from aim.storage.context import Context

        count = 0
        query = "run.status == 'SUCCEEDED'"
        for number, part in enumerate(aim.Repo(store).query_runs(query, report_mode=0).iter_runs()):
            if number == HISTORIES:
                break
            metric = part.run.get_metric(METRIC, Context({}))
            count += len(metric.values.values_list())
        return count


PEERS = {"mlflow": Mlflow, "trackio": Trackio, "aim": Aim}

if __name__ == "__main__":
    peer, action, *places = sys.argv[1:]
    print(getattr(PEERS[peer], action)(*places))
