"""100 experiments of `true` on the cluster of KUBECONFIG; beside `kubectl apply` of 100 Jobs, awaited. Goal: 1.15."""

import itertools
import os
import shutil
import statistics
import subprocess
import tempfile
import uuid
from pathlib import Path

from benchmarks.measure import LX, in_turn, shell
from lightex.core.rundir import RunDir

COUNT = 100
CONFIG = """
from dataclasses import dataclass
from lightex import Container, Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    seed: int = 0

base = Experiment(name="bench", command=["true"], hp=HP(), engine="kubernetes", resources=Resources(cpus=0.01),
                  container=Container({image!r}),
                  engine_options={{"kubernetes": {{"namespace": {namespace!r}, "pull_policy": "IfNotPresent"}}}})
many = sweep(base, {{"hp.seed": range({count})}})
"""
# The same needs, user and place as lx asks for, so that nodes have the same to do; less what only lx adds.
JOB = """---
apiVersion: batch/v1
kind: Job
metadata: {{name: bench-{number}, namespace: {namespace}}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 10
      securityContext: {{runAsUser: {user}, runAsGroup: {group}}}
      containers:
        - name: command
          image: {image}
          imagePullPolicy: IfNotPresent
          command: ["true"]
          resources: {{requests: {{cpu: 10m}}, limits: {{cpu: 10m}}}}
"""


def main() -> None:
    """Print the time of each."""
    kubectl = shutil.which("kubectl")
    if not kubectl or subprocess.run([kubectl, "version"], capture_output=True, check=False).returncode:
        print("  no cluster answers (KUBECONFIG), or there is no kubectl")
        return
    image = os.environ.get("LX_BENCH_IMAGE", "debian:12-slim")
    namespace = f"lx-bench-{uuid.uuid4().hex[:6]}"
    subprocess.run([kubectl, "create", "namespace", namespace], check=True, capture_output=True)
    try:
        with tempfile.TemporaryDirectory() as name:
            _compare(kubectl, Path(name), namespace, image)
    finally:
        subprocess.run([kubectl, "delete", "namespace", namespace, "--wait=false"], check=True, capture_output=True)


def _compare(kubectl: str, folder: Path, namespace: str, image: str) -> None:
    (folder / "lxconfig.py").write_text(CONFIG.format(image=image, namespace=namespace, count=COUNT))
    known = {"namespace": namespace, "image": image, "user": os.getuid(), "group": os.getgid()}
    (folder / "jobs.yaml").write_text("".join(JOB.format(number=number, **known) for number in range(COUNT)))
    rounds = itertools.count()
    worked: list[float] = []

    def run_lx() -> None:
        root = folder / f"runs{next(rounds)}"
        shell([LX, "--root", str(root), "run", "many"], folder)()
        events = [RunDir(path).events() for path in root.glob("bench/*")]
        worked.append(max(each[-1]["time"] for each in events) - min(each[1]["time"] for each in events))

    own = f"{kubectl} -n {namespace}"
    wait = f"{own} wait --for=condition=complete --timeout=600s job --all"
    apply = shell(["sh", "-c", f"{own} apply -f jobs.yaml && {wait} && {own} delete job --all --wait=false"], folder)
    found = in_turn({"kubectl": apply, "lx run": run_lx}, rounds=3)
    print(f"  kubectl apply and wait {found['kubectl']:.1f} s, lx run {found['lx run']:.1f} s, "
          f"from its first submission to its last end {statistics.median(worked):.1f} s")  # fmt: skip
    print(f"    lx run takes {found['lx run'] / found['kubectl']:.2f} of kubectl's time (goal: 1.15)")
