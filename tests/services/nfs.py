"""NFS for real: nfs-ganesha, and user-mode-linux guests that mount its folder as other machines would."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import wait_for

SERVER = "10.98.0.254"
MOUNTED = "/mnt/nfs"
"""Where a guest sees `Nodes.export`, which is nfs://10.98.0.254/export."""

_PROGRAMS = ("ganesha.nfsd", "linux.uml", "mount.nfs4", "modprobe", "ip", "nsenter")
_MODULES = Path("/usr/lib/uml/modules")
_PACKAGES = "apt-get install nfs-ganesha nfs-ganesha-vfs nfs-common user-mode-linux kmod"

_CONF = """NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = 12049; Bind_addr = 0.0.0.0; Enable_NLM = false;
    Enable_RQUOTA = false; Enable_UDP = false; }}
NFSv4 {{ Graceless = true; Minor_Versions = 1, 2; RecoveryBackend = fs; RecoveryRoot = {folder}/recovery;
    Lease_Lifetime = 10; }}
EXPORT {{ Export_Id = 1; Path = {folder}/export; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash;
    SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }} }}
"""

# A guest has the root file system of this machine, and none of its /run, /mnt and network. It does what it is given.
# Its process ids begin elsewhere than those of the others: on real machines they do.
_INIT = f"""#!/bin/bash
exec >"$SCRATCH/console.$NODE" 2>&1 </dev/null
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
dmesg -n 1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run; mount -t tmpfs mnt /mnt
mount --bind {_MODULES} /usr/lib/modules
mkdir -p {MOUNTED} /run/home; export HOME=/run/home
for ((n = 0; n < NODE * 50; n++)); do (:); done
hostname "node$NODE"; ip link set lo up
modprobe nfsv4
ip addr add "10.98.0.$NODE/24" dev vec0; ip link set vec0 up
for ((n = 0; n < 50; n++)); do
    mount -t nfs4 -o vers=4.2,port=12049,soft,timeo=50 {SERVER}:/export {MOUNTED} && break
    sleep 0.1
done
mountpoint -q {MOUNTED} && touch "$SCRATCH/up.$NODE"
n=1
while [ ! -e "$SCRATCH/stop" ]; do
    if [ -e "$SCRATCH/$NODE.$n.do" ]; then
        (bash "$SCRATCH/$NODE.$n.do" >"$SCRATCH/$NODE.$n.out" 2>&1; echo $? >"$SCRATCH/$NODE.$n.part"
         mv "$SCRATCH/$NODE.$n.part" "$SCRATCH/$NODE.$n.rc") &
        n=$((n + 1))
    else
        sleep 0.03
    fi
done
umount -l {MOUNTED}
echo o >/proc/sysrq-trigger; sleep 5
"""

# user-mode-linux 6.1 hands a process fewer registers than a CPU with AMX has, which the kernel outside refuses.
_ALL_REGISTERS = """#define _GNU_SOURCE
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SETREGSET = 0x4205, NT_X86_XSTATE = 0x202, PEEKTEXT = 1, PEEKUSER = 3 };

static char state[65536];

long ptrace(long request, long pid, void *address, void *data)
{
    if (request == SETREGSET && (long)address == NT_X86_XSTATE) {
        struct iovec *given = data, all = {state, sizeof state};
        memset(state, 0, sizeof state);
        memcpy(state, given->iov_base, given->iov_len);
        return syscall(SYS_ptrace, request, pid, address, &all);
    }
    if (request < PEEKTEXT || request > PEEKUSER)
        return syscall(SYS_ptrace, request, pid, address, data);
    long word, failed = syscall(SYS_ptrace, request, pid, address, &word);
    return failed ? failed : word;
}
"""


