"""Three hosts on one machine, with a Ray node in each.

A host is a set of namespaces: network, processes, mounts, name and System V objects. So it has an
address, process ids, a `/dev/shm`, a folder (`Hosts.folder`) and a hostname of its own; the rest of
the file system is the machine's. A further network namespace has a bridge, the switch, into which
each host's cable leads. Nothing of this is seen in the machine's own network, and two runs do not
meet: they have the same addresses on different switches.

A host's first process ends when its standard input does, and with it the kernel ends all other
processes of the host. This input is a pipe from the process that made the hosts. So they end with
that process, even if it is killed. What is left then are names; the next run removes them.

``python -m tests.cluster.hosts COMMAND ...`` runs a command on the first of three hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = pathlib.Path("/run")
PREFIX = "procession-hosts-"
NETWORK = "10.77.0"
PORT = 6379
#: The address of Ray's head.
ADDRESS = f"{NETWORK}.1:{PORT}"
NO_RAY = "Ray is not installed here: `make cluster` installs it and runs these tests"

#: A node counts as dead after this many seconds without an answer.
SECONDS_TO_DEATH = 10
#: For each node. Ray ends workers when the machine's memory is short; here it has other users, too.
SETTINGS = {
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": str(SECONDS_TO_DEATH),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
#: The first process of a host. It says its pid as seen from outside, where `/proc` is still of the
#: machine. While it waits it also reaps orphans.
INIT = """
read outer rest < /proc/self/stat
mount -t proc proc /proc && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs "$1" &&
hostname "$2" && ip link set lo up && echo "$outer" || exit 1
exec 3<&0
cat <&3 > /dev/null &
wait $!
"""


def lacking() -> str | None:
    """Return why hosts cannot be made here, or None if they can."""
    if os.geteuid() != 0:
        return "namespaces of networks need root"
    for command in ("ip", "nsenter", "unshare"):
        if shutil.which(command) is None:
            return f"the command `{command}` is missing"
    if importlib.util.find_spec("ray") is None:
        return NO_RAY
    trial = f"{PREFIX}{os.getpid()}-trial"
    made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True)
    if made.returncode:
        return f"this machine does not allow namespaces of networks: {made.stderr.strip()}"
    ip("netns", "del", trial)
    return None


def lacking_netem(hosts: Hosts) -> str | None:
    """Return why `Host.impair` cannot work here, or None if it can."""
    if shutil.which("tc") is None:
        return "the command `tc` is missing"
    trial = ("qdisc", "replace", "dev", "bridge", "root", "netem", "delay", "0ms")
    done = subprocess.run(["tc", "-n", hosts.switch, *trial], capture_output=True, text=True)
    if done.returncode:
        return f"this kernel has no netem: {done.stderr.strip()}"
    return None


def ip(*args: str) -> str:
    return checked("ip", *args)


def checked(*command: str) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        text = done.stdout + done.stderr
        raise OSError(f"{' '.join(command)} ended with {done.returncode}: {text}")
    return done.stdout


class Host:
    """A host: `number` counts from 0, the head."""

    def __init__(self, hosts: Hosts, number: int) -> None:
        self.number = number
        self.name = f"host{number}"
        self.address = f"{NETWORK}.{number + 1}"
        self.port = f"port{number}"
        self.net = f"{hosts.name}-{self.name}"
        self.hosts = hosts
        self.init: subprocess.Popen[str] | None = None
        self.pid = 0
        self.plugged_in = False

    def connect(self) -> None:
        """Boot the host, with its cable plugged in."""
        switch = self.hosts.switch
        ip("netns", "add", self.net)
        link = ("link", "add", self.port, "type", "veth", "peer", "name", "eth0")
        ip("-n", switch, *link, "netns", self.net)
        self.plugged_in = True
        ip("-n", switch, "link", "set", self.port, "master", "bridge", "up")
        ip("-n", self.net, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.net, "link", "set", "eth0", "up")
        # Ray finds a node's own address by the route to the world.
        ip("-n", self.net, "route", "add", "default", "via", f"{NETWORK}.254")
        namespaces = ("unshare", "--pid", "--fork", "--mount", "--uts", "--ipc")
        folder = str(self.hosts.folder)
        self.init = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                self.net,
                *namespaces,
                "sh",
                "-c",
                INIT,
                "-",
                folder,
                self.name,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.init.stdout is not None and self.init.stderr is not None
        pid = self.init.stdout.readline()
        if not pid:
            raise OSError(f"{self.name} did not boot: {self.init.stderr.read()}")
        self.pid = int(pid)

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs a command here, in the host's own folder."""
        enter = ("nsenter", f"--target={self.pid}", "--net", "--pid", "--mount", "--uts", "--ipc")
        then = ("sh", "-c", 'cd "$0" && exec "$@"', str(self.hosts.folder))
        return [*enter, "--", *then, *command]

    def path(self, name: str) -> pathlib.Path:
        """Return the path, seen from outside, of a file in this host's own folder."""
        return pathlib.Path(f"/proc/{self.pid}/root{self.hosts.folder}", name)

    def start_ray(self) -> subprocess.Popen[str]:
        """Begin to start the host's Ray node; the process ends once that runs."""
        place = [f"--address={ADDRESS}"]
        if self.number == 0:
            place = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        return self.popen(
            [
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                *place,
                f"--node-ip-address={self.address}",
                f"--temp-dir={self.hosts.folder}/ray",
                f"--num-cpus={self.hosts.cpus}",
                f"--object-store-memory={80 << 20}",
                "--disable-usage-stats",
            ]
        )

    def popen(self, command: list[str], **options) -> subprocess.Popen[str]:
        """Start a command as `inside` says, in a session of its own, and with Ray's address."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        streams["stdin"] = subprocess.DEVNULL
        return subprocess.Popen(
            self.inside(*command),
            text=True,
            start_new_session=True,
            env=self.hosts.environment,
            **{**streams, **options},
        )

    def cut_cable(self) -> None:
        """Pull the cable: what is sent to and from this host is lost, and nobody is told."""
        ip("-n", self.hosts.switch, "link", "set", self.port, "down")

    def restore_cable(self) -> None:
        ip("-n", self.hosts.switch, "link", "set", self.port, "up")

    def impair(self, delay: float, loss: float = 0.0) -> None:
        """Have the cable delay each packet by `delay` ms and lose `loss` % of them, both ways.

        `impair(0)` ends that. What `lacking_netem` returns must be None.
        """
        how = ("netem", "delay", f"{delay}ms", "loss", f"{loss}%")
        for net, link in ((self.net, "eth0"), (self.hosts.switch, self.port)):
            checked("tc", "-n", net, "qdisc", "replace", "dev", link, "root", *how)

    def cut_power(self) -> None:
        """End all of the host's processes. The cable goes first, so no connection is closed."""
        self.cut_cable()
        self.take_away()

    def take_away(self) -> None:
        """End the host's processes and remove its network, as far as they exist."""
        if self.init is not None:
            if self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            for stream in (self.init.stdin, self.init.stdout, self.init.stderr):
                assert stream is not None
                stream.close()
            self.init.wait()
            self.init, self.pid = None, 0
        if self.plugged_in:
            # Not left to the end of the network namespace, which the kernel takes apart later.
            ip("-n", self.hosts.switch, "link", "del", self.port)
            self.plugged_in = False
        remove_network(self.net)

    def is_up(self) -> bool:
        return self.init is not None


