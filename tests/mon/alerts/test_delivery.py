"""Real delivery: to an HTTP endpoint, to an SMTP server, to the desktop; targets that are down; no secret shown."""

import logging
import os
import socket
import stat
import threading
import time
from html import unescape
from itertools import pairwise

import pytest

from lightex.core.errors import ConfigError
from lightex.mon.alerts.courier import Courier
from lightex.mon.alerts.notice import MOST, Message, Notice, joined
from lightex.mon.alerts.services import service
from lightex.mon.alerts.targets import Target
from tests.helpers import wait_for
from tests.mon.alerts.conftest import NOW, end
from tests.mon.alerts.test_watch import rule

HELLO = Message("FAILED  a  digits", "exit code 1\n| <b>no</b>\nlx why a", "failure")


def notice(number, title=None):
    return Notice(str(number), title or f"FAILED  r{number}  digits", "body", "failure", (str(number),), ("json 1",))


@pytest.fixture
def logs():
    """What a handler of the root logger is given. (pytest's own listens to loggers that keep to themselves as well.)"""
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    keep = Keep()
    logging.getLogger().addHandler(keep)
    yield found
    logging.getLogger().removeHandler(keep)


def test_a_webhook_gets_title_body_and_kind(inbox):
    assert service(Target("json 1", inbox.url))(HELLO) is None
    (got,) = inbox.got
    assert (got["title"], got["message"], got["type"]) == (HELLO.title, HELLO.body, "failure")


def test_a_mail_arrives(mails):
    url = f"mailto://127.0.0.1:{mails.port}?to=me@example.com&from=lx@example.com"
    assert service(Target("mailto 1", url))(HELLO) is None
    (mail,) = mails.got
    assert mail["subject"].split() == HELLO.title.split()
    assert mail["to"] == "me@example.com"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain or html
    for part in (plain, html):
        assert part is None or "exit code 1" in unescape(part.get_content()).replace("\xa0", " ")
    assert html is None or "<b>no</b>" not in html.get_content()  # of a run's output, nothing is markup


def test_the_desktop_is_told_by_its_own_program(tmp_path, monkeypatch):
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/told"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert service(Target("desktop 1", "desktop://"))(HELLO) is None
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0] == "--urgency=critical"
    assert told[3] == HELLO.title
    assert "<b>" not in "".join(told)
    assert unescape("\n".join(told[4:])) == HELLO.body
    program.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    assert service(Target("desktop 1", "desktop://"))(HELLO) == f"{program}: no display"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert "notify-send" in service(Target("desktop 1", "desktop://"))(HELLO)


