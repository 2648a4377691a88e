"""What a config tells Kubernetes in its own words: `engine_options={"kubernetes": {...}}`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lightex.core.errors import ConfigError
from lightex.dispatcher.engines import given as given_options

_GIVEN = "engine_options.kubernetes"


@dataclass(frozen=True)
class Options:
    """What a config may say.

    Attributes:
        context: of your kubeconfig; None: its current one.
        namespace: None: the context's own, or "default".
        service_account: of the pods; None: the namespace's default.
        pull_policy: "Always", "IfNotPresent" or "Never"; None: as Kubernetes chooses by the image's tag.
        pull_secrets: names of Secrets with the log-ins of registries.
        secrets: names of Secrets of the namespace whose keys are environment variables of the command.
        priority_class: a PriorityClass of the cluster.
        queue: a LocalQueue of Kueue, which then decides when a Job may start.
        node_selector: labels of nodes, further ones than `resources.node_labels`.
        tolerations: taints of nodes that do not matter, as Kubernetes has them.
        labels: further labels of Jobs and pods.
        annotations: further annotations of pods.
        gpu: the resource that GPUs are counted by.
        user: "UID:GID" that it runs as; None: yours.
        ttl: seconds or "7d" after its end at which a Job is removed that no lx has removed.
        deadline: seconds or "2d" that a Job may be there, waiting included, also if no lx looks; None: for ever.
        most_open: how many Jobs there are at once at the most; further ones wait with lx.
        pod: further fields of the pod's spec, as Kubernetes has them: {"runtimeClassName": "nvidia"}.
        lightex_image: the image that brings folders to nodes and back where they are kept on s3.
        s3_secret: a Secret of the namespace with AWS_ACCESS_KEY_ID and so on for these folders; None: what you have
            here goes there in a Secret that lives as long as the Job.
    """

    context: str | None = None
    namespace: str | None = None
    service_account: str | None = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    pull_secrets: Sequence[str] = ()
    secrets: Sequence[str] = ()
    priority_class: str | None = None
    queue: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    gpu: str = "nvidia.com/gpu"
    user: str | None = None
    ttl: float | str = "7d"
    deadline: float | str | None = None
    most_open: int = 500
    pod: Mapping[str, Any] = field(default_factory=dict)
    lightex_image: str | None = None
    s3_secret: str | None = None

    @property
    def ids(self) -> tuple[int, int]:
        """User and group that it runs as."""
        if self.user is None:
            return os.getuid(), os.getgid()
        user, _, group = self.user.partition(":")
        return int(user), int(group or user)


def read(given: Mapping[str, Any]) -> Options:
    """The options of a config, checked.

    Raises:
        ConfigError: there is none of that name, or it has no such value.
    """
    options = given_options.read(Options, "kubernetes", given)
    for name in ("ttl", "deadline"):
        if (value := getattr(options, name)) is not None:
            given_options.seconds("kubernetes", name, value)
    if options.user is not None and not all(part.isdigit() for part in options.user.split(":", 1)):
        raise ConfigError(f"{_GIVEN}.user: '{options.user}' is no UID:GID", 'write numbers: "1000:1000"')
    return options