class Hosts(list[Host]):
    """Hosts with a Ray node each, from entering this context until it is left.

    `hosts[0]` is the head. Each node has `cpus` CPUs, as Ray counts them. `ray=False`: without Ray.
    """

    def __init__(self, count: int = 3, cpus: int = 4, ray: bool = True) -> None:
        self.name = f"{PREFIX}{os.getpid()}"
        self.switch = f"{self.name}-switch"
        self.folder = RUN / self.name
        self.cpus = cpus
        self.ray = ray
        self.address = ADDRESS
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        path = [ROOT / "python", *(pathlib.Path(part).resolve() for part in given if part)]
        self.environment = {
            **os.environ,
            **SETTINGS,
            "RAY_ADDRESS": ADDRESS,
            "TMPDIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
        }
        super().__init__(Host(self, number) for number in range(count))
        self._lock: int | None = None

    def __enter__(self) -> Hosts:
        remove_leftovers()
        self._lock = lock(self.name)
        if self._lock is None:
            raise RuntimeError("a process can have one set of hosts at a time")
        try:
            self.folder.mkdir()
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self.switch, "addr", "add", f"{NETWORK}.254/24", "dev", "bridge")
            ip("-n", self.switch, "link", "set", "bridge", "up")
            self.repair()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self:
            host.take_away()
        remove_network(self.switch)
        with contextlib.suppress(FileNotFoundError):
            self.folder.rmdir()
        if self._lock is not None:
            unlock(self.name, self._lock)
            self._lock = None

    def repair(self) -> None:
        """Boot the hosts that are down, and plug all cables in. Without the head, all boot anew."""
        if not self[0].is_up():
            for host in self:
                host.take_away()
        down = [host for host in self if not host.is_up()]
        for host in self:
            if host in down:
                host.connect()
            else:
                host.restore_cable()
        if self.ray:
            head = [host for host in down if host.number == 0]
            for group in (head, [host for host in down if host.number]):
                for host, start in [(host, host.start_ray()) for host in group]:
                    said = start.communicate(timeout=120)[0]
                    if start.returncode:
                        raise OSError(f"Ray did not start on {host.name}: {said}")


def lock(name: str) -> int | None:
    """Take the lock that a run keeps while it lives; return it, or None if it is taken."""
    path = RUN / f"{name}.lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)  # another run removed the file meanwhile


def unlock(name: str, descriptor: int) -> None:
    (RUN / f"{name}.lock").unlink()
    os.close(descriptor)


def remove_network(net: str) -> None:
    """Remove a network namespace, with the links in it, if it exists."""
    if os.path.exists(f"/run/netns/{net}"):
        ip("netns", "del", net)


def remove_leftovers() -> None:
    """Remove what runs left that did not end by themselves."""
    for path in RUN.glob(f"{PREFIX}*.lock"):
        name = path.name.removesuffix(".lock")
        descriptor = lock(name)
        if descriptor is None:
            continue  # it lives
        for net in pathlib.Path("/run/netns").glob(f"{name}-*"):
            for pid in ip("netns", "pids", net.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            remove_network(net.name)
        with contextlib.suppress(FileNotFoundError):
            (RUN / name).rmdir()
        unlock(name, descriptor)


def main() -> int:
    if reason := lacking():
        print(reason, file=sys.stderr)
        return 1
    with Hosts() as hosts:
        command = hosts[0].popen(sys.argv[1:], stdout=None, stderr=None)
        try:
            return command.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
