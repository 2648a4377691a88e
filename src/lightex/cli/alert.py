"""`lx alert`."""

from __future__ import annotations

import os
import time

import click

from lightex.cli.output import paint
from lightex.core.errors import LightexError
from lightex.core.root import Root

_FIRST = """# Who is told, as Apprise addresses (https://github.com/caronc/apprise/wiki). ${NAME} is taken from the
# environment, so that no secret stands here. desktop:// is this machine's desktop. A rule may have a `to` of its own.
to = ["desktop://"]
# to = ["${SLACK_URL}", "mailto://${MAIL_USER}:${MAIL_PASSWORD}@example.com?to=me@example.com", "jsons://hooks.example.com/lx"]

# address = "https://lx.example.com"   # where lx ui is, for links
# lines = 5                            # last lines of output in a message; 0: none

[[rule]]
when = "failed"                        # lost, ended: the same of other ends
# where = "experiment = digits"        # only of some runs, as in lx ls --where

[[rule]]
when = "lost"

[[rule]]
when = "sweep-finished"

[[rule]]
when = "stalled"                       # neither output nor records
minutes = 30

[[rule]]
when = "nan"                           # NaN or infinite
metric = "loss"                        # a regular expression, searched for in the names; default: any metric
# act = "stop"                         # have the run end; also with stalled, metric, no-improvement, gpu-idle

# [[rule]]
# when = "metric"                      # any filter over runs that run or have just ended
# where = "train.loss > 100"

# [[rule]]
# when = "no-improvement"
# metric = "val.acc"                   # default: the metric of its config
# mode = "max"                         # default: as its config says, else min
# minutes = 120

# [[rule]]
# when = "gpu-idle"                    # all GPUs of a run
# minutes = 30
# below = 0.05
# act = "stop"

[[rule]]
when = "disk"
free = "5%"                            # or "10GiB"; path = "/data" is another disk than that of the runs
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Be told when runs fail, stall, or finish: on the desktop, by e-mail, Slack, webhooks and many more.

    The rules are in alerts.toml beside the folder of runs (LX_ALERTS names another file). Start with `lx alert init`;
    then `lx alert watch`, or `lx ui`, which watches too.
    """


@command.command()
@click.option("--force", is_flag=True, help="Write over the file that is there.")
@click.pass_obj
def init(root: str | None, /, force: bool) -> None:
    """Write a first alerts.toml, with all that it may say."""
    from lightex.mon.alerts.rules import locate

    path = locate(Root.locate(root))
    if path.exists() and not force:
        raise LightexError(f"{path} exists already", "lx alert check shows what it says; --force writes over it")
    try:
        path.write_text(_FIRST)
    except OSError as error:
        raise LightexError(f"cannot write {path}: {error.strerror}", "LX_ALERTS names another file") from error
    click.echo(f"wrote {path}. Next: lx alert test, then: lx alert watch")


@command.command()
@click.pass_obj
def check(root: str | None, /) -> None:
    """Show the rules as they are understood, and what would be told now. Nothing is sent."""
    from lightex.cli.alerting import watcher
    from lightex.cli.selecting import opened
    from lightex.mon.alerts.rules import described, locate
    from lightex.mon.alerts.targets import targets

    folder = Root.locate(root)
    made, alerts = watcher(folder, locate(folder), lambda text: click.echo(paint(text, "yellow")))
    who = targets(alerts, os.environ)
    click.echo(f"{alerts.path}\ntells {', '.join(who[each].shown for each in alerts.to) or 'only whom rules name'}")
    for rule in alerts.rules:
        to = f"; tells {', '.join(who[each].shown for each in rule.to)}" if rule.to else ""
        click.echo(f"  {rule.place}: {described(rule)}{to}")
    with opened(folder) as index:
        found = made.preview(index)
    click.echo(f"would be told now: {len(found) or 'nothing'}")
    for each in found:
        click.echo("\n".join([f"  {each.title}", *(f"    {line}" for line in each.body.splitlines())]))


@command.command()
@click.pass_obj
def test(root: str | None, /) -> int:
    """Send a message to everybody whom the rules name, and say who got it."""
    from lightex.core.liveness import host, user
    from lightex.mon.alerts.notice import Message
    from lightex.mon.alerts.rules import load, locate
    from lightex.mon.alerts.services import service
    from lightex.mon.alerts.targets import targets

    folder = Root.locate(root)
    alerts = load(locate(folder))
    who = targets(alerts, os.environ)
    if not who:
        raise LightexError(f"{alerts.path} names nobody to be told", 'write to = ["desktop://"] at its top')
    message = Message("LightEx: a test", f"Alerts of {folder.path} arrive here.\nsent by {user()} on {host()}", "info")
    failed = 0
    for target in who.values():
        try:
            reason = service(target)(message)
        except LightexError as error:
            reason = ". ".join((error.message, *error.details))
        failed += reason is not None
        mark = paint("FAIL", "red") if reason else paint("ok  ", "green")
        click.echo(f"{mark}  {target.shown}" + (f": {reason}" if reason else ""))
    return 1 if failed else 0


@command.command()
@click.option("--every", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between two looks.")
@click.pass_obj
def watch(root: str | None, /, every: float) -> None:
    """Look at runs and tell, until Ctrl-C. What happened while nobody watched, within a day, is told too."""
    from lightex.cli.alerting import Alerting, said
    from lightex.cli.selecting import opened
    from lightex.mon.alerts.rules import locate

    folder = Root.locate(root)
    alerting = Alerting(folder, locate(folder), said)
    try:
        if not alerting.start():
            raise LightexError(
                f"{alerting.holder} watches {folder.path} already", "there is one watcher for each folder"
            )
        click.echo(f"watching {folder.path}; Ctrl-C ends it")
        with opened(folder) as index:
            while True:
                with alerting.going_on():
                    index.refresh(whole=False)
                    alerting.look(index)
                time.sleep(every)
    except KeyboardInterrupt:
        click.echo("")
    finally:
        alerting.close()
