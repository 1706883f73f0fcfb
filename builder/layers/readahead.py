"""Small files read and hashed by a process beside this one, while the tar of those before is made.

To open, look at, read, hash and close a file of a few KB is a dozen calls, and Python lets one thread at a time prepare any:
half of what a COPY of many small files costs. What the process cannot do is done again here, so that errors have one place;
where there is no process to be had, all of it is.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from _thread import allocate_lock
from collections import deque

from builder.errors import BuildError
from builder.layers.entry import FileSource
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from types import TracebackType

    from builder.layers.entry import Item

WORTH = 400
"""Files that are read here before a process is started: it costs 30 ms, of another processor's time."""
LARGEST = 128 << 10
"""Bytes; a larger file is read here, where it needs not be sent."""
_BATCH_FILES, _BATCH = 128, 640 << 10
"""What is asked for at once, in files and bytes. The answer fits into a pipe, so that the other can go on meanwhile."""
_PIPE = 1 << 20
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
_PAGE = 4096
_AHEAD = 2
"""Batches that are asked for and not yet needed."""
_PATIENCE = 16
"""Files that are read here between two looks at whether the process has started."""

HEAD = struct.Struct("<I")
"""The length of a message, in bytes."""
ROW = struct.Struct("<BQqqii32s")
"""Of each file what became of it, inode, ctime in ns, size, bytes read, bytes of its member, and the sha256 of its content."""
FAILED, STEADY, WRITTEN = range(3)
"""What became of it: it was read, and nobody has it open for writing, or somebody may have."""
READY = b"r"
"""What the process says once it can be asked."""

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "readahead_main.py")
_free = [len(os.sched_getaffinity(0)) - 1]
"""Processors for such processes, of all layers that are made at once."""
_guard = allocate_lock()


class Read(NamedTuple):
    """What was read of a file, and what fstat(2) said before."""

    inode: int
    ctime: int
    """Nanoseconds."""
    size: int
    may_be_written: bool
    """Somebody may have it open for writing; True where nobody was asked to look."""
    length: int
    """Bytes of its content that there were, one more than expected at most."""
    member: bytes
    """Header, content and padding, or the content alone, where that has the expected length."""
    digest: str
    """sha256 of the content, in hex."""


def members(items: Iterable[Item], *, mtime: int | None, leases: bool) -> Generator[tuple[Item, Read | None], None, None]:
    """The items in order, each with what was read of it, None where that is left to the caller. `mtime` is what members get
    (`write_layer`). `leases`: it is to be known who may be writing to a file. Close it or come to its end: a process may run.
    """
    return _ahead(iter(items), _How(mtime, LARGEST, ["leases"] if leases else []))


def contents(items: Iterable[Item], largest: int) -> Generator[tuple[Item, Read | None], None, None]:
    """The same with the contents of files, of at most `largest` bytes each, in place of the members of a tar."""
    return _ahead(iter(items), _How(0, largest, ["bare"]))


class _How(NamedTuple):
    mtime: int | None
    largest: int
    words: list[str]
    """What the process is told."""


def _ahead(left: Iterator[Item], how: _How) -> Generator[tuple[Item, Read | None], None, None]:
    count = 0
    for item in left:
        yield item, None
        count += type(item.source) is FileSource
        if count >= WORTH:
            break
    else:
        return
    process = _Process.started(how)
    if process is None:
        for item in left:
            yield item, None
        return
    with process:
        for count, item in enumerate(left):
            yield item, None
            if count % _PATIENCE == 0 and process.is_ready():
                break
        yield from process.read(left)


