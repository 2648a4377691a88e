"""What a test lets go wrong with requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.services.kubernetes.api import RESOURCES, ApiError, Json, about

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster
    from tests.services.kubernetes.requests import Request


@dataclass
class Fault:
    """What happens to the next requests of a kind, instead or afterwards."""

    verb: str
    what: str
    times: int | None
    error: ApiError | None = None
    seconds: float = 0.0
    after: bool = False


class Faults:
    """The part of `Cluster` that tests make errors by, and take rights away."""

    def fail(self: Cluster, verb: str, plural: str, code: int = 503, times: int | None = 1, *, retry_after: int | None = None,
             reason: str | None = None, message: str | None = None, after: bool = False) -> None:  # fmt: skip
        """Answer the next requests with an error; `after` they were done, if wanted."""
        details = {} if retry_after is None else {"retryAfterSeconds": retry_after}
        error = ApiError(code, message or f"the test lets {verb} {plural} fail", reason, **details)
        self.faults.append(Fault(verb, plural, times, error, after=after))

    def drop(self: Cluster, verb: str, plural: str, times: int | None = 1, after: bool = True) -> None:
        """Close the connection of the next requests without an answer, after they were done or instead."""
        self.faults.append(Fault(verb, plural, times, after=after))

    def hang(self: Cluster, verb: str, plural: str, seconds: float, times: int | None = 1) -> None:
        """Answer the next requests late."""
        self.faults.append(Fault(verb, plural, times, seconds=seconds))

    def heal(self: Cluster) -> None:
        """Forget all faults."""
        self.faults.clear()

    def take_fault(self: Cluster, verb: str, what: str) -> Fault | None:
        """The fault that meets a request."""
        with self.store.changed:
            for fault in self.faults:
                if fault.verb in (verb, "*") and fault.what in (what, "*"):
                    if fault.times is not None:
                        fault.times -= 1
                        if not fault.times:
                            self.faults.remove(fault)
                    return fault
        return None

    def cut_watches(self: Cluster, *, reset: bool = False) -> None:
        """Break off all watches and followed logs; with a TCP reset if wanted."""
        with self.store.changed:
            self.cuts, self.resets = self.cuts + 1, reset
            self.store.changed.notify_all()

    def end_watches(self: Cluster) -> None:
        """End all watches, as their timeout would."""
        with self.store.changed:
            self.ends += 1
            self.store.changed.notify_all()

    def forget_history(self: Cluster) -> None:
        """Let no watch go on from a version until now."""
        self.store.forget()

    def refuse_pods(self: Cluster, message: str | None) -> None:
        """Let no pod be created, as a quota would; None: let it again."""
        self.refusal = message or ""

    def deny(self: Cluster, verb: str, resource: str, namespace: str | None = None) -> None:
        """Take a right away; resource e.g. "pods" or "pods/log"."""
        self.denied.add((verb, resource, namespace))

    def allow(self: Cluster, verb: str, resource: str, namespace: str | None = None) -> None:
        """Give a right back."""
        self.denied.discard((verb, resource, namespace))

    def _is_denied(self: Cluster, verb: str, resource: str, namespace: str | None) -> bool:
        pairs = ((one, other) for one in (verb, "*") for other in (resource, "*"))
        return any((*pair, space) in self.denied for pair in pairs for space in (None, namespace))

    def review(self: Cluster, body: Json) -> Json:
        """The answer to a SelfSubjectAccessReview."""
        wanted = body.get("spec", {}).get("resourceAttributes") or {}
        what = "/".join(filter(None, (wanted.get("resource"), wanted.get("subresource"))))
        known = RESOURCES.get(wanted.get("resource", ""))
        right_group = known is None or wanted.get("group", "") in ("*", known.group)
        allowed = right_group and not self._is_denied(wanted.get("verb", ""), what, wanted.get("namespace") or None)
        return body | {"status": {"allowed": allowed, **({} if allowed else {"reason": ""})}}

    def check_allowed(self: Cluster, request: Request) -> None:
        """Look whether a request may be made.

        Raises:
            ApiError: it may not.
        """
        if self._is_denied(request.verb, request.what, request.namespace):
            resource = request.resource
            name = f' "{request.name}"' if request.name else ""
            where = f' in the namespace "{request.namespace}"' if request.namespace else " at the cluster scope"
            text = f'{resource.qualified}{name} is forbidden: User "lx" cannot {request.verb} resource '
            text += f'"{request.what}" in API group "{resource.group}"{where}'
            raise ApiError(403, text, **about(resource, request.name or ""))
