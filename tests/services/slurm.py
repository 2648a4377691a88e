"""Slurm for real: a controller and some nodes on this machine, with a munged of their own; accounting where it is wanted."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.helpers import wait_for
from tests.services import free_port

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct", "sacctmgr")

# batch_sched_delay and the intervals: what a test waits for is to happen at once.
_CONF = """ClusterName=lightex
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
MpiDefault=none
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=5
MessageTimeout=5
KillWait=2
InactiveLimit=0
MinJobAge={min_job_age}
MaxArraySize=301
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
{more}
"""
_ACCOUNTED = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits
"""
_DBD = """AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm
"""
_PREEMPTION = """PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""
_NODE = {"CPUs": 2, "CoresPerSocket": 2, "RealMemory": 2000, "Gres": "gpu:2", "State": "UNKNOWN"}


def lacks(*programs: str) -> str | None:
    """Why it cannot be started here, or None."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "starting it needs root" if os.geteuid() != 0 else None


class Slurm:
    """A cluster of the tests' own. Its nodes have names of their own, since control groups are called after them.

    The first two are those of the partitions `main` (the default) and `urgent`, which preempts it; the last one is that
    of `short`, where a minute is the limit.
    """

    def __init__(self, folder: Path, nodes: int = 3, accounting: bool = False, min_job_age: int = 300) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        tag = secrets.token_hex(2)
        self.nodes = [f"x{tag}n{number}" for number in range(1, nodes + 1)]
        self.accounting, self.min_job_age = accounting, min_job_age
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def up(self) -> None:
        """Start it, and wait until all nodes are ready."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        host = socket.gethostname().partition(".")[0]
        hosts = Path("/etc/hosts")
        if host not in hosts.read_text():
            with hosts.open("a") as file:
                file.write(f"127.0.1.1 {host}\n")
        more, port = _PREEMPTION, free_port()
        more += _ACCOUNTED.format(port=port, folder=self.folder) if self.accounting else ""
        text = _CONF.format(host=host, port=free_port(), folder=self.folder, min_job_age=self.min_job_age, more=more)
        about = " ".join(f"{name}={value}" for name, value in _NODE.items())
        for node in self.nodes:
            own = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} Feature=all,only-{node}"
            text += f"NodeName={node} {own} {about}\n"
        names, last = ",".join(self.nodes[:2]), self.nodes[-1]
        limits = "MaxTime=INFINITE DefMemPerCPU=500 State=UP"
        text += f"PartitionName=main Nodes={names} Default=YES PriorityTier=1 {limits}\n"
        text += f"PartitionName=urgent Nodes={names} PriorityTier=10 PreemptMode=OFF {limits}\n"
        text += f"PartitionName=short Nodes={last} MaxTime=1 DefMemPerCPU=500 State=UP\n"
        self.conf.write_text(text)
        constrain = "ConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainDevices=no\n"
        (self.folder / "cgroup.conf").write_text(f"CgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n{constrain}")
        (self.folder / "gres.conf").write_text(f"NodeName={','.join(self.nodes)} Name=gpu File=/dev/tty[1-2]\n")
        os.environ["SLURM_CONF"] = str(self.conf)
        self._munge()
        if self.accounting:
            self._database(port)
            for words in (["cluster", "lightex"], ["account", "team"], ["user", "root", "account=team"]):
                self.ask("sacctmgr", "-i", "add", *words)
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        own = [f"--socket={self.folder}/munge.socket", f"--key-file={key}", f"--pid-file={self.folder}/munge.pid"]
        more = [f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed", "--force"]
        self._start("munged", "munged", "--foreground", *own, *more)
        wait_for((self.folder / "munge.socket").exists)

    def _database(self, port: int) -> None:
        data, sock = self.folder / "db", self.folder / "db.socket"
        common = ["--no-defaults", f"--datadir={data}"]
        made = ["--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(["mariadb-install-db", *common, *made], check=True, capture_output=True)
        fast = ["--innodb-flush-log-at-trx-commit=0", "--skip-networking"]
        self._start("mariadbd", "mariadbd", *common, "--user=root", f"--socket={sock}", *fast)
        wait_for(sock.exists)
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(_DBD.format(folder=self.folder, port=port))
        conf.chmod(0o600)
        self._start("slurmdbd", "slurmdbd", "-D", env={"MYSQL_UNIX_PORT": str(sock)})

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, 30)

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers."""
        self._start("slurmctld", "slurmctld", "-D")
        wait_for(lambda: subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode == 0)

    def stop_controller(self) -> None:
        """End slurmctld; what runs goes on."""
        self._end("slurmctld", signal.SIGTERM)

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node, and wait until it is ready."""
        self._start(node, "slurmd", "-D", "-N", node)
        wait_for(lambda: self.ask("sinfo", "-h", "-n", node, "-o", "%t").split()[:1] in (["idle"], ["mix"], ["alloc"]))

    def kill_node(self, node: str) -> None:
        """Kill the slurmd of a node, and all that runs on it: the node is dead."""
        self._end(node, signal.SIGKILL)
        groups = Path("/sys/fs/cgroup")
        for path in [*groups.glob(f"*/slurm_{node}"), *groups.glob(f"slurm_{node}")]:
            for procs in path.rglob("cgroup.procs"):
                with suppress(OSError):
                    for pid in procs.read_text().split():
                        with suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)

    def ask(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def down(self) -> None:
        """End all of it, and what its jobs have left."""
        with suppress(subprocess.SubprocessError, OSError, AssertionError):  # what could not start cannot be asked
            subprocess.run(["scancel", "--signal=KILL", "--user=root"], capture_output=True, check=False, timeout=20)
            deadline = time.monotonic() + 15
            while self.ask("squeue", "--noheader") and time.monotonic() < deadline:
                time.sleep(0.1)
        for node in self.nodes:
            self.kill_node(node)
        for name in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._end(name, signal.SIGTERM)
        for node in self.nodes:
            for path in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
                for group in sorted((each for each in path.rglob("*") if each.is_dir()), reverse=True):
                    with suppress(OSError):
                        group.rmdir()
                with suppress(OSError):
                    path.rmdir()

    def _start(self, name: str, *command: str, env: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **(env or {})},
            )  # fmt: skip

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._processes.pop(name, None)
        if process:
            process.send_signal(number)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
