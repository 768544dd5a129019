"""The inside of the sandbox: gives up every privilege of this process, then runs one program in it.

It is run by path as `python -I -S -B jail.py`, with the standard library only: nothing of drsft is importable
here. A JSON request comes on stdin, and one report goes to the descriptor named in it. The program must not
be able to forge the report, so the report contains a secret that is not in the program's globals. A program
that extracts it from the interpreter's frames can still forge it, as in every sandbox that tests in-process.

Protections, and what gives them:
- no network, no new processes, no signals to others, no tracing, no change of rights: a seccomp filter
- reading only Python and system libraries, writing only in its own folder: Landlock
- no capabilities: capset (matters for root)
- processor time, memory, file size, open files, core files: resource limits
"""

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
LIBC = ctypes.CDLL(None, use_errno=True)

# --- seccomp: numbers from linux/audit.h, linux/seccomp.h and the kernel's syscall tables ------------------

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
EPERM, ENOSYS = 1, 38
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
CLONE_THREAD = 0x10000
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

DENIED = {
    "x86_64": {
        "socket": 41,
        "connect": 42,
        "bind": 49,
        "socketpair": 53,
        "fork": 57,
        "vfork": 58,
        "execve": 59,
        "kill": 62,
        "chmod": 90,
        "fchmod": 91,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "ptrace": 101,
        "setpgid": 109,
        "setsid": 112,
        "utime": 132,
        "mknod": 133,
        "pivot_root": 155,
        "setrlimit": 160,
        "chroot": 161,
        "mount": 165,
        "umount2": 166,
        "setxattr": 188,
        "lsetxattr": 189,
        "fsetxattr": 190,
        "tkill": 200,
        "utimes": 235,
        "keyctl": 250,
        "mknodat": 259,
        "fchownat": 260,
        "futimesat": 261,
        "fchmodat": 268,
        "unshare": 272,
        "utimensat": 280,
        "perf_event_open": 298,
        "setns": 308,
        "process_vm_writev": 311,
        "bpf": 321,
        "execveat": 322,
        "userfaultfd": 323,
        "pidfd_send_signal": 424,
        "io_uring_setup": 425,
        "fsopen": 430,
        "fchmodat2": 452,
    },
    "aarch64": {
        "setxattr": 5,
        "lsetxattr": 6,
        "fsetxattr": 7,
        "mknodat": 33,
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "chroot": 51,
        "fchmod": 52,
        "fchmodat": 53,
        "fchownat": 54,
        "fchown": 55,
        "utimensat": 88,
        "unshare": 97,
        "ptrace": 117,
        "kill": 129,
        "tkill": 130,
        "setpgid": 154,
        "setsid": 157,
        "setrlimit": 164,
        "socket": 198,
        "socketpair": 199,
        "bind": 200,
        "connect": 203,
        "keyctl": 219,
        "execve": 221,
        "perf_event_open": 241,
        "setns": 268,
        "process_vm_writev": 271,
        "bpf": 280,
        "execveat": 281,
        "userfaultfd": 282,
        "pidfd_send_signal": 424,
        "io_uring_setup": 425,
        "fsopen": 430,
        "fchmodat2": 452,
    },
}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
TGKILL = {"x86_64": 234, "aarch64": 131}
PRLIMIT = {"x86_64": 302, "aarch64": 261}


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _filter(machine: str) -> bytes:
    """Returns a filter that denies system calls by name and allows the rest.

    Python needs many, but none of these.
    """
    number, architecture, first_argument, third_argument = 0, 4, 16, 32
    program = [
        _instruction(LOAD, architecture),
        _instruction(JUMP_EQUAL, ARCHITECTURES[machine], 1, 0),
        _instruction(RETURN, KILL),
        _instruction(LOAD, number),
        # The x32 calls of x86_64 are the same calls under other numbers.
        _instruction(JUMP_GREATER_EQUAL, 0x40000000, 0, 1),
        _instruction(RETURN, ERRNO | ENOSYS),
    ]
    for denied in DENIED[machine].values():
        program += [_instruction(JUMP_EQUAL, denied, 0, 1), _instruction(RETURN, ERRNO | EPERM)]
    # Threads yes, processes no; libc falls back to clone when clone3 does not exist.
    program += [
        _instruction(JUMP_EQUAL, CLONE3, 0, 1),
        _instruction(RETURN, ERRNO | ENOSYS),
        _instruction(JUMP_EQUAL, CLONE[machine], 0, 3),
        _instruction(LOAD, first_argument),
        _instruction(JUMP_SET, CLONE_THREAD, 1, 0),
        _instruction(RETURN, ERRNO | EPERM),
        _instruction(LOAD, number),
        # abort() signals its own process; nobody else's.
        _instruction(JUMP_EQUAL, TGKILL[machine], 0, 3),
        _instruction(LOAD, first_argument),
        _instruction(JUMP_EQUAL, os.getpid(), 1, 0),
        _instruction(RETURN, ERRNO | EPERM),
        _instruction(LOAD, number),
        # Limits may be read, not raised.
        _instruction(JUMP_EQUAL, PRLIMIT[machine], 0, 3),
        _instruction(LOAD, third_argument),
        _instruction(JUMP_EQUAL, 0, 1, 0),
        _instruction(RETURN, ERRNO | EPERM),
        _instruction(RETURN, ALLOW),
    ]
    return b"".join(program)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def filter_system_calls() -> bool:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        return False
    code = _filter(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


# --- Landlock: linux/landlock.h ----------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ_FILE, READ_DIR, EXECUTE, WRITE_FILE = 1 << 2, 1 << 3, 1 << 0, 1 << 1
RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
READABLE = ("/usr", "/lib", "/lib64", "/etc/localtime", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def confine_files(folder: str) -> bool:
    """Confines this process by Landlock to its `folder`, and to reading libraries; returns False where that
    is not possible.
    """
    if sys.platform != "linux":
        return False
    abi = LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return False
    rights = RIGHTS_BY_ABI[min(abi, 3)]
    attributes = struct.pack("=Q", rights)
    ruleset = LIBC.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    reading = READ_FILE | READ_DIR | EXECUTE
    allowed = [(folder, rights)]
    allowed += [(path, reading) for path in {sys.prefix, sys.base_prefix, *READABLE}]
    allowed += [(path, READ_FILE | WRITE_FILE) for path in DEVICES]
    for path, granted in allowed:
        if not _allow(ruleset, path, granted):
            return False
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    is_restricted = bool(LIBC.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    os.close(ruleset)
    return is_restricted


def _allow(ruleset: int, path: str, granted: int) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True  # what does not exist needs no rule
    if not os.path.isdir(path):
        granted &= READ_FILE | WRITE_FILE | EXECUTE
    rule = struct.pack("=Qi", granted, descriptor)
    is_added = bool(LIBC.syscall(ADD_RULE, ruleset, 1, rule, 0) == 0)
    os.close(descriptor)
    return is_added


# --- the rest ----------------------------------------------------------------------------------------------


def drop_capabilities() -> bool:
    """Drops root's capabilities; returns False if that fails.

    The process keeps an ordinary user's rights to root's files; Landlock has to block these.
    """
    if sys.platform != "linux":
        return False
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    return bool(LIBC.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)) == 0)


def limit_resources(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        which = getattr(resource, name)
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second more before the kernel's SIGKILL: SIGXCPU says why the program died.
        above = value + 1 if name == "RLIMIT_CPU" and hard == resource.RLIM_INFINITY else value
        resource.setrlimit(which, (value, above))


def protect(folder: str, limits: dict[str, int]) -> list[str]:
    """Applies all protections; returns the names of those that this machine could not give."""
    missing = []
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    limit_resources(limits)
    if not confine_files(folder):
        missing.append("files")
    if not drop_capabilities():
        missing.append("capabilities")
    if not filter_system_calls():
        missing.append("processes and network")
    return missing


def run(program: str) -> tuple[str, str]:
    """Runs the program; returns status and detail.

    The status is "passed", "failed" (an assertion), "raised" (with the exception's name) or "exited".
    """
    try:
        code = compile(program, "<solution>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "raised", type(error).__name__
    try:
        exec(code, {"__name__": "solution", "__builtins__": __builtins__})
    except AssertionError:
        return "failed", ""
    except SystemExit:
        return "exited", ""
    except BaseException as error:  # whatever the program raises is its own affair
        return "raised", type(error).__name__[:80]
    return "passed", ""


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    missing = protect(request["folder"], request["limits"])
    is_refused = bool(set(missing) & set(request["required"]))
    status, detail = ("refused", "") if is_refused else run(request["program"])
    report = {"word": request["word"], "status": status, "detail": detail, "missing": missing}
    os.write(request["descriptor"], json.dumps(report).encode() + b"\n")
    os._exit(0)  # no atexit handler, no thread and no destructor of the program has a say any more


if __name__ == "__main__":
    main()
