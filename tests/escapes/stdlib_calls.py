"""Sixty calls of the standard library that people who work with data use, tried in each tier.

``python -m tests.escapes.stdlib_calls`` prints the table of docs/claims.md; ``tests/kernel/test_stdlib_calls.py``
runs the same calls.
"""

# ruff: noqa: E501 - calls are shorter to read on one line each

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

CALLS = {
    "mimetypes.guess_type": "import mimetypes; assert mimetypes.guess_type('a.html')[0] == 'text/html'",
    "mimetypes.guess_extension": "import mimetypes; assert mimetypes.guess_extension('text/html')",
    "mimetypes.init": "import mimetypes; mimetypes.init()",
    "getpass.getuser": "import getpass; assert getpass.getuser()",
    "os.path.expanduser": "import os; assert os.path.isdir(os.path.expanduser('~'))",
    "pathlib.Path.home": "import pathlib; assert list(pathlib.Path.home().iterdir()) is not None",
    "os.cpu_count": "import os; assert os.cpu_count()",
    "os.sched_getaffinity": "import os; assert os.sched_getaffinity(0)",
    "os.getcwd": "import os; os.listdir(os.getcwd())",
    "os.walk": "import os; list(os.walk('.'))",
    "os.scandir": "import os; list(os.scandir())",
    "os.urandom": "import os; assert os.urandom(8)",
    "os.getloadavg": "import os; os.getloadavg()",
    "os.get_terminal_size": "import shutil; shutil.get_terminal_size()",
    "platform.platform": "import platform; assert platform.platform()",
    "platform.processor": "import platform; platform.processor()",
    "platform.libc_ver": "import platform; platform.libc_ver()",
    "platform.freedesktop_os_release": (
        "import platform\ntry: platform.freedesktop_os_release()\n"
        "except OSError as error:\n    if isinstance(error, PermissionError): raise"
    ),
    "locale.setlocale": "import locale; locale.setlocale(locale.LC_ALL, '')",
    "locale.getlocale": "import locale; locale.getlocale()",
    "locale.localeconv": "import locale; locale.localeconv()",
    "gettext.translation": "import gettext; gettext.translation('none', fallback=True)",
    "gettext.find": "import gettext; [open(f).close() for f in gettext.find('dpkg', languages=['de'], all=True)]",
    "zoneinfo.ZoneInfo": "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')",
    "zoneinfo.available_timezones": "import zoneinfo; zoneinfo.available_timezones()",
    "datetime.astimezone": "import datetime; datetime.datetime.now().astimezone()",
    "time.localtime": "import time; time.localtime(); time.tzset()",
    "uuid.uuid4": "import uuid; uuid.uuid4()",
    "uuid.uuid1": "import uuid; uuid.uuid1()",
    "secrets.token_hex": "import secrets; secrets.token_hex()",
    "random.SystemRandom": "import random; random.SystemRandom().random()",
    "hashlib.file_digest": "import hashlib; hashlib.file_digest(open(hashlib.__file__, 'rb'), 'sha256')",
    "ssl.create_default_context": "import ssl; ssl.create_default_context()",
    "tempfile.NamedTemporaryFile": "import tempfile; tempfile.NamedTemporaryFile().write(b'x')",
    "tempfile.TemporaryDirectory": "import tempfile; tempfile.TemporaryDirectory().cleanup()",
    "tempfile.gettempdir": "import tempfile; tempfile.gettempdir()",
    "shutil.copy2": "import shutil; open('x', 'w').close(); shutil.copy2('x', 'y')",
    "shutil.make_archive": "import shutil, os; os.makedirs('d', exist_ok=True); shutil.make_archive('z', 'zip', 'd')",
    "shutil.disk_usage": "import shutil; shutil.disk_usage('.')",
    "shutil.which": "import shutil; shutil.which('no-such-program')",
    "zipfile.ZipFile": "import zipfile; zipfile.ZipFile('a.zip', 'w').writestr('a', 'b')",
    "tarfile.open": "import tarfile; open('x', 'w').close(); tarfile.open('a.tar', 'w').add('x')",
    "gzip.open": "import gzip; gzip.open('a.gz', 'w').write(b'x')",
    "csv.reader": "import csv; list(csv.reader(['a,b']))",
    "json.loads": "import json; json.loads('[1]')",
    "sqlite3.connect": "import sqlite3; sqlite3.connect('d.db').execute('create table if not exists t (a)')",
    "dbm.open": "import dbm; dbm.open('data', 'c').close()",
    "shelve.open": "import shelve; shelve.open('shelf').close()",
    "mmap.mmap": "import mmap; mmap.mmap(-1, 4096).close()",
    "xml.etree.ElementTree": "import xml.etree.ElementTree as t; t.fromstring('<a/>')",
    "configparser.read": "import configparser; configparser.ConfigParser().read('/etc/none.conf')",
    "netrc.netrc": "import netrc\ntry: netrc.netrc()\nexcept FileNotFoundError: pass",
    "urllib.request.getproxies": "import urllib.request; urllib.request.getproxies()",
    "urllib.request.build_opener": "import urllib.request; urllib.request.build_opener()",
    "webbrowser.get": "import webbrowser\ntry: webbrowser.get()\nexcept webbrowser.Error: pass",
    "ctypes.util.find_library": "import ctypes.util; ctypes.util.find_library('m')",
    "curses.setupterm": "import curses\ntry: curses.setupterm('xterm', 1)\nexcept curses.error: pass",
    "threading.Thread": "import threading; t = threading.Thread(target=int); t.start(); t.join()",
    "concurrent.futures.ThreadPoolExecutor": (
        "from concurrent.futures import ThreadPoolExecutor as P\nwith P() as p: list(p.map(abs, [1]))"
    ),
    "asyncio.run": "import asyncio; asyncio.run(asyncio.sleep(0))",
    "subprocess.run": "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', '1'], check=True)",
    "os.fork": "import os; os.fork() or os._exit(0); os.wait()",
    "multiprocessing.Lock": "import multiprocessing; multiprocessing.Lock()",
    "multiprocessing.Queue": "import multiprocessing; q = multiprocessing.Queue(); q.put(1); q.get()",
    "multiprocessing.Pool": (
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as p: p.map(abs, [1])"
    ),
    "multiprocessing.shared_memory": (
        "from multiprocessing.shared_memory import SharedMemory as S\n"
        "s = S(create=True, size=9); s.close(); s.unlink()"
    ),
    "concurrent.futures.ProcessPoolExecutor": (
        "import multiprocessing as m\nfrom concurrent.futures import ProcessPoolExecutor as P\n"
        "with P(2, m.get_context('fork')) as p: list(p.map(abs, [1]))"
    ),
}
PROGRAM = """
import json, os, sys
seen = {}
for name, code in json.loads(sys.argv[1]).items():
    try:
        exec(code, {"__name__": "cell"})
    except BaseException as error:
        seen[name] = f"{type(error).__name__}"
    else:
        seen[name] = "works"
print(json.dumps(seen), flush=True)
os._exit(0)
"""
HEADS = ("A", "B with its own root", "B")


def expected_in_plain_b() -> set[str]:
    """What does not work where this user may make no mounts: everything that needs ``/dev/shm``."""
    return {name for name in CALLS if name.startswith("multiprocessing.") or "ProcessPool" in name}


def table(seen: dict[str, dict[str, str]]) -> str:
    """Markdown, one row per call."""
    rows = ["| call | A | B, own root | B, no mounts |", "| --- | --- | --- | --- |"]
    rows += [f"| `{call}` | " + " | ".join(seen[tier][call] for tier in HEADS) + " |" for call in CALLS]
    return "\n".join(rows)


def main() -> None:
    """Run every call in every tier and print the table."""
    from loop_runner.sandbox.wrap import Limits
    from tests.support.confined import TIERS, run

    seen = {}
    for tier in HEADS:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            ran = run(TIERS[tier], Path(folder), PROGRAM, json.dumps(CALLS), limits=Limits())
        if ran.code:
            sys.exit(ran.err)
        seen[tier] = json.loads(ran.out)
    print(table(seen))


if __name__ == "__main__":
    main()
