"""Makes every Python that has this folder on its path as much like that of macOS as Linux lets it be.

What Linux alone has is taken out of the standard library before anything looks for it, sockets have the short paths of
BSD, and processes are spawned. The kernel stays Linux's.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import sys
import types
from typing import Any

# By module, the beginnings of the names that there are on Linux and not on macOS. What is imported later looks for
# those that were imported before.
LINUX_ALONE: dict[str, tuple[str, ...]] = {
    "select": ("epoll", "EPOLL"),
    "os": (
        "copy_file_range", "memfd_create", "MFD_", "eventfd", "EFD_", "getrandom", "GRND_", "sched_getaffinity",
        "sched_setaffinity", "sched_setscheduler", "sched_getscheduler", "sched_setparam", "sched_getparam", "sched_rr",
        "pidfd_open", "P_PIDFD", "posix_fadvise", "posix_fallocate", "POSIX_FADV_", "pipe2", "getxattr", "setxattr",
        "listxattr", "removexattr", "XATTR_", "O_TMPFILE", "O_PATH", "O_DIRECT", "O_NOATIME", "O_LARGEFILE", "O_RSYNC",
        "splice", "SPLICE_", "unshare", "setns", "CLONE_", "getresuid", "getresgid", "setresuid", "setresgid",
        "fdatasync", "RTLD_DEEPBIND", "preadv2", "pwritev2", "RWF_", "timerfd_", "TFD_", "posix_openpt",
    ),
    "socket": (
        "SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_CORK", "TCP_QUICKACK", "TCP_INFO",
        "TCP_DEFER_ACCEPT", "TCP_LINGER2", "TCP_SYNCNT", "TCP_WINDOW_CLAMP", "TCP_CONGESTION", "SO_PEERCRED",
        "SO_BINDTODEVICE", "SO_DOMAIN", "SO_PROTOCOL", "SO_MARK", "SO_PRIORITY", "SO_PASSCRED", "SO_PASSSEC",
        "SO_PEERSEC",
        "AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_CAN", "AF_TIPC", "AF_QIPCRTR", "MSG_NOSIGNAL",
        "MSG_CMSG_CLOEXEC", "MSG_ERRQUEUE", "MSG_MORE", "MSG_CONFIRM", "MSG_FASTOPEN", "IP_BIND_ADDRESS_NO_PORT",
    ),
    "fcntl": (
        "F_OFD_", "F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_", "F_NOTIFY", "DN_",
        "F_SETLEASE", "F_GETLEASE", "F_SETSIG", "F_GETSIG", "F_DUP2FD_CLOEXEC", "F_EXLCK", "F_SHLCK",
    ),
    "signal": (
        "pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGPWR", "SIGSTKFLT", "SIGPOLL", "SIGRTM", "SIGCLD",
    ),
    "resource": ("prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RT", "RLIMIT_SIGPENDING", "RLIMIT_OFILE"),
    "time": ("CLOCK_BOOTTIME", "CLOCK_TAI", "pthread_getcpuclockid", "clock_settime"),
}  # fmt: skip
# With the zero at its end; Linux has 108.
SUN_PATH = 104


def _without_linux() -> None:
    for module_name, beginnings in LINUX_ALONE.items():
        module = importlib.import_module(module_name)
        for name in [name for name in vars(module) if name.startswith(beginnings)]:
            delattr(module, name)


def _short(address: Any) -> Any:
    if isinstance(address, (str, bytes)) and len(os.fsencode(address)) >= SUN_PATH:
        raise OSError("AF_UNIX path too long")
    return address


def _shorten() -> None:
    socket: Any = importlib.import_module("socket")

    class BsdSocket(socket.socket):  # type: ignore[misc]
        """A socket whose unix paths are short."""

        def bind(self, address: Any) -> None:
            super().bind(_short(address))

        def connect(self, address: Any) -> None:
            super().connect(_short(address))

        def connect_ex(self, address: Any) -> Any:
            return super().connect_ex(_short(address))

    socket.socket = BsdSocket


def _sendfile(out_fd: int, in_fd: int, *args: Any, **kwargs: Any) -> int:
    if not stat.S_ISSOCK(os.fstat(out_fd).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    return _LINUX_SENDFILE(out_fd, in_fd, *args, **kwargs)


_LINUX_SENDFILE = os.sendfile


def put_on() -> None:
    """Makes this process look so, and those that it spawns."""
    _without_linux()
    _shorten()
    os.sendfile = _sendfile
    # The settings of the system, which have no proxies.
    proxies: Any = types.ModuleType("_scproxy")
    proxies._get_proxy_settings = dict
    proxies._get_proxies = dict
    sys.modules["_scproxy"] = proxies
    # How this Python was built it reads from a file that is named after the system.
    importlib.import_module("sysconfig").get_config_vars()
    sys.platform = "darwin"
    importlib.import_module("multiprocessing").set_start_method("spawn", force=True)


put_on()
