"""alerts.toml: what is understood, and what is said of mistakes."""

import os
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError, LightexError, NotFoundError
from lightex.core.root import Root
from lightex.mon.alerts.rules import KINDS, Alerts, described, least_free, load, locate, parse
from lightex.mon.alerts.targets import Target, targets
from lightex.qviz.filters import check

TO = 'to = ["desktop://"]\n'


def wrong(text, **more):
    with pytest.raises(ConfigError) as caught:
        parse(text, **more)
    return str(caught.value)


def test_rules_are_read_with_their_defaults():
    alerts = parse(
        TO + '[[rule]]\nwhen = "failed"\n[[rule]]\nwhen = "stalled"\nminutes = 5\nact = "stop"\nto = ["json://a"]'
    )
    failed, stalled = alerts.rules
    assert (failed.when, failed.act, failed.to, failed.place) == ("failed", "", (), "rule 1 (failed), line 2")
    assert (stalled.minutes, stalled.act, stalled.to) == (5.0, "stop", ("json://a",))
    assert alerts.to == ("desktop://",)
    assert parse("").rules == ()


@pytest.mark.parametrize("when", KINDS)
def test_every_kind_is_described_with_its_values(when):
    more = 'where = "a > 1"' if "where" in KINDS[when][1] else ""
    (rule,) = parse(f'{TO}[[rule]]\nwhen = "{when}"\n{more}').rules
    words = described(rule)
    assert "{" not in words
    assert bool(more) == ("a > 1" in words)
    assert rule.key.startswith(when)


def test_who_is_told_does_not_make_another_rule_what_is_done_does():
    texts = ["", 'to = ["json://b"]\n', 'act = "stop"\n', 'metric = "loss"\n']
    keys = [parse(f'{TO}[[rule]]\nwhen = "nan"\n{text}').rules[0].key for text in texts]
    assert keys == ["nan", "nan", "nan act=stop", "nan metric=loss"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("to = 1", "alerts.toml: to must be a list of texts"),
        ("rules = []", "alerts.toml: unknown key 'rules'. Did you mean 'rule'?"),
        ("lines = true", "lines must be a whole number from 0 to 50, got True"),
        ('address = "lx.example.com"', "address must begin with http:// or https://, got 'lx.example.com'"),
        ("rule = 3", "rule is not a list of tables"),
        ("[[rule]]", "rule 1, line 1: when is missing"),
        (TO + "\n[[rule]]\nwhen = 'stale'", "rule 1, line 3: there is no rule for 'stale'. Did you mean 'stalled'?"),
        (TO + "[[rule]]\nwhen = 'stalled'\nminuts = 3", "rule 1 (stalled), line 2: unknown key 'minuts'. Did you mean 'minutes'?"),
        (TO + "[[rule]]\nwhen = 'failed'\nminutes = 3", "unknown key 'minutes'.\n  valid: when, where, to"),
        (TO + "[[rule]]\nwhen = 'stalled'\nminutes = '3'", "(stalled), line 2: minutes must be a number of minutes above 0, got '3'"),
        (TO + "[[rule]]\nwhen = 'stalled'\nminutes = nan", "minutes must be a number of minutes above 0, got nan"),
        (TO + "[[rule]]\nwhen = 'stalled'\nminutes = true", "minutes must be"),
        (TO + "[[rule]]\nwhen = 'gpu-idle'\nbelow = 5", "below must be a share above 0, up to 1, got 5"),
        (TO + "[[rule]]\nwhen = 'nan'\nmetric = '('", "metric is not a regular expression"),
        (TO + "[[rule]]\nwhen = 'nan'\nact = 'kill'", "act cannot be 'kill'.\n  valid: stop"),
        (TO + "[[rule]]\nwhen = 'failed'\nact = 'stop'", "unknown key 'act'"),
        (TO + "[[rule]]\nwhen = 'no-improvement'\nmode = 'mim'", "mode cannot be 'mim'. Did you mean 'min'?"),
        (TO + "[[rule]]\nwhen = 'disk'\nfree = 'much'", "free must be a share or a size, got 'much'"),
        (TO + "[[rule]]\nwhen = 'disk'\nfree = '120%'", "free must be"),
        (TO + "[[rule]]\nwhen = 'metric'", "where is missing"),
        (TO + "[[rule]]\nwhen = 'metric'\nwhere = 3", "where must be a text, got 3"),
        ("[[rule]]\nwhen = 'failed'", "rule 1 (failed), line 1: nobody is to be told"),
        ("to = [", "alerts.toml is not TOML"),
    ],
)  # fmt: skip
def test_mistakes_name_the_rule_and_what_is_valid(text, said):
    assert said in wrong(text)


