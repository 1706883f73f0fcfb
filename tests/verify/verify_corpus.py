"""Small Dockerfiles with one known cause each for not being reproducible, and others that are; what `pybuild verify` says.

Those of `real` behave so by a tool of the distribution or of a package, and not by a script that was written for it. On
Debian 12 with python3, pip and make. `python -m tests.verify.verify_corpus` (make corpus) builds and verifies each by itself,
and writes the table that the tests compare with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import ROOT, debian_tar

QUICK = (
    *("gzip", "dpkg-log", "chpasswd", "hash-order", "key", "readdir", "tar-order", "nproc", "pid", "address", "source-pyc"),
    *("date-fixed", "gzip-n", "tar-sorted", "zip-fixed", "pyc-hashed", "deb-epoch", "dpkg-no-log", "hash-seed", "perl-sorted"),
    *("sorted", "groupadd", "ldconfig-clean", "make-fixed", "tree", "locale", "mktemp-removed"),
)
"""Those that each test run verifies, all in one build."""
GOLDEN = ROOT / "tests/golden/verify-corpus.txt"
PROJECT = (
    'mkdir /p && echo \'from setuptools import setup; setup(name="p", version="1", py_modules=["m"])\' > /p/setup.py'
    " && echo 'x = 1' > /p/m.py"
)
PACKAGE = (
    "mkdir -p /b/DEBIAN && printf 'Package: x\\nVersion: 1\\nArchitecture: all\\nMaintainer: m <m@x>\\nDescription: x\\n'"
    " > /b/DEBIAN/control"
)
DEB = f"{PACKAGE} && SOURCE_DATE_EPOCH=0 dpkg-deb --root-owner-group -b /b /tmp/x.deb > /dev/null && rm -r /b"
APT = "apt-get install -qy /tmp/x.deb > /dev/null 2>&1"


class Case(NamedTuple):
    run: str
    """What RUN does."""
    cause: str = ""
    """The cause that is planted, as `verify` names it; empty for none."""
    pattern: str = ""
    """What the files show, where they show something."""
    real: str = ""
    """The package whose tool behaves so."""


CASES: dict[str, Case] = {
    "date": Case("date > /f", "clock", "date-in-text", "coreutils"),
    "year": Case("date +%Y > /f", "clock", "", "coreutils"),
    "sqlite-now": Case(
        "python3 -c \"import sqlite3; c = sqlite3.connect('/f'); c.execute('create table t(x)');"
        " c.execute('insert into t select strftime(?, ?)', ('%s', 'now'));"
        ' c.commit()"',
        "clock",
        "",
        "python3",
    ),
    "gzip": Case("echo text > /f && gzip /f", "clock", "gzip-time", "gzip"),
    "tar-times": Case("mkdir /d && echo > /d/a && tar -cf /f.tar -C / d && rm -r /d", "clock", "tar-times", "tar"),
    "zip-times": Case(
        "echo > /a && python3 -c \"import zipfile; zipfile.ZipFile('/f.zip', 'w').write('/a')\" && rm /a",
        "clock",
        "zip-times",
        "python3",
    ),
    "pyc": Case(
        "unset SOURCE_DATE_EPOCH; mkdir /m && echo 'x = 1' > /m/m.py && python3 -m compileall -q /m",
        "clock",
        "pyc-time",
        "python3",
    ),
    "pip": Case(
        f"unset SOURCE_DATE_EPOCH; {PROJECT} && pip install -q --break-system-packages --no-index --no-build-isolation /p"
        " 2> /dev/null && rm -r /p",
        "clock",
        "pyc-time",
        "pip",
    ),
    "deb": Case(
        f"unset SOURCE_DATE_EPOCH; {PACKAGE} && dpkg-deb --root-owner-group -b /b /f.deb > /dev/null && rm -r /b",
        "clock",
        "ar-times",
        "dpkg",
    ),
    "dpkg-log": Case(f"{DEB} && dpkg -i /tmp/x.deb > /dev/null && rm /tmp/x.deb", "clock", "package-log", "dpkg"),
    "apt-log": Case(f"{DEB} && {APT} && rm /tmp/x.deb /var/cache/apt/*.bin", "clock", "package-log", "apt"),
    "alternatives": Case(
        "update-alternatives --install /usr/bin/nothing nothing /bin/true 1 > /dev/null", "clock", "package-log", "dpkg"
    ),
    "make": Case("printf 'all:\\n\\techo built at $(shell date +%%s) > /f\\n' > /Makefile && make -s", "clock", "", "make"),
    "chpasswd": Case("echo root:secret | chpasswd", "random", "shadow-password", "passwd"),
    "hash-order": Case("python3 -c 'print(*{str(i) for i in range(30)})' > /f", "random", "hash-order", "python3"),
    "perl-hash": Case(
        'perl -e \'%h = map {$_ => 1} 1..30; print join(" ", keys %h), "\\n"\' > /f', "random", "hash-order", "perl"
    ),
    "key": Case("openssl genpkey -algorithm ed25519 -out /key.pem 2> /dev/null", "random", "private-key", "openssl"),
    "uuid": Case("python3 -c 'import uuid; print(uuid.uuid4())' > /f", "random", "random-id", "python3"),
    "machine-id": Case("tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id", "random", "machine-id"),
    "mktemp": Case("mktemp > /dev/null", "random", "temporary-file", "coreutils"),
    "shuf": Case("seq 50 | shuf > /f", "random", "line-order", "coreutils"),
    "noise": Case("head -c 16 /dev/urandom > /f", "random"),
    "readdir": Case("find /usr/share/perl5/Debconf -type f > /f", "order", "line-order", "findutils"),
    "tar-order": Case("tar -cf /f.tar --mtime=@0 -C /usr/share/perl5 Debconf", "order", "tar-order", "tar"),
    "listdir": Case(
        "python3 -c \"import os; print(*os.listdir('/usr/share/perl5/Debconf/Element'))\" > /f",
        "order",
        "hash-order",
        "python3",
    ),
    "source-times": Case("tar -cf /f.tar --sort=name -C /src .", "mtimes", "tar-times", "tar"),
    "source-pyc": Case(
        "unset SOURCE_DATE_EPOCH; cp -a /src /m && python3 -m compileall -q /m", "mtimes", "pyc-time", "python3"
    ),
    "inode": Case("stat -c %i /etc/passwd > /f", "order", "", "coreutils"),
    "ldconfig": Case("ldconfig", "random", "ldconfig-cache", "libc-bin"),
    "nproc": Case("nproc > /f", "cpus", "", "coreutils"),
    "pid": Case("sh -c 'echo $$' > /f; true", "pids"),
    "address": Case("perl -e 'my $x = []; print \"$x\\n\"' > /f", "aslr", "", "perl"),
    "python-id": Case("PYTHONHASHSEED=0 python3 -c 'print(id(object()))' > /f", "aslr", "", "python3"),
    # Reproducible.
    "date-fixed": Case("date -ud @0 > /f"),
    "gzip-n": Case("echo text > /f && gzip -n /f"),
    "tar-sorted": Case("tar -cf /f.tar --sort=name --mtime=@0 --owner=0 --group=0 -C /usr/share/perl5 Debconf"),
    "zip-fixed": Case("python3 -c \"import zipfile; zipfile.ZipFile('/f.zip', 'w').writestr(zipfile.ZipInfo('a'), b'text')\""),
    "pyc-hashed": Case("mkdir /m && echo 'x = 1' > /m/m.py && python3 -m compileall -q --invalidation-mode checked-hash /m"),
    "pip-no-compile": Case(
        f"{PROJECT} && pip install -q --break-system-packages --no-index --no-build-isolation --no-compile /p 2> /dev/null"
        " && rm -r /p"
    ),
    "deb-epoch": Case(f"{PACKAGE} && SOURCE_DATE_EPOCH=0 dpkg-deb --root-owner-group -b /b /f.deb > /dev/null && rm -r /b"),
    "dpkg-no-log": Case(f"{DEB} && dpkg -i /tmp/x.deb > /dev/null && rm /tmp/x.deb /var/log/dpkg.log"),
    "hash-seed": Case("PYTHONHASHSEED=0 python3 -c 'print(*{str(i) for i in range(30)})' > /f"),
    "perl-sorted": Case('perl -e \'%h = map {$_ => 1} 1..30; print join(" ", sort keys %h), "\\n"\' > /f'),
    "sorted": Case("find /usr/share/perl5/Debconf -type f | LC_ALL=C sort > /f"),
    "groupadd": Case("groupadd --system crew"),
    "ldconfig-clean": Case("ldconfig && rm /var/cache/ldconfig/aux-cache"),
    "make-fixed": Case("printf 'all: a b\\na b:\\n\\techo $@ > /$@\\n' > /Makefile && make -s -j4"),
    "tree": Case(
        "mkdir -p /d/e && ln -s e /d/l && cp -a /etc/passwd /d/ && chmod 4755 /d/passwd && chown 5:6 /d && mkfifo /d/p"
    ),
    "locale": Case("env | sort > /f; umask >> /f; hostname >> /f; id >> /f"),
    "mktemp-removed": Case("f=$(mktemp) && echo text > $f && tr a-z A-Z < $f > /f && rm $f"),
}


class Row(NamedTuple):
    """What was found of a case."""

    status: str
    causes: tuple[str, ...]
    patterns: tuple[str, ...]


_MADE = "/f* /d /m /p /b /a /Makefile"


def dockerfile(*names: str) -> str:
    """A RUN for each; what others made is gone before."""
    return "FROM debian\nCOPY module.py /src/\n" + "".join(f"RUN rm -rf {_MADE}; {CASES[name].run}\n" for name in names)


def write_context(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "module.py").write_text("x = 1\n")
    (folder / "Dockerfile").write_text(dockerfile(*names))


def rows(document: dict[str, Any], names: tuple[str, ...]) -> dict[str, Row]:
    found = {}
    for name, step in zip(names, document["steps"][1:], strict=True):
        patterns = {finding["pattern"] for file in step["files"] for finding in file["findings"]}
        found[name] = Row(step["status"], tuple(cause["name"] for cause in step["causes"]), tuple(sorted(patterns)))
    return found


def line(name: str, row: Row) -> str:
    case = CASES[name]
    planted = " ".join(filter(None, (case.cause, case.pattern))) or "-"
    named = " ".join((*row.causes, *row.patterns)) or "-"
    return f"{name} | {case.real or '-'} | {planted} | {named}\n"


def is_right(name: str, row: Row) -> bool:
    """The planted cause is named, and no other; what is reproducible is not named at all."""
    case = CASES[name]
    if not case.cause:
        return row.status in ("same", "tainted") and not row.causes
    return row.status == "different" and row.causes == (case.cause,) and (not case.pattern or case.pattern in row.patterns)


def main() -> None:
    base = debian_tar()
    program = (Path(sys.executable).with_name("pybuild"), "--root")
    text = ["case | package | planted | named\n"]
    wrong = 0
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as scratch:
        store = Path(scratch) / "store"
        subprocess.run([*program, store, "import", base, "debian"], check=True, stdout=subprocess.DEVNULL)
        for name in CASES:
            context = Path(scratch) / name
            write_context(context, name)
            begun = time.monotonic()
            done = subprocess.run(
                [*program, store, "verify", "-q", "--format=json", "--limit=1000", context], capture_output=True, text=True
            )
            if done.returncode not in (0, 4):
                sys.exit(f"{name}: {done.stderr}")
            row = rows(json.loads(done.stdout), (name,))[name]
            text.append(line(name, row))
            wrong += not is_right(name, row)
            print(f"{'   ' if is_right(name, row) else '!! '}{time.monotonic() - begun:5.1f} s  {text[-1]}", end="", flush=True)
    GOLDEN.write_text("".join(text))
    print(f"{len(CASES)} cases, {wrong} not as planted")


if __name__ == "__main__":
    main()
