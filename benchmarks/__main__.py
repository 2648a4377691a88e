"""Runs all benchmarks, or those named."""

import sys

from benchmarks import dispatch, logging, plan, queue, sinks, startup

ALL = {"dispatch": dispatch, "queue": queue, "logging": logging, "startup": startup, "plan": plan, "sinks": sinks}

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"no benchmark '{name}'; there are: {', '.join(ALL)}")
    print(f"\n{name}: {ALL[name].__doc__}", flush=True)
    ALL[name].main()
