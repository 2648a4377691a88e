"""Runs all benchmarks, or those named."""

import sys

from benchmarks import (
    browser,
    dispatch,
    docker,
    index,
    kubernetes,
    logging,
    monitor,
    plan,
    query,
    queue,
    ray,
    sinks,
    slurm,
    startup,
    top,
)

MODULES = (
    dispatch,
    queue,
    docker,
    kubernetes,
    slurm,
    ray,
    logging,
    startup,
    plan,
    index,
    query,
    browser,
    monitor,
    sinks,
    top,
)
ALL = {module.__name__.rpartition(".")[2]: module for module in MODULES}

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"no benchmark '{name}'; there are: {', '.join(ALL)}")
    print(f"\n{name}: {ALL[name].__doc__}", flush=True)
    ALL[name].main()
