"""Runs a command as a systemd unit would confine it: `python confined.py UNIT COMMAND...`.

Of the unit's settings: SystemCallFilter, MemoryDenyWriteExecute and RestrictAddressFamilies, by libseccomp as systemd
itself does it, and NoNewPrivileges. What is denied gives an error and does not end the process (SystemCallErrorNumber).
"""

import ctypes
import errno
import mmap
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

LIBRARY = "libseccomp.so.2"
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
AF_COUNT = 46


class _Compared(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def lacking():
    """What is missing for this on this machine; empty where nothing is."""
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze is not installed"
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"{LIBRARY} is not installed"
    return ""


def prefix(unit):
    """The words to put before a command."""
    return [sys.executable, os.path.abspath(__file__), str(unit)]


def settings(unit):
    """What a unit sets in its section Service: a list of values for each name, in their order."""
    found, service = {}, False
    for line in Path(unit).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            service = line == "[Service]"
        elif service and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def calls(group):
    """The system calls of a group such as @system-service; a name that is not one is itself."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    names = [line.strip() for line in listed.stdout.splitlines()[1:] if line.startswith("    ")]
    return set().union(*(calls(name) for name in names if not name.startswith("#")))


def allowed(unit):
    """The system calls that a unit allows."""
    found = set()
    for value in settings(unit)["SystemCallFilter"]:
        listed = set().union(*map(calls, value.lstrip("~").split()))
        found = found - listed if value.startswith("~") else found | listed
    return found


class _Filter:
    def __init__(self, library, otherwise):
        self.library = library
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(otherwise)))

    def rule(self, action, name, *compared):
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # not on this machine
            return
        array = (_Compared * len(compared))(*(_Compared(*each) for each in compared))
        self.library.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(compared), array)

    def load(self):
        if self.library.seccomp_load(self.context):
            raise OSError("the filter of system calls cannot be loaded")


def confine(unit):
    """Confine this process and its children."""
    given, names = settings(unit), allowed(unit)
    library = ctypes.CDLL(LIBRARY)
    executable = _Filter(library, ALLOW)
    if given["MemoryDenyWriteExecute"] == ["yes"]:
        refuse, both = REFUSE | errno.EPERM, mmap.PROT_EXEC | mmap.PROT_WRITE
        executable.rule(refuse, "mmap", (2, MASKED_EQUAL, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            executable.rule(refuse, name, (2, MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC))
    families = {getattr(socket, name) for name in given["RestrictAddressFamilies"][0].split()}
    for family in set(range(AF_COUNT)) - families:
        executable.rule(REFUSE | errno.EAFNOSUPPORT, "socket", (0, EQUAL, family, 0))
    executable.load()
    system = _Filter(library, REFUSE | errno.EPERM)
    for name in names:
        system.rule(ALLOW, name)
    system.load()


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