class _Process:
    """A running `readahead_main.py`."""

    def __init__(self, pid: int, requests: int, answers: int, how: _How) -> None:
        self._how = how
        self._pid = pid
        self._requests = requests
        self._answers = answers
        self._room = fcntl.fcntl(requests, _F_GETPIPE_SZ)
        """Bytes of requests that the pipe takes at once. Who waited for room there would wait for the other, which may wait for
        its answer to be read."""
        self._asked: deque[int] = deque()
        """What the requests take of it that have no answer yet."""

    @classmethod
    def started(cls, how: _How) -> _Process | None:
        """None where there is no processor for it, or no process to be had."""
        with _guard:
            if _free[0] < 1:
                return None
            _free[0] -= 1
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            asked, requests, answers, answered = pipes
            os.set_blocking(answers, False)
            process = cls(_spawn(asked, answered, how.words), requests, answers, how)
            pipes = [asked, answered]
            return process
        except OSError:
            # No descriptors, no process, no memory: it is read here then, and who reads says what is wrong, if it is.
            with _guard:
                _free[0] += 1
            return None
        finally:
            for fd in pipes:
                os.close(fd)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # It ends when nobody asks any more, or nobody listens.
        os.close(self._requests)
        os.close(self._answers)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # Who ignores SIGCHLD has no children to wait for.
        with _guard:
            _free[0] += 1

    def is_ready(self) -> bool:
        """Whether it has started, or has ended without."""
        try:
            os.read(self._answers, len(READY))
        except BlockingIOError:
            return False
        os.set_blocking(self._answers, True)
        return True

    def read(self, items: Iterator[Item]) -> Iterator[tuple[Item, Read | None]]:
        waiting: deque[tuple[list[Item], list[int], bool]] = deque()
        """Batches: their items, which of them were asked for, and whether it was this process that was asked."""
        is_over = False
        while not is_over or waiting:
            while not is_over and len(waiting) <= _AHEAD:
                batch, places = _batch(items, self._how.largest)
                is_over = not batch
                if batch:
                    waiting.append((batch, places, bool(places) and self._ask([batch[place] for place in places])))
            if waiting:
                batch, places, asked = waiting.popleft()
                found: list[Read | None] = [None] * len(batch)
                if asked:
                    for place, read in zip(places, self._answer()):
                        found[place] = read
                yield from zip(batch, found)

    def _ask(self, items: list[Item]) -> bool:
        import marshal  # for those who have many files

        rows: list[object] = []
        last: tuple[str, bytes] | None = None
        mtime = self._how.mtime
        for entry, source in items:
            assert isinstance(source, FileSource)
            root, (folder, _, name) = source.root, source.path.rpartition(b"/")
            if last != (root, folder):
                rows += ([os.fsencode(root)], folder)
                last = root, folder
            path, _, mode, uid, gid, size, _, _, _, _, time = entry
            rows.append((name, path, mode, uid, gid, size, time // 10**9 if mtime is None else mtime))
        data = marshal.dumps(rows)
        # Whole pages, of which the first may have been begun by another request.
        taken = (HEAD.size + len(data)) // _PAGE * _PAGE + 2 * _PAGE
        if taken > self._room:
            return False
        try:
            _write(self._requests, HEAD.pack(len(data)) + data)
        except BrokenPipeError:
            return False
        self._room -= taken
        self._asked.append(taken)
        return True

    def _answer(self) -> Iterator[Read | None]:
        """Of each file that was asked for; nothing where the process was killed."""
        (length,) = HEAD.unpack(_exactly(self._answers, HEAD.size) or bytes(HEAD.size))
        answer = _exactly(self._answers, length)
        self._room += self._asked.popleft()
        if answer is None or len(answer) < HEAD.size:
            return
        (count,) = HEAD.unpack_from(answer)
        at = HEAD.size + count * ROW.size
        rows = list(ROW.iter_unpack(answer[HEAD.size : at]))
        if at + sum(row[5] for row in rows) != len(answer):
            raise BuildError("the process that reads ahead answers in another way than it should", hint="report this as a bug")
        for became, inode, ctime, size, length, whole, digest in rows:
            if became == FAILED:
                yield None
                continue
            member = answer[at : at + whole]
            at += whole
            yield Read(inode, ctime, size, became == WRITTEN, length, member, digest.hex())


def _batch(items: Iterator[Item], largest: int) -> tuple[list[Item], list[int]]:
    """The next ones, and the places of those among them that are to be read by the other."""
    batch: list[Item] = []
    places: list[int] = []
    size = 0
    for item in items:
        entry = item.entry
        if type(item.source) is FileSource and entry.size <= largest and not entry.xattrs:
            places.append(len(batch))
            size += entry.size
        batch.append(item)
        if len(batch) >= _BATCH_FILES or size >= _BATCH:
            break
    return batch, places


def _spawn(requests: int, answers: int, words: list[str]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, requests, 0), (os.POSIX_SPAWN_DUP2, answers, 1)]
    for fd in (requests, answers):
        _enlarge(fd)
    # As of the fork server: a session of its own, so that Ctrl-C is for the builder alone, and no secrets of its environment.
    argv = [sys.executable, "-I", "-S", _PROGRAM, *words]
    env = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    return os.posix_spawn(sys.executable, argv, env, file_actions=actions, setsid=True, setsigmask=())


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
    except PermissionError:
        pass  # This user has many pipes: it takes more turns.


def _exactly(fd: int, size: int) -> bytes | None:
    """So many bytes; None where there are not so many to come."""
    data = bytearray()
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
