"""A job as objects of Kubernetes: the one description that the API gets and that `--print-manifest` shows."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError
from lightex.core.liveness import host, user
from lightex.core.units import parse_duration, parse_size
from lightex.dispatcher.engines.cluster import volumes
from lightex.dispatcher.engines.cluster.options import Options
from lightex.dispatcher.engines.containers import call
from lightex.dispatcher.engines.given import node_labels
from lightex.dispatcher.job import Job

COMMAND, STAGE, RETURN = "command", "stage", "return"
"""The containers of a pod: what is run; what brings its folders before; what takes them back."""

OURS = "app.kubernetes.io/managed-by"
MANAGED = {OURS: "lightex"}
"""The label of all that is ours."""

RUN_DIR, HOST, REMOTE = "lightex.run-dir", "lightex.host", "lightex.remote"
"""Annotations of a Job: the run's directory, the machine that it is on, and the store that it comes back by (JSON)."""

ATTEMPT = "lightex.attempt"
"""The label that says which attempt at its run a Job is."""

KEEP = "lightex.keep"
"""The label of a Job that stays after its end."""

RETURNS = 120
"""Seconds that the last of a run may take to be brought back after it was stopped."""

PORT = 29500
"""Where the first of several nodes listens, unless the config's env says otherwise: torchrun's default port."""

_WRAPPER = Path(__file__).with_name("wrapper.sh")
_SMALL = {"cpu": "10m", "memory": "64Mi"}  # what a container needs that waits and copies
_COPIER = {"requests": _SMALL, "limits": {"memory": "1Gi"}}


@dataclass(frozen=True)
class Travel:
    """What is brought to a pod and back, where nodes do not see it by themselves.

    Attributes:
        task: what `lightex.storage.node` is told.
        top: where the code is unpacked.
        returns: whether something is brought back.
        remote: the store of runs, as the Job's annotation has it; None: runs are seen by nodes.
        credentials: variables by which stores are reached.
    """

    task: Mapping[str, Any]
    top: Path | None
    returns: bool
    remote: Mapping[str, Any] | None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Objects:
    """What a job is in the cluster.

    Attributes:
        job: the Job.
        service: by which several nodes find each other.
        secret: variables that the Job's Secret holds, which are written down nowhere else.
    """

    job: dict[str, Any]
    service: dict[str, Any] | None
    secret: Mapping[str, str] = field(repr=False)


def selector() -> str:
    """What all Jobs and pods of this user have."""
    return f"{OURS}=lightex,lightex.user={label(user())}"


def label(text: str) -> str:
    """A text as the value of a label."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")


def objects(job: Job, image: str, options: Options, namespace: str, travel: Travel | None) -> Objects:
    """All that a job is in the cluster.

    Raises:
        ConfigError: nodes cannot see what it wants to see.
    """
    name, nodes = job.name, job.resources.nodes
    labels = {
        **MANAGED,
        "lightex.user": label(user()),
        "lightex.run": label(job.run.id),
        "lightex.sweep": label(str(job.env.get("LX_SWEEP", job.run.id))),
        "lightex.experiment": label(job.run.path.parent.name),
        ATTEMPT: str(job.attempt),
        KEEP: "yes" if call.of(job).keep else "no",
        **options.labels,
    }
    annotations = {RUN_DIR: str(job.run.path), HOST: host()}
    annotations |= {REMOTE: _json(travel.remote)} if travel and travel.remote else {}
    secret = {name: os.environ[name] for name in _inherited(job)}
    secret |= travel.credentials if travel and not options.s3_secret else {}
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": int(parse_duration(options.ttl)),
        "template": {
            "metadata": {
                "labels": labels,
                **({"annotations": dict(options.annotations)} if options.annotations else {}),
            },
            "spec": _merged(_pod(job, image, options, travel), options.pod),
        },
    }
    if options.deadline is not None:
        spec["activeDeadlineSeconds"] = math.ceil(parse_duration(options.deadline))
    if nodes > 1:
        spec |= {"completions": nodes, "parallelism": nodes, "completionMode": "Indexed"}
    queue = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {}
    about = {"name": name, "namespace": namespace, "labels": labels | queue, "annotations": annotations}
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}
    return Objects(made, _service(name, namespace, labels) if nodes > 1 else None, secret)


def _inherited(job: Job) -> tuple[str, ...]:
    """The variables of this process's environment that the command gets."""
    return call.inherited(job.inherit, _environment(job))


