"""What a config may tell Kubernetes; a mistake is named, with what is valid."""

import os

import pytest

from lightex.core.errors import ConfigError
from lightex.dispatcher.engines.cluster import options


def test_nothing_said_is_valid():
    assert options.read({}) == options.Options()
    assert options.read({}).ids == (os.getuid(), os.getgid())


def test_a_user_has_a_group():
    assert options.read({"user": "7"}).ids == (7, 7)
    assert options.read({"user": "7:8"}).ids == (7, 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"namspace": "x"}, "there is no 'namspace'. Did you mean 'namespace'?"),
        ({"tolerations": "gpu"}, "engine_options.kubernetes.tolerations"),
        ({"node_selector": {"a": 1}}, "engine_options.kubernetes.node_selector.a"),
        ({"pull_policy": "always"}, "engine_options.kubernetes.pull_policy: input should be"),
        ({"user": "me"}, "user: 'me' is no UID:GID"),
        ({"ttl": "soon"}, "ttl"),
        ({"deadline": "-"}, "deadline"),
        ({"most_open": 0}, "most_open must be 1 or more"),
    ],
)
def test_a_mistake_is_named(given, words):
    with pytest.raises(ConfigError) as refused:
        options.read(given)
    assert words in str(refused.value)
