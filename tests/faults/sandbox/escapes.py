# A hostile hand uses the system directly, and any error is a refusal.
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH110, PTH112, PTH115, PTH123, PTH207, PTH208, PTH211, SIM115, RUF015, PT017
"""Code of a hostile step: each function tries one way out. It raises when it was refused.

Runs inside the sandbox with the standard library alone; ``try_all`` is the task.
"""

import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress

LIBC = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
FACTS = {}


def call(number_x86, number_arm, *arguments):
    result = LIBC.syscall(number_arm if ARM else number_x86, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def check(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def read(path):
    with open(path, "rb") as file:
        return repr(file.read(100))


def write(path, data=b"x"):
    with open(path, "wb") as file:
        file.write(data)
    return "written"


# Files of the machine and of others.
def read_shadow():
    return read("/etc/shadow")


def read_host_passwd():
    names = [line.split(":")[0] for line in open("/etc/passwd")]
    if names == ["task"]:
        raise PermissionError("only the sandbox's own")
    return names


def list_root_home():
    return [name for name in os.listdir("/root") if name != ".pyenv"][0]


def list_home():
    return os.listdir("/home")


def read_host_file():
    return read(FACTS["host_file"])


def read_object():
    return read(FACTS["object"])


def list_data_folder():
    return os.listdir(FACTS["data"])


def read_other_task():
    return read(FACTS["other_task"])


def read_scratch():
    return os.listdir(FACTS["scratch"])


def read_through_proc_root():
    return read("/proc/1/root" + FACTS["host_file"])


def read_by_climbing():
    return read("/task/in/../../.." + FACTS["host_file"])


def find_settings():
    found = [
        path for path in ("/var", "/srv", "/opt", "/run", "/boot", "/work") if os.path.exists(path)
    ]
    return found[0]


def open_by_handle():
    return call(304, 265, 3, b"\x08\0\0\0\x01\0\0\0" + b"\2" + b"\0" * 7, os.O_RDONLY)


def name_to_handle():
    return call(303, 264, -100, b"/usr", b"\x80\0\0\0" + b"\0" * 200, b"\0" * 8, 0)


def read_disk_device():
    return [read(path) for path in glob.glob("/dev/[svn][dv]*")][0]


# The worker and its processes.
def see_other_processes():
    others = [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) not in (1, os.getpid())
    ]
    return others[0]


def read_parent_environment():
    return read("/proc/1/environ")


def read_parent_memory():
    return open("/proc/1/mem", "rb")


def write_parent_memory():
    return open("/proc/1/mem", "r+b")


def list_parent_files():
    return os.listdir("/proc/1/fd")


def reopen_parent_socket():
    return open("/proc/1/fd/3", "r+b")


def ptrace_parent():
    return call(101, 117, 16, 1, 0, 0)


def read_parent_vm():
    place = ctypes.create_string_buffer(8)
    vector = struct.pack("QQ", ctypes.addressof(place), 8)
    return call(310, 270, 1, vector, 1, vector, 1, 0)


def steal_parent_socket():
    pidfd = call(434, 434, 1, 0)
    for number in range(16):
        with suppress(OSError):
            return call(438, 438, pidfd, number, 0)
    raise PermissionError("none")


def kill_parent():
    os.kill(1, signal.SIGKILL)
    time.sleep(0.05)
    os.kill(1, 0)
    raise PermissionError("it lives")


def stop_parent():
    os.kill(1, signal.SIGSTOP)
    state = open("/proc/1/stat").read().rpartition(")")[2].split()[0]
    if state not in "Tt":
        raise PermissionError("it goes on")
    return state


def interrupt_parent():
    os.kill(1, signal.SIGINT)
    time.sleep(0.05)
    os.kill(1, 0)
    raise PermissionError("it goes on")


def parent_limits():
    return call(302, 261, 1, 7, struct.pack("QQ", 1, 1), 0)


def find_control_socket():
    own = [
        os.readlink("/proc/self/fd/" + name)
        for name in os.listdir("/proc/self/fd")
        if os.path.lexists("/proc/self/fd/" + name)
    ]
    return [name for name in own if name.startswith("socket:")][0]


def find_secrets_of_server():
    mine = {
        "PATH",
        "HOME",
        "TMPDIR",
        "USER",
        "LANG",
        "VIRTUAL_ENV",
        "PWD",
        "LC_CTYPE",
        "OMP_WAIT_POLICY",
        "CUDA_VISIBLE_DEVICES",  # Empty: a task without a GPU sees none.
    }
    foreign = [
        name
        for name in os.environ
        if name not in mine
        and not name.startswith(("MILLPOND_", "PYTHON"))
        and not name.endswith("_NUM_THREADS")
    ]
    return foreign[0]


# Namespaces, mounts, privileges.
def mount_tmpfs():
    check(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None))
    return "mounted"