def _service(name: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Gives pods names that they find each other by, also before they are ready."""
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": name}}
    about = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}


def _pod(job: Job, image: str, options: Options, travel: Travel | None) -> dict[str, Any]:
    seen = volumes.of(job, travel.top if travel else None)
    user_id, group_id = options.ids
    security: dict[str, Any] = {"runAsUser": user_id, "runAsGroup": group_id}
    if options.user is None:
        security["supplementalGroups"] = sorted(set(os.getgroups()) - {group_id})
    if any("persistentVolumeClaim" in each for each in seen.volumes):
        security |= {"fsGroup": group_id, "fsGroupChangePolicy": "OnRootMismatch"}
    grace = math.ceil(job.grace) + (RETURNS if travel and travel.returns else 0)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace,
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": [_command(job, image, options, seen, travel)],
        "volumes": seen.volumes,
    }
    if options.service_account:
        pod["serviceAccountName"] = options.service_account
    else:
        pod["automountServiceAccountToken"] = False
    if travel:
        stage = _copier(STAGE, job, options, seen, travel)
        pod["initContainers"] = [stage]
        if travel.returns:
            pod["containers"].append(_copier(RETURN, job, options, seen, travel))
    pod |= _placing(job, options)
    if job.resources.nodes > 1:
        pod["subdomain"] = job.name
    return pod


def _placing(job: Job, options: Options) -> dict[str, Any]:
    """Where a pod may go, and what comes first."""
    found = {
        "imagePullSecrets": [{"name": each} for each in options.pull_secrets],
        "priorityClassName": options.priority_class,
        "nodeSelector": node_labels(job.resources) | dict(options.node_selector),
        "tolerations": [dict(each) for each in options.tolerations],
    }
    return {name: value for name, value in found.items() if value}


def _command(
    job: Job,
    image: str,
    options: Options,
    seen: volumes.Volumes,
    travel: Travel | None,
) -> dict[str, Any]:
    """The container of the command."""
    container = call.of(job)
    alive = volumes.ALIVE if travel and travel.returns else ""
    entrypoint = container.options.get("entrypoint")
    grace = f"{math.ceil(job.grace)}" if alive else ""  # else the node kills it
    words = [*filter(None, [str(entrypoint or "")]), *job.command]
    env = [{"name": name, "value": _literal(value)} for name, value in _environment(job).items()]
    env += [_from_secret(name, job.name) for name in _inherited(job)]
    made: dict[str, Any] = {
        "name": COMMAND,
        "image": image,
        "command": ["/bin/sh"],
        "args": [_literal(word) for word in ("-c", _script(), "lx", str(job.run.output_file), alive, grace, *words)],
        "workingDir": str(job.cwd),
        "env": env,
        "resources": _resources(job, options),
        "volumeMounts": seen.mounts,
    }
    if options.pull_policy:
        made["imagePullPolicy"] = options.pull_policy
    if options.secrets:
        made["envFrom"] = [{"secretRef": {"name": each}} for each in options.secrets]
    return made


def _copier(what: str, job: Job, options: Options, seen: volumes.Volumes, travel: Travel) -> dict[str, Any]:
    """A container with LightEx, which brings folders or takes them back."""
    if options.lightex_image is None:
        raise no_image()
    env = [{"name": "LX_NODE", "value": _literal(_json(travel.task))}, {"name": "HOME", "value": "/tmp"}]  # noqa: S108
    made: dict[str, Any] = {
        "name": what,
        "image": options.lightex_image,
        "command": ["python3", "-m", "lightex.storage.node", what],
        "env": env,
        "resources": _COPIER,
        "volumeMounts": seen.mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if options.pull_policy:
        made["imagePullPolicy"] = options.pull_policy
    if options.s3_secret:
        made["envFrom"] = [{"secretRef": {"name": options.s3_secret}}]
    else:
        env += [_from_secret(name, job.name) for name in travel.credentials]
    return made


def no_image() -> ConfigError:
    """The error of an experiment whose folders are to be staged by an image that it does not name."""
    return ConfigError(
        "folders on s3 are brought to nodes by an image with LightEx in it, and none is named",
        'name it: engine_options={"kubernetes": {"lightex_image": "registry.example.com/lightex:1"}}',
        "its Dockerfile is in LightEx's sources (docs/storage.md tells how to build it)",
    )


def _environment(job: Job) -> dict[str, str]:
    """The variables whose values everybody may read."""
    nodes = job.resources.nodes
    several = {}
    if nodes > 1:
        name = job.name
        several = {"MASTER_ADDR": f"{name}-0.{name}", "MASTER_PORT": str(PORT), "WORLD_SIZE": str(nodes)}
    return {**several, **call.environment(job, job.resources.gpu_count)}


def _resources(job: Job, options: Options) -> dict[str, Any]:
    needs = job.resources
    wanted: dict[str, str] = {}
    if needs.cpus:
        wanted["cpu"] = f"{math.ceil(needs.cpus * 1000)}m"
    if memory := parse_size(needs.memory or 0):
        wanted["memory"] = str(memory)
    if needs.gpu_count:
        wanted[options.gpu] = str(needs.gpu_count)
    return {"requests": wanted, "limits": dict(wanted)}


def _from_secret(name: str, secret: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}


@cache
def _script() -> str:
    """The wrapper, less its comments."""
    lines = _WRAPPER.read_text().splitlines()
    return "\n".join(re.sub(r"\s+# .*$", "", line) for line in lines if not line.startswith("#"))


def _literal(text: str) -> str:
    """A text in which Kubernetes replaces nothing: it takes $(NAME) for a variable and $$ for a $."""
    return text.replace("$", "$$")


def _json(value: Any) -> str:
    return jsonlib.dumps(value).decode()


def _merged(spec: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A pod's spec with further fields: maps are joined, lists made longer, everything else is replaced."""
    for name, value in more.items():
        before = spec.get(name)
        if isinstance(before, dict) and isinstance(value, Mapping):
            spec[name] = _merged(dict(before), value)
        elif isinstance(before, list) and isinstance(value, list):
            spec[name] = [*before, *value]
        else:
            spec[name] = value
    return spec