def lacks() -> str | None:
    """Why it cannot be started here, or None."""
    missing = [
        program for program in _PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    missing += [] if _MODULES.is_dir() else [str(_MODULES)]
    missing += [] if list(Path("/usr/lib").glob("*/ganesha/libfsalvfs.so")) else ["libfsalvfs.so"]
    if missing:
        return f"not installed: {', '.join(missing)} ({_PACKAGES})"
    if _has_amx() and shutil.which("gcc") is None:
        return "user-mode-linux needs gcc on a CPU with AMX"
    return "guests need root" if os.geteuid() != 0 else None


@dataclass(frozen=True)
class Task:
    """Something that a guest does."""

    nodes: "Nodes"
    mark: str

    @property
    def out(self) -> str:
        """What it has printed so far."""
        try:
            return (self.nodes.folder / f"{self.mark}.out").read_text()
        except FileNotFoundError:
            return ""

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for its end; returns its exit code."""
        file = self.nodes.folder / f"{self.mark}.rc"
        try:
            wait_for(file.exists, seconds)
        except AssertionError as error:
            raise AssertionError(f"{self.mark} goes on: {self.out}") from error
        return int(file.read_text())


class Nodes:
    """A file server and guests, in a network namespace of their own. Guests run this Python, on the same code.

    Args:
        folder: for scratch; a guest sees it too, at the same path and without a cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.export = folder / "export"
        self._network = f"lxnfs{os.getpid() % 100000}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._tasks: dict[int, int] = {}

    def up(self, count: int) -> None:
        """Start all, and wait until the guests have mounted the folder."""
        for name in ("export", "recovery", "uml"):
            (self.folder / name).mkdir(parents=True)
        Path("/usr/lib/modules").mkdir(exist_ok=True)  # guests mount theirs there
        (self.folder / "ganesha.conf").write_text(_CONF.format(folder=self.folder))
        (self.folder / "init").write_text(_INIT)
        (self.folder / "init").chmod(0o755)
        _ip("netns", "add", self._network)
        self._in_network("link", "set", "lo", "up")
        self._in_network("link", "add", "br0", "type", "bridge")
        self._in_network("addr", "add", f"{SERVER}/24", "dev", "br0")
        self._in_network("link", "set", "br0", "up")
        files = ["-f", f"{self.folder}/ganesha.conf", "-L", f"{self.folder}/ganesha.log", "-p", f"{self.folder}/pid"]
        self._start("ganesha", "ganesha.nfsd", "-F", *files)
        env = self._environment()
        for node in range(1, count + 1):
            self._in_network("tuntap", "add", f"tap{node}", "mode", "tap")
            self._in_network("link", "set", f"tap{node}", "master", "br0", "up")
            self._start(
                f"uml.{node}", "linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "rw",
                f"init={self.folder}/init", f"vec0:transport=tap,ifname=tap{node},depth=64,gro=1",
                "con=null", "con0=null,fd:1", "ssl=null", "quiet", f"uml_dir={self.folder}/uml", f"umid=node{node}",
                f"SCRATCH={self.folder}", f"NODE={node}", env=env,
            )  # fmt: skip
        self._tasks = dict.fromkeys(range(1, count + 1), 0)
        try:
            wait_for(self._are_up, 60)
        except AssertionError as error:
            logs = [*self.folder.glob("*.out"), *self.folder.glob("console.*"), self.folder / "ganesha.log"]
            told = "".join(f"--- {log.name}\n{log.read_text()[-2000:]}\n" for log in logs if log.exists())
            raise RuntimeError(f"the NFS server or a guest does not start\n{told}") from error

    def start(self, node: int, script: str, cwd: str = MOUNTED) -> Task:
        """Have a guest do a shell script, beside what it does already."""
        self._tasks[node] += 1
        mark = f"{node}.{self._tasks[node]}"
        first = (
            f"export PATH={Path(sys.executable).parent}:$PATH PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1\n"
            f"export LX_CACHE=/run/cache LX_LEASES=/run/leases.json\ncd {cwd}\n"
        )
        staged = self.folder / f".{mark}"
        staged.write_text(first + script)
        staged.rename(self.folder / f"{mark}.do")
        return Task(self, mark)

    def do(self, node: int, script: str, cwd: str = MOUNTED) -> str:
        """Have a guest do a shell script; returns what it prints."""
        return _whole(self.start(node, script, cwd))

    def all_do(self, script: str, cwd: str = MOUNTED) -> list[str]:
        """Have all guests do it at once; returns what they print. NODE is the number of each."""
        tasks = [self.start(node, script, cwd) for node in self._tasks]
        return [_whole(task) for task in tasks]

    def down(self) -> None:
        """End all, guests first, and take the network away."""
        (self.folder / "stop").touch()
        for process in reversed(self._processes):
            if process is self._processes[0]:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):  # a guest that has crashed may leave its processes behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run(["ip", "netns", "del", self._network], capture_output=True, check=False)

    def _environment(self) -> dict[str, str]:
        if not _has_amx():
            return {}
        source, library = self.folder / "registers.c", self.folder / "registers.so"
        source.write_text(_ALL_REGISTERS)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        return {"LD_PRELOAD": str(library)}

    def _start(self, name: str, *command: str, env: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.out").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    ["nsenter", f"--net=/run/netns/{self._network}", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=os.environ | {"HOME": str(self.folder)} | (env or {}),
                )
            )

    def _are_up(self) -> bool:
        assert all(process.poll() is None for process in self._processes)
        return all((self.folder / f"up.{node}").exists() for node in self._tasks)

    def _in_network(self, *words: str) -> None:
        _ip("-n", self._network, *words)


def _whole(task: Task) -> str:
    code = task.wait()
    assert code == 0, f"{task.mark} ended with {code}:\n{task.out}"
    return task.out


def _has_amx() -> bool:
    return " amx_tile" in Path("/proc/cpuinfo").read_text()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