def remount_root_writable():
    check(LIBC.mount(b"none", b"/", None, 32 | 4096, None))
    return "remounted"


def unmount_input():
    check(LIBC.umount2(b"/task/in", 2))
    return "unmounted"


def new_mount_api():
    return call(430, 430, b"tmpfs", 0)


def open_tree():
    return call(428, 428, -100, b"/", 1)


def unshare_user():
    check(LIBC.unshare(0x10000000))
    return "unshared"


def unshare_network():
    check(LIBC.unshare(0x40000000))
    return "unshared"


def clone_into_new_user_namespace():
    flags = 0x10000000 | signal.SIGCHLD
    pid = call(56, 220, flags, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def clone3_into_new_user_namespace():
    arguments = struct.pack("QQQQQQQQ", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call(435, 435, arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def join_namespace():
    check(LIBC.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
    return "joined"


def chroot_out():
    os.chroot("/tmp")
    return "chrooted"


def pivot_root():
    return call(155, 41, b"/", b"/tmp")


def become_root():
    os.setuid(0)
    return "root"


def become_other():
    os.setuid(1001)
    return "other"


def write_uid_map():
    return write("/proc/self/uid_map", b"0 0 1")


def run_su():
    return _privileged("su", "-c", "id -u")


def run_mount_program():
    return _privileged("mount", "-t", "tmpfs", "none", "/tmp")


def run_passwd():
    return _privileged("passwd", "-d", "root")


def _privileged(*command):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PermissionError(done.stderr[:80])
    return done.stdout


def make_setuid_program():
    with open("/task/out/own", "wb") as file:
        file.write(open("/usr/bin/id", "rb").read())
    os.chown("/task/out/own", 0, 0)
    return "owned by root"


def gain_capabilities():
    status = open("/proc/self/status").read()
    gained = [
        line for line in status.splitlines() if line.startswith("Cap") and int(line.split()[1], 16)
    ]
    return gained[0]


def lose_no_new_privs():
    if "NoNewPrivs:\t1" in open("/proc/self/status").read():
        raise PermissionError("kept")
    return "lost"


def lack_a_filter():
    if "Seccomp:\t2" in open("/proc/self/status").read():
        raise PermissionError("there is one")
    return "no filter"


# Writing where others read.
def write_environment():
    return write("/env/bin/python3x")


def change_interpreter():
    return open(os.path.realpath("/env/bin/python"), "r+b")


def write_usr():
    return write("/usr/lib/x")


def write_kit():
    return write("/kit/millpond/task.py")


def poison_kit_bytecode():
    folder = "/kit/millpond/__pycache__"
    os.makedirs(folder, exist_ok=True)
    return write(folder + "/task.cpython-39.pyc")


def write_code():
    return write("/code/escapes.py")


def write_input():
    return write("/task/in/a")


def append_input():
    with open("/task/in/a", "ab") as file:
        file.write(b"x")
    return "appended"


def chmod_input():
    os.chmod("/task/in/a", 0o777)
    return "changed"


def rename_input():
    os.rename("/task/in/a", "/task/in/b")
    return "renamed"


def replace_out_folder():
    os.rename("/task/out", "/task/elsewhere")
    return "renamed"


def write_root():
    return write("/x")


def write_etc():
    return write("/etc/passwd")


def write_dev():
    return write("/dev/x")


def link_input_out():
    os.link("/task/in/a", "/task/out/linked")
    return "linked"


def link_system_out():
    os.link("/usr/bin/env", "/task/out/linked2")
    return "linked"


def make_device():
    os.mknod("/task/out/device", 0o660 | 0o020000, os.makedev(1, 1))
    return "made"


def make_disk_device():
    os.mknod("/task/out/disk", 0o660 | 0o060000, os.makedev(254, 0))
    return "made"


# The kernel.
def write_sysrq():
    return write("/proc/sysrq-trigger", b"s")


def write_proc_sys():
    return write("/proc/sys/kernel/hostname")


def write_core_pattern():
    return write("/proc/sys/kernel/core_pattern", b"|/tmp/x")


def write_sys():
    return write(glob.glob("/sys/*/*")[0] if os.path.isdir("/sys") else "/sys/kernel/x")


def leave_cgroup():
    paths = glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)
    return write(paths[0], b"0")


def use_bpf():
    return call(321, 280, 0, b"\0" * 64, 64)


def use_keyring():
    return call(248, 217, b"user", b"name", b"value", 5, -3)


def read_keyring():
    return call(250, 219, 0, -3, 0)


def use_userfaultfd():
    return call(323, 282, 1)


def use_perf():
    return call(298, 241, b"\0" * 112, 0, -1, -1, 0)


def use_io_uring():
    return call(425, 425, 4, b"\0" * 120)


def load_module():
    return call(313, 273, os.open("/dev/null", os.O_RDONLY), b"", 0)


def load_kernel():
    return call(246, 104, 0, 0, 0, 0)


def read_kernel_log():
    return call(103, 116, 3, ctypes.create_string_buffer(100), 100)


def read_kmsg():
    return read("/dev/kmsg")


def read_kernel_memory():
    return read("/dev/mem")


def read_kernel_core():
    return read("/proc/kcore")


def use_kvm():
    return open("/dev/kvm", "r+b")


def use_fuse():
    return open("/dev/fuse", "r+b")


def reboot():
    check(LIBC.reboot(0))
    return "rebooted"


def set_clock():
    time.clock_settime(time.CLOCK_REALTIME, time.time())
    return "set"


def set_host_name():
    socket.sethostname("evil")
    return "set"


def raise_priority():
    os.nice(-5)
    return "raised"


def raise_limit():
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard + 1))
    return "raised"


def switch_swap():
    return call(167, 224, b"/task/out/swap", 0)


def inject_terminal_input():
    fcntl.ioctl(0, 0x5412, b"x")
    return "injected"


def inject_pty_input():
    _, slave = os.openpty()
    fcntl.ioctl(slave, 0x5412, b"x")
    return "injected"


def lock_memory():
    block = mmap.mmap(-1, 64 << 20)
    check(LIBC.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(block))), 64 << 20))
    return "locked"


