"""A stand-in for W&B's service, on loopback, that the real `wandb` talks to.

It answers the GraphQL operations that W&B's own client sends, in the shape that the client reads: who I am, the runs of
a project by the page, a run's config and summary (as JSON texts), its history by steps or as parquet files, its files.
It also takes in what the client uploads, so that a run can be recorded by `wandb.init` and read back.

It is not the service, whose source is closed, and no test with it says how that one behaves. What is known of the
service is known from its client's source, tests and issues: a page ends at a cursor, `history` holds also what is in
parquet files (older clients read nothing else) and is thinned out beyond `samples` rows, a project that one may not see
is null, a key that is not known is answered with 401.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.services import free_port

KEY = "0123456789abcdef" * 2 + "01234567"  # as long as W&B's are

_OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")
Answer = tuple[int, Any]
Fault = Callable[[str, dict[str, Any]], Answer | None]


@dataclass
class StoredRun:
    """A run as the service keeps it. `config` is {name: {"value": ...}}, `history` the rows that `wandb.log` wrote.

    Attributes:
        exported: how many rows are in parquet files; None: the service has no such files of the run.
    """

    name: str
    display: str = ""
    state: str = "finished"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    sweep: str | None = None
    created: str = "2024-03-01T10:00:00Z"
    heartbeat: str = "2024-03-01T10:05:00Z"
    user: str = "ann"
    exported: int | None = None

    def shown(self, number: int) -> dict[str, Any]:
        """Its fields, of which only those that a query asks for go out."""
        return {
            "id": base64.b64encode(f"Run:v1:{self.name}".encode()).decode(),
            "projectId": "7",
            "tags": self.tags,
            "name": self.name,
            "displayName": self.display or f"run-{number + 1}",
            "sweepName": self.sweep,
            "state": self.state,
            "config": json.dumps(self.config),
            "group": self.group,
            "jobType": self.job_type,
            "commit": None,
            "readOnly": False,
            "createdAt": self.created,
            "heartbeatAt": self.heartbeat,
            "description": None,
            "notes": self.notes,
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.history),
            "user": {"name": self.user.title(), "username": self.user},
            "historyKeys": {"lastStep": self.history[-1]["_step"], "keys": {}, "sets": []} if self.history else None,
        }


class WandbServer:
    """Projects ("entity/name") of runs, in the order of their making.

    Attributes:
        asked: name and variables of each GraphQL operation so far.
        fault: may answer in the place of the service: is given the name of an operation (or the method and path of a
            file) and its variables, returns a status and what to send.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.projects: dict[str, dict[str, StoredRun]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.fault: Fault | None = None
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def up(self) -> None:
        """Answer from now on."""
        service = self

        class Handler(_Handler):
            server_of = service

        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def add(self, project: str, run: StoredRun) -> StoredRun:
        """Keep a run."""
        return self.projects.setdefault(project, {}).setdefault(run.name, run)

    def times(self, operation: str) -> int:
        """How often an operation was asked for."""
        return sum(name == operation for name, _ in self.asked)

    def graphql(self, query: str, variables: dict[str, Any]) -> Answer:
        """Answer one operation."""
        found = _OPERATION.search(query)
        name = found[1] if found else "Viewer" if "viewer" in query else query[:40]
        with self._lock:
            self.asked.append((name, variables))
        if self.fault is not None and (answer := self.fault(name, variables)) is not None:
            return answer
        if name.startswith("Probe"):  # clients between 0.20 and 0.27 ask which fields there are
            return 200, {"data": {each: {"fields": _FIELDS} for each in re.findall(r"(\w+): *__type", query)}}
        reply = getattr(self, f"_{name.lower()}", None)
        if reply is None:
            known = "viewer" in query and self._viewer(variables, query)
            return (200, {"data": known}) if known else (400, {"errors": [{"message": f"unknown operation {name}"}]})
        return 200, {"data": reply(variables, query)}

    def file(self, path: str) -> Answer:
        """A file of a run, or its history."""
        if self.fault is not None and (answer := self.fault(f"GET {path}", {})) is not None:
            return answer
        kind, entity, project, name, rest = [urllib.parse.unquote(part) for part in path[1:].split("/", 4)]
        run = self.projects.get(f"{entity}/{project}", {}).get(name)
        if run is None:
            return 404, {"error": "no such run"}
        if kind == "parquet":
            return 200, _parquet(run.history[: run.exported])
        return (200, run.files[rest]) if rest in run.files else (404, {"error": "no such file"})

    # --- what is asked of it

    def _viewer(self, *_: Any) -> Any:
        return {"viewer": {"id": "VXNlcjox", "entity": "ann", "username": "ann", "email": "ann@example.org", "flags": "{}",
                           "name": "Ann", "admin": False, "teams": {"edges": [{"node": {"name": "team"}}]}}}  # fmt: skip

    def _serverinfo(self, *_: Any) -> Any:
        return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None}}

    def _serverfeaturesquery(self, *_: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def _getprojects(self, variables: dict[str, Any], _: str) -> Any:
        names = [name for name in self.projects if name.startswith(f"{variables['entity']}/")]
        nodes = [{"__typename": "Project", "id": "UA==", "name": name.partition("/")[2], "createdAt": "2024-01-01T00:00:00Z",
                  "entityName": variables["entity"], "isBenchmark": False, "user": None} for name in names]  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": [{"node": node, "cursor": "c"} for node in nodes]}}

    _projects = _getprojects  # as older clients call it

    def _runs(self, variables: dict[str, Any], query: str) -> Any:
        runs = self.projects.get(f"{variables['entity']}/{variables['project']}")
        if runs is None:
            return {"project": None}
        nodes = [_asked_for(run.shown(number), query) for number, run in enumerate(runs.values())]
        nodes = nodes[::-1] if (variables.get("order") or "").startswith("-") else nodes
        return {
            "project": {
                "internalId": "7",
                "readOnly": False,
                "runCount": len(nodes),
                "runs": _page(nodes, variables.get("cursor"), variables["perPage"]),
            }
        }

    def _run(self, variables: dict[str, Any], query: str) -> Any:
        return self._of(variables, lambda run: _asked_for(run.shown(0), query))

    def _runhistorykeys(self, variables: dict[str, Any], _: str) -> Any:
        return self._of(variables, lambda run: {"historyKeys": run.shown(0)["historyKeys"]})

    def _historypage(self, variables: dict[str, Any], _: str) -> Any:
        low, high, most = (int(variables[name]) for name in ("minStep", "maxStep", "pageSize"))

        def rows(run: StoredRun) -> Any:
            found = [row for row in run.history if low <= row["_step"] < high]
            thin = found if len(found) <= most else found[:: -(-len(found) // most)]
            return {"history": [json.dumps(row) for row in thin]}

        return self._of({**variables, "name": variables["run"]}, rows)

    def _runparquethistory(self, variables: dict[str, Any], _: str) -> Any:
        path = "/".join(urllib.parse.quote(variables[name], safe="") for name in ("entity", "project", "runName"))

        def history(run: StoredRun) -> Any:
            live = run.history[run.exported or 0 :]
            urls = [f"{self.url}/parquet/{path}/0.parquet"] if run.exported else []
            return {"parquetHistory": {"parquetUrls": urls, "liveData": [{"_step": row["_step"]} for row in live]}}

        return self._of({**variables, "name": variables["runName"]}, history)

    def _runfiles(self, variables: dict[str, Any], _: str) -> Any:
        path = "/".join(urllib.parse.quote(variables[name], safe="") for name in ("entity", "project", "name"))

        def files(run: StoredRun) -> Any:
            wanted = variables.get("fileNames") or list(run.files)
            nodes = []
            for name in (name for name in wanted if name in run.files):
                url = f"{self.url}/files/{path}/{urllib.parse.quote(name)}"
                data = run.files[name]
                nodes.append({"id": name, "name": name, "url": url, "directUrl": f"{url}?signed=1",
                              "sizeBytes": str(len(data)), "mimetype": "text/plain", "md5": "",
                              "updatedAt": run.heartbeat})  # fmt: skip
            return {"fileCount": len(nodes), "files": _page(nodes, variables.get("fileCursor"), variables["fileLimit"])}

        return self._of(variables, files, internalId="7")

    def _of(self, variables: dict[str, Any], told: Callable[[StoredRun], Any], **more: Any) -> Any:
        runs = self.projects.get(f"{variables['entity']}/{variables['project']}")
        if runs is None:
            return {"project": None}
        run = runs.get(variables["name"])
        return {"project": {**more, "run": None if run is None else told(run)}}

    # --- what it takes in

    def _upsertbucket(self, variables: dict[str, Any], _: str) -> Any:
        entity, project = variables.get("entity") or "ann", variables.get("project") or "uncategorized"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        run = self.add(f"{entity}/{project}", StoredRun(variables["name"], state="running", created=now, heartbeat=now))
        run.display = variables.get("displayName") or run.display
        run.group, run.notes = variables.get("groupName") or run.group, variables.get("notes") or run.notes
        run.job_type, run.tags = variables.get("jobType") or run.job_type, variables.get("tags") or run.tags
        run.config = json.loads(variables["config"]) if variables.get("config") else run.config
        place = {"id": "UA==", "name": project, "entity": {"id": "RQ==", "name": entity}}
        bucket = _asked_for(run.shown(0), _) | {"description": None, "project": place}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _createrunfiles(self, variables: dict[str, Any], _: str) -> Any:
        path = "/".join(urllib.parse.quote(variables[name], safe="") for name in ("entity", "project", "run"))
        files = [{"name": name, "uploadUrl": f"{self.url}/files/{path}/{urllib.parse.quote(name)}"}
                 for name in variables["files"]]  # fmt: skip
        return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}

    def put(self, path: str, body: bytes) -> None:
        """A file that is uploaded."""
        _, entity, project, name, rest = [urllib.parse.unquote(part) for part in path[1:].split("/", 4)]
        self.projects[f"{entity}/{project}"][name].files[rest] = body

    def stream(self, path: str, told: dict[str, Any]) -> None:
        """The history of a run as it is made, its summary, and its end."""
        _, entity, project, name, _ = [urllib.parse.unquote(part) for part in path[1:].split("/")]
        run = self.projects[f"{entity}/{project}"][name]
        files = told.get("files") or {}
        for line in files.get("wandb-history.jsonl", {}).get("content", ()):
            run.history.append(json.loads(line))
        for line in files.get("wandb-summary.json", {}).get("content", ()):
            run.summary = json.loads(line)
        if told.get("complete"):
            run.state = "failed" if told.get("exitcode") else "finished"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        self._open: list[socket.socket] = []
        super().__init__(*given)

    def get_request(self) -> Any:
        self._open.append((made := super().get_request())[0])
        return made

    def server_close(self) -> None:
        """End what is open, too: clients ask again and again over one connection."""
        super().server_close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one packet, not in two of which the second waits for the first
    server_of: WandbServer

    def do_GET(self) -> None:
        self._send(*(self.server_of.file(self.path.partition("?")[0]) if self._known() else _UNKNOWN))

    def do_POST(self) -> None:
        body = self._body()
        if not self._known():
            self._send(*_UNKNOWN)
        elif self.path == "/graphql":
            told = json.loads(body)
            self._send(*self.server_of.graphql(told["query"], told.get("variables") or {}))
        else:
            self.server_of.stream(self.path, json.loads(body))
            self._send(200, {})

    def do_PUT(self) -> None:
        self.server_of.put(self.path.partition("?")[0], self._body())
        self._send(200, {})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _known(self) -> bool:
        """Whether the key is right; parquet files are at addresses that are signed."""
        given = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        return self.headers.get("Authorization") == given or self.path.startswith("/parquet/")

    def _send(self, status: int, told: Any) -> None:
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 429:
            self.send_header("Retry-After", "0")  # a test does not wait
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


_FIELDS = [{"name": name} for name in (*StoredRun("").shown(0), "internalId")]
_UNKNOWN: Answer = (
    401,
    {"errors": [{"message": "user is not logged in", "path": ["viewer"]}], "data": {"viewer": None}},
)


def _asked_for(fields: dict[str, Any], query: str) -> dict[str, Any]:
    words = set(re.findall(r"\w+", query))
    return {name: value for name, value in fields.items() if name in words}


def _page(nodes: list[Any], cursor: str | None, size: int) -> dict[str, Any]:
    start = int(base64.b64decode(cursor)) + 1 if cursor else 0
    shown = range(start, min(start + size, len(nodes)))
    edges = [{"node": nodes[at], "cursor": base64.b64encode(str(at).encode()).decode()} for at in shown]
    last = edges[-1]["cursor"] if edges else None
    return {"edges": edges, "pageInfo": {"endCursor": last, "hasNextPage": shown.stop < len(nodes)}}


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a parquet file: what a row lacks is null, in nested columns too."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()
