"""How it is with a Job, by what the API server shows: cases that no test cluster makes at will."""

import pytest

from lightex.dispatcher.engines.cluster.outcome import state_of


def job(*conditions, **fields):
    told = [{"status": "True", **each} for each in conditions]
    about = {"name": "j", "namespace": "n", "annotations": {"lightex.run-dir": "/nowhere"}}
    return {"metadata": about, "spec": {}, "status": {"conditions": told}} | fields


def pod(name="p", phase="Running", state=None, ended=False, **status):
    containers = [{"name": "command", "image": "i:1", "state": state}] if state else []
    about = {"name": name, "annotations": {}} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if ended else {})
    spec = {"nodeName": "n1", "containers": [{"name": "command", "image": "i:1", "resources": {}}]}
    return {"metadata": about, "spec": spec, "status": {"phase": phase, "containerStatuses": containers} | status}


def exit_of(code, moment="2026-01-01T00:00:10Z", **more):
    return {"terminated": {"exitCode": code, "finishedAt": moment, "startedAt": "2026-01-01T00:00:00Z", **more}}


def seen(job, *pods, **known):
    return state_of(job, list(pods), **known)


def test_of_two_nodes_the_one_that_failed_by_itself_counts():
    first = pod("p0", "Failed", exit_of(137), ended=True)
    second = pod("p1", "Failed", exit_of(7))
    end = seen(job({"type": "Failed", "reason": "BackoffLimitExceeded"}), first, second)
    assert (end.state, end.exit_code) == ("FAILED", 7)


def test_an_end_that_the_pods_have_not_told_yet_is_waited_for():
    complete = job({"type": "Complete"})
    assert seen(complete, pod(state={"running": {}})).state == "RUNNING"
    assert seen(complete, pod(phase="Succeeded", state=exit_of(0))).state == "SUCCEEDED"
    assert seen(None, pod(state={"running": {}})).state == "RUNNING"


def test_what_a_queue_has_taken_away_is_not_the_end():
    taken = pod("p0", "Failed", exit_of(143), ended=True)
    assert seen(job(spec={"suspend": True}), gone=[taken]).state == "SUBMITTED"
    assert seen(job(), pod("p1", state={"running": {}}), gone=[taken]).state == "RUNNING"


@pytest.mark.parametrize(
    ("message", "waits"),
    [
        ("manifest unknown", False),
        ("pull access denied for x, repository does not exist", False),
        ("dial tcp: lookup registry.example.com: no such host", True),
        ("dial tcp 10.0.0.1:443: i/o timeout", True),
    ],
)
def test_only_an_image_that_will_never_come_is_given_up(message, waits):
    state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    found = seen(job(), pod(phase="Pending", state=state))
    assert found.state == ("SUBMITTED" if waits else "FAILED")
    assert message in found.reason


def test_a_registry_that_never_answers_is_given_up_in_the_end():
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "i/o timeout"}}
    waits = pod(phase="Pending", state=state)
    assert seen(job(), waits, stuck=200.0).state == "SUBMITTED"
    assert seen(job(), waits, stuck=400.0).cause == "launch"


def test_a_secret_that_is_not_there_is_waited_for_a_while():
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}
    waits = pod(phase="Pending", state=state)
    assert seen(job(), waits, stuck=10.0).state == "SUBMITTED"
    end = seen(job(), waits, stuck=70.0)
    assert (end.cause, end.reason) == ("launch", 'container command cannot start: secret "x" not found')


def test_what_was_killed_with_its_node_is_lost_and_what_failed_there_has_failed():
    why = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
    failed = job({"type": "Failed", "reason": "BackoffLimitExceeded"})
    end = seen(failed, pod(phase="Failed", state=exit_of(143), conditions=why))
    assert (end.state, end.reason) == ("LOST", "it was evicted from node n1, which is drained")
    assert seen(failed, pod(phase="Failed", state=exit_of(3), conditions=why)).exit_code == 3


def test_a_pod_that_is_drained_is_lost_when_its_grace_is_over_and_not_before():
    why = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
    leaves = pod(state={"running": {}}, ended=True, conditions=why)  # until 2026-01-01
    assert seen(job(), leaves, now=1767225600.0).state == "RUNNING"
    assert seen(job(), leaves, now=1767225610.0).state == "LOST"


def test_a_job_that_a_queue_suspends_has_not_failed_while_its_pods_go():
    goes = pod("p0", "Failed", exit_of(143), ended=True)
    assert seen(job(spec={"suspend": True}), goes).state == "SUBMITTED"


def test_a_container_that_cannot_start_says_why():
    words = 'exec: "/bin/sh": stat /bin/sh: no such file or directory'
    end = seen(job({"type": "Failed"}), pod(phase="Failed", state=exit_of(128, reason="StartError", message=words)))
    assert (end.cause, end.reason) == ("launch", f"it did not start: {words}")


def test_what_was_used_and_how_long_is_told():
    message = "lx peak_memory=2048 cpu_us= cpu_ns=2500000000\n"
    end = seen(job({"type": "Complete"}), pod(phase="Succeeded", state=exit_of(0, message=message)))
    assert (end.peak_memory, end.cpu_seconds, end.duration) == (2048, 2.5, 10.0)
