"""`lx mlflow`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import click

from lightex.core.errors import LightexError, needing
from lightex.core.root import Root
from lightex.core.rundir import RunDir

_IMAGE = "v3.4.0"


class _Group(click.Group):
    """What is no command of its own is for the one that serves."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with `serve` where no command is named."""
        named = args and (args[0] in self.commands or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if named else ["serve", *args])


@click.group(cls=_Group)
def command() -> None:
    """Open MLflow's own UI on the runs at hand, or print what sets up a team's server on Kubernetes.

    \b
    lx mlflow [RUN|SWEEP]...      the UI, on these runs (default: all)
    lx mlflow manifest -n team    YAML of a server: pipe it to kubectl apply -f -
    """


@command.command()
@click.option("--namespace", "-n", default="default", show_default=True, help="Where it goes.")
@click.option("--image", default=f"ghcr.io/mlflow/mlflow:{_IMAGE}", show_default=True, help="An image with MLflow.")
@click.option("--size", default="10Gi", show_default=True, help="Of the volume that keeps runs and artifacts.")
@click.option("--storage-class", help="Of the volume (default: the cluster's own).")
def manifest(namespace: str, image: str, size: str, storage_class: str | None) -> int:
    """Print the YAML of an MLflow server for a team, and how experiments find it."""
    from lightex.dispatcher.engines.cluster.mlflow import as_yaml

    click.echo(as_yaml(namespace, image, size, storage_class))
    return 0


@command.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.option("--port", type=int, default=5000, show_default=True, help="Where to serve; 0: any free port.")
@click.pass_obj
def serve(root: str | None, which: tuple[str, ...], port: int) -> int:
    """Bring runs (default: all) to a local MLflow store, and serve MLflow's own UI on it until Ctrl-C.

    Runs that have a tracking server of their own stay there.
    """
    from lightex.mulogger.delivery import choose
    from lightex.mulogger.sinks.mlflow import local_store
    from lightex.mulogger.sync import sync

    port = _free(port)
    folder = Root.locate(root)
    runs = [run for prefix in which for run in folder.find(prefix)] if which else list(folder.runs())
    with needing("this needs", "'lightex[mlflow]'"):
        import mlflow  # noqa: F401  told before anything is brought over
    elsewhere = 0
    failed = []
    with click.progressbar(runs, label="to MLflow", item_show_func=lambda run: run.short_id if run else "") as bar:
        for run in bar:
            place = _place(run)
            if place not in (None, local_store()):
                elsewhere += 1
                continue
            if place is None:
                choose(run, "mlflow", {"tracking_uri": local_store()})
            lag = sync(run, "mlflow")
            failed += [f"{run.short_id}: {lag.error}"] if lag.error else []
    if elsewhere:
        click.echo(f"{elsewhere} runs are on a tracking server of their own and stay there")
    for line in failed[:5]:
        click.echo(line, err=True)
    click.echo(f"MLflow on {len(runs) - elsewhere - len(failed)} runs: http://127.0.0.1:{port}  (Ctrl-C ends it)")
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", local_store(), "--workers", "1"]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *arguments], env={**os.environ})
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 0


def _place(run: RunDir) -> str | None:
    """The MLflow store that a run is in, or None."""
    from lightex.mulogger.delivery import chosen, progress

    if "mlflow" not in chosen(run):
        return None
    state = progress(run, "mlflow").state
    return str(state.get("tracking_uri", "")) or None


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LightexError(
                f"port {port} of 127.0.0.1 is taken: {error.strerror}", "choose another: lx mlflow --port 0"
            ) from error
        return int(probe.getsockname()[1])