def test_a_filter_that_is_not_understood_is_said_with_its_place():
    said = wrong(TO + "[[rule]]\nwhen = 'metric'\nwhere = 'loss >'", check=check)
    assert "rule 1 (metric), line 2: where: expected a value, the filter ends" in said
    check("never.logged > 3 and status = failed")


@given(st.text())
def test_any_text_is_understood_or_refused(text):
    try:
        parse(text, check=check)
    except LightexError as error:
        assert error.message


VALUES = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.lists(st.text(max_size=5), max_size=2),
                   st.sampled_from(["stop", "min", "5%", "loss", "10GiB"]))  # fmt: skip
KEYS = st.sampled_from(["when", "where", "metric", "mode", "minutes", "below", "free", "path", "act", "to"])


@given(st.lists(st.dictionaries(KEYS, VALUES | st.sampled_from(sorted(KINDS))), max_size=3))
def test_rules_of_any_types_are_understood_or_refused(rules):
    text = tomli_w.dumps({"to": ["desktop://"], "rule": rules})
    try:
        found = parse(text, check=check)
    except ConfigError:
        return
    assert [rule.when for rule in found.rules] == [rule["when"] for rule in rules]
    for rule in found.rules:
        assert described(rule)
        assert 0 < rule.minutes < 1e9


def test_a_share_and_a_size_of_a_disk():
    assert least_free("5%", 1000) == 50
    assert least_free("2KiB", 1000) == 2048


# ---------------------------------------------------------------------- who is told


def who(text, **environment):
    return targets(parse(text), environment)


def test_variables_are_put_in_and_targets_are_named_without_secrets():
    found = who(
        'to = ["${HOOK}", "json://u:pw@h.example:8/x?token=abcd", "slack://aaaa/bbbb/cccc"]', HOOK="slack://TOK/EN/X"
    )
    assert [each.shown for each in found.values()] == ["slack 1", "json 1 (h.example:8)", "slack 2"]
    assert found["${HOOK}"].url == "slack://TOK/EN/X"
    assert "TOK" not in repr(found)


def test_the_same_address_is_one_target():
    assert len(who('to = ["desktop://"]\n[[rule]]\nwhen = "failed"\nto = ["desktop://", "json://x"]')) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('to = ["${SLACK_URL}"]', "alerts.toml: to 1: SLACK_URL is not set in the environment"),
        ('to = ["desktop://", "tok-secret"]', "alerts.toml: to 2 is not an address"),
        ('[[rule]]\nwhen = "lost"\nto = ["json://${NO}"]', "rule 1 (lost), line 1: to 1: NO is not set"),
    ],
)
def test_addresses_that_are_none_are_refused_without_showing_them(text, said):
    with pytest.raises(ConfigError) as caught:
        who(text)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.lists(st.text("abcdefghijklmnop0123456789", min_size=4, max_size=12), min_size=1, max_size=4))
def test_no_part_of_a_token_is_left_in_a_message(parts):
    target = Target("slack 1", "slack://" + "/".join(parts))
    said = target.scrub("cannot send to slack://" + "/".join(parts) + " nor " + " ".join(parts))
    assert not any(part in said for part in parts if part not in "slack cannot send")


# ---------------------------------------------------------------------- the file


def test_the_file_is_beside_the_runs_or_where_it_is_said(tmp_path, monkeypatch):
    assert locate(Root(tmp_path / "runs")) == tmp_path / "alerts.toml"
    monkeypatch.setenv("LX_ALERTS", "/etc/x.toml")
    assert locate(Root(tmp_path / "runs")) == Path("/etc/x.toml")


def test_a_file_that_is_not_there_or_not_text_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="lx alert init"):
        load(tmp_path / "alerts.toml")
    (tmp_path / "alerts.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "alerts.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to give a file away")
def test_rules_of_another_user_must_be_named_since_they_may_send_variables_anywhere(tmp_path, monkeypatch):
    path = tmp_path / "alerts.toml"
    path.write_text(TO)
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load(path)
    monkeypatch.setenv("LX_ALERTS", str(path))
    assert isinstance(load(path), Alerts)