# Networks.
def connect_loopback():
    return str(socket.create_connection(("127.0.0.1", FACTS["port"]), timeout=2))


def connect_outside():
    return str(socket.create_connection(("192.0.2.1", 80), timeout=2))


def resolve_name():
    return socket.gethostbyname("example.org")


def connect_abstract():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + FACTS["abstract"])
    return "connected"


def connect_unix():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(FACTS["unix"])
    return "connected"


def use_vsock():
    return str(socket.socket(40, socket.SOCK_STREAM))


def use_raw_socket():
    return str(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))


def use_packet_socket():
    return str(socket.socket(17, socket.SOCK_RAW))


def use_kernel_crypto():
    return str(socket.socket(38, socket.SOCK_SEQPACKET))


def see_network_devices():
    return [name for _, name in socket.if_nameindex() if name != "lo"][0]


def add_address():
    return _privileged("ip", "addr", "add", "10.9.8.7/24", "dev", "lo")


def try_all(names, facts):
    """Try each; give what it brought, or None when it was refused."""
    FACTS.update(facts)
    results = {}
    for name in names:
        try:
            results[name] = str(globals()[name]())[:200]
        except (OSError, IndexError, ValueError, OverflowError, FileNotFoundError) as fault:
            results[name] = None
            print(name, "refused:", fault)
    return results


