"""The MLflow server of a team, as objects of Kubernetes: one that everybody's experiments log to."""

from __future__ import annotations

from typing import Any

from lightex.dispatcher.engines.cluster.printing import dump

NAME = "mlflow"
PORT = 5000

_KEPT = "/mlflow"  # where the volume is seen
_USER = 1000


def objects(namespace: str, image: str, size: str, storage_class: str | None = None) -> list[dict[str, Any]]:
    """A volume that keeps runs and artifacts, the server, and the name that it is found by.

    Args:
        namespace: where.
        image: with MLflow in it.
        size: of the volume, such as "10Gi".
        storage_class: of the volume; None: the cluster's default.
    """
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": "lightex"}
    about = {"name": NAME, "namespace": namespace, "labels": labels}
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    claim |= {"storageClassName": storage_class} if storage_class else {}
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # its MLFLOW_PORT would be taken for an option
        "securityContext": {"runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER},
        "containers": [_server(namespace, image)],
        "volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": NAME}}],
    }
    selector = {"app.kubernetes.io/name": NAME}
    deployment = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # two servers would write one SQLite file
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    service = {"selector": selector, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": claim},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": service},
    ]


def arguments(namespace: str, kept: str = _KEPT, host: str = "0.0.0.0", port: int = PORT) -> list[str]:  # noqa: S104
    """The arguments of `mlflow server`."""
    names = [NAME, f"{NAME}.{namespace}", f"{NAME}.{namespace}.svc", f"{NAME}.{namespace}.svc.cluster.local"]
    hosts = [*names, "localhost", "127.0.0.1"]  # the last ones: of kubectl port-forward
    store = ["--backend-store-uri", f"sqlite:///{kept}/mlflow.db", "--artifacts-destination", f"{kept}/artifacts"]
    allowed = ",".join([*hosts, *(f"{name}:{PORT}" for name in hosts)])
    return ["--host", host, "--port", str(port), *store, "--allowed-hosts", allowed]


def _server(namespace: str, image: str) -> dict[str, Any]:
    return {
        "name": NAME,
        "image": image,
        "command": ["mlflow", "server"],
        "args": arguments(namespace),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
        "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "volumeMounts": [{"name": "kept", "mountPath": _KEPT}],
    }


def as_yaml(namespace: str, image: str, size: str, storage_class: str | None = None) -> str:
    """The objects as YAML, and how experiments find the server; arguments as of `objects`."""
    inside = f"http://{NAME}.{namespace}:{PORT}"
    lines = [
        "# An MLflow server for all who use this cluster. Apply it:",
        f"#   kubectl create namespace {namespace}; lx mlflow manifest -n {namespace} | kubectl apply -f -",
        "# It asks nobody for a password: whoever reaches it in the cluster can read and write there.",
        f"# Inside the cluster it is {inside}, outside (lx feeds it from your machine):",
        f"#   kubectl -n {namespace} port-forward service/{NAME} {PORT}:{PORT}",
        "# In lxconfig.py, the address outside is for lx, and the one inside for what commands log by themselves:",
        f'#   loggers=[Logger("mlflow", {{"tracking_uri": "http://127.0.0.1:{PORT}"}})],',
        f'#   env={{"MLFLOW_TRACKING_URI": "{inside}"}},',
    ]
    return "\n".join([*lines, dump(objects(namespace, image, size, storage_class))])