@pytest.mark.parametrize(
    "url",
    [
        "json://user:hunter22@127.0.0.1:{port}/tokentoken?key=apikey99",
        "mailto://user:hunter22@127.0.0.1:{port}?to=a@b.com&from=c@d.com",
    ],
)
def test_what_does_not_work_is_said_without_secrets(url, logs, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reason = service(Target("json 1", url.format(port=port)))(HELLO)
    said = capfd.readouterr()
    for text in (reason, *logs, said.out, said.err):
        assert not any(secret in text for secret in ("hunter22", "tokentoken", "apikey99"))
    assert reason
    assert "127.0.0.1" in reason


@pytest.mark.parametrize("url", ["slak://secretsecret", "slack://secretsecret", "discord://", "json://"])
def test_an_address_that_apprise_does_not_know_is_refused_without_showing_it(url, logs, capfd):
    with pytest.raises(ConfigError) as caught:
        service(Target("x 1", url))
    said = capfd.readouterr()
    assert "secret" not in "".join([str(caught.value), *logs, said.out, said.err])


def test_a_status_that_is_no_success_is_said(inbox):
    inbox.status = 404
    assert "404" in service(Target("json 1", inbox.url))(HELLO)


# ---------------------------------------------------------------------- couriers


@pytest.fixture
def couriers():
    made = []

    def make(send, sent=lambda *_: None, **more):
        said = []
        made.append(Courier("json 1", send, sent, said.append, **{"gather": 0.05, "pauses": (0.05, 0.2), **more}))
        return made[-1], said

    yield make
    for each in made:
        each.close(0)


def test_notices_of_a_few_seconds_are_one_message(couriers):
    got, sent = [], []
    courier, _ = couriers(got.append, lambda notices, to: sent.append((notices, to)), gather=0.3)
    some = [notice(n) for n in range(3)]
    for each in some:
        courier.put(each)
    wait_for(lambda: got)
    assert got[0].title == "3 alerts: 3 FAILED"
    assert got[0].body.count("body") == 3
    wait_for(lambda: sent)
    assert sent == [(some, "json 1")]


def test_many_are_a_line_each_and_none_is_left_out(couriers):
    got = []
    courier, _ = couriers(got.append, gather=0.3)
    for n in range(MOST + 10):
        courier.put(notice(n))
    wait_for(lambda: len(got) == 2)
    lines = [line for message in got for line in message.body.splitlines()]
    assert lines == [f"FAILED  r{n}  digits" for n in range(MOST + 10)]


def test_the_worst_of_several_gives_the_colour():
    kinds = [Notice("", f"{kind}  x", "", kind, (), ()) for kind in ("success", "failure", "info")]
    assert joined(kinds).kind == "failure"
    assert joined(kinds).title == "3 alerts: 1 success, 1 failure, 1 info"


def test_pauses_grow_while_a_target_is_down_and_nothing_is_lost_or_doubled(couriers):
    tries, got = [], []

    def send(message):
        tries.append(time.monotonic())
        if len(tries) < 5:
            return "down"
        got.append(message.title)
        return None

    courier, said = couriers(send)
    courier.put(notice(1))
    wait_for(lambda: len(tries) >= 2)
    courier.put(notice(2))
    wait_for(lambda: got)
    assert got == ["2 alerts: 2 FAILED"]
    assert [each.rpartition("again in ")[2] for each in said[:4]] == ["0 s"] * 4
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[0] >= 0.05
    assert pauses[1] >= 0.1
    assert min(pauses[2:]) >= 0.2


def test_a_target_that_hangs_holds_up_no_other_one_nor_the_look(make, watch, inbox):
    hangs = threading.Event()
    one = watch(rule("failed"), first=False, to=f'to = ["{inbox.url}", "desktop://"]')
    real = service(Target("json 1", inbox.url))
    one.watcher._services = {"desktop 1": lambda _: str(hangs.wait(20)), "json 1": real}
    one.look(NOW - 100)
    make("a", "FAILED")
    one.look(NOW + 5)
    wait_for(lambda: inbox.got)
    make("b", "FAILED", at=NOW + 10)
    one.look(NOW + 15)
    wait_for(lambda: len(inbox.got) == 2)
    hangs.set()


def test_a_target_that_is_down_for_a_while_gets_all_of_it_once(make, watch, inbox):
    one = watch(rule("failed"), first=False, to=f'to = ["{inbox.url}"]')
    one.look(NOW - 100)
    inbox.status = 503
    for number in range(3):
        run = make(f"r{number}", at=NOW + number)
        end(run, "FAILED", NOW + number)
        one.look(NOW + number + 3)
    wait_for(lambda: inbox.tries >= 3)
    one = watch(rule("failed"), first=False, to=f'to = ["{inbox.url}"]')  # it is started again meanwhile
    one.look(NOW + 50)
    inbox.status = 200
    wait_for(lambda: inbox.got)
    one.watcher.close()
    assert inbox.titles == ["3 alerts: 3 FAILED"]
    assert [line for line in inbox.got[0]["message"].splitlines() if line.startswith("FAILED")] == [
        f"FAILED  r{n}  digits" for n in range(3)
    ]


def test_no_secret_gets_into_the_folder_of_runs(make, watch, inbox, root, monkeypatch):
    monkeypatch.setenv("HOOK", inbox.url.replace("127.0.0.1", "user:hunter22@127.0.0.1") + "/tokentoken")
    one = watch(rule("failed"), first=False, to='to = ["${HOOK}", "json://other:hunter22@127.0.0.1:1/tokentoken"]')
    one.look(NOW - 100)
    make("a", "FAILED")
    one.look(NOW + 5)
    wait_for(lambda: inbox.got)
    wait_for(lambda: [said for said in one.said if "cannot be told" in said])
    one.watcher.close()
    texts = [path.read_bytes() for path in root.path.rglob("*") if path.is_file()] + ["\n".join(one.said).encode()]
    assert not any(secret in text for text in texts for secret in (b"hunter22", b"tokentoken"))