# Afterwards, for the next task of the same key, and for the worker.
def leave_odd_names():
    for name in (b"line\nbreak", b"bytes\xff", b"..data", b" ", b"$(id)", b"-rf", b"\x1b[31m"):
        with open(b"/task/out/" + name, "wb") as file:
            file.write(b"ok")
    os.mkdir("closed")
    open("closed/inside", "w").close()
    os.chmod("closed", 0)


def leave_links():
    os.symlink("/etc/shadow", "link")
    os.symlink("/", "rootlink")
    os.mkdir("folder")
    os.symlink("../../../../../..", "folder/up")
    os.symlink("/proc/1/root", "magic")
    os.mkfifo("pipe")
    socket.socket(socket.AF_UNIX).bind("socket")
    open("first", "w").write("1")
    os.link("first", "second")


def leave_sparse():
    with open("sparse", "wb") as file:
        file.truncate(int(open("/task/in/a").read() or 0))


def leave_deep_tree():
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")


def leave_many():
    for number in range(3000):
        open(str(number), "w").close()


def leave_result(kind):
    os.mkdir(".millpond")
    path = ".millpond/result.json"
    if kind == "link":
        os.symlink("/proc/self/environ", path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "deep":
        open(path, "w").write("[" * 60000)
    elif kind == "nan":
        open(path, "w").write("NaN")
    else:
        open(path, "w").write(json.dumps("x" * 70000))


def open_all_files():
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as fault:
        assert fault.errno == errno.EMFILE
        for fd in kept:
            os.close(fd)
        return {"opened": len(kept)}


def fill_tmp():
    try:
        with open("/tmp/full", "wb") as file:
            while True:
                file.write(b"x" * (1 << 20))
    except OSError as fault:
        return {"stopped": fault.errno}


def map_memory():
    block = mmap.mmap(-1, 1 << 30)
    for start in range(0, len(block), 4096):
        block[start] = 1


def bomb():
    while True:
        with suppress(OSError):
            os.fork()


def print_without_end():
    line = b"x" * 4096 + b"\n"
    while True:
        os.write(1, line)


def progress_without_end():
    fd = int(os.environ["MILLPOND_PROGRESS_FD"])
    end = time.monotonic() + 1
    while time.monotonic() < end:
        os.write(fd, b'{"done": 1, "message": "' + b"m" * 3000 + b'"}\n')
    os.write(fd, b"[" * 100000)


def forge_report():
    """Write what looks like the runner's report to everything that can be written to."""
    body = json.dumps({"code": 0, "cancelled": False, "leftovers": False}).encode()
    for number in range(3, 64):
        with suppress(OSError):
            os.write(number, struct.pack("!I", len(body)) + body)
    sys.exit(9)


def shared_memory():
    """Leave System V memory, a message queue and a semaphore behind."""
    for function, arguments in (
        ("shmget", (77, 4096, 0o1666)),
        ("msgget", (77, 0o1666)),
        ("semget", (77, 1, 0o1666)),
    ):
        assert getattr(LIBC, function)(*arguments) >= 0


def count_shared_memory():
    return {
        kind: len(open("/proc/sysvipc/" + kind).readlines()) - 1 for kind in ("shm", "msg", "sem")
    }


def change_state():
    import random

    random.seed(5)
    os.environ["LD_PRELOAD"] = "/tmp/evil.so"
    sys.path.insert(0, "/tmp")
    sys.modules["json"] = None
    json.loads = None
    with suppress(OSError):
        os.kill(os.getppid(), signal.SIGCHLD)
    open("/tmp/escapes.py", "w").write("raise SystemExit(1)")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.umask(0)


def tell_state():
    import random

    return {
        "random": random.random(),
        "preload": os.environ.get("LD_PRELOAD"),
        "path": "/tmp" in sys.path,
        "json": callable(json.loads),
        "tmp": os.listdir("/tmp"),
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "umask": os.umask(0o22),
    }


def spawn_daemons(count):
    for _ in range(count):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            while True:
                time.sleep(60)


def overload():
    """Die of memory in a child, then go on."""
    pid = os.fork()
    if pid == 0:
        map_memory()
        os._exit(0)
    return {"child": os.waitpid(pid, 0)[1]}
