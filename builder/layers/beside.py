"""A process beside this one that does a part of what many small files take, since Python lets one thread at a time prepare
system calls. Where there is no process to be had, or no processor for it, who asks does all of it himself.

Requests and answers are messages of marshalled values, each after its length. It ends when nobody asks any more, or nobody
listens.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from _thread import allocate_lock
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

_PIPE = 1 << 20
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
_PAGE = 4096
_SIGKILL = 9

HEAD = struct.Struct("<I")
"""The length of a message, in bytes."""
_READY = b"r"
"""What the process says once it can be asked."""

_free = [len(os.sched_getaffinity(0)) - 1]
"""Processors for such processes, of all layers that are made at once."""
_guard = allocate_lock()


class Beside:
    """A running process. A context manager: leaving it waits for its end."""

    def __init__(self, pid: int, requests: int, answers: int) -> None:
        self._pid = pid
        self._requests = requests
        self._answers = answers
        self._room = fcntl.fcntl(requests, _F_GETPIPE_SZ)
        """Bytes of requests that the pipe takes at once. Who waited for room there would wait for the other, which may wait for
        its answer to be read."""
        self._asked: deque[int] = deque()
        """What the requests take of it that have no answer yet."""

    @classmethod
    def started(cls, program: str, *words: str, hand_on: Callable[[], object] | None = None) -> Beside | None:
        """`program` is the name of one in this folder. None where there is no processor for it, or no process to be had.
        `hand_on` lets what a thread starts have the capabilities of this process; it is called on a thread that starts nothing
        else. It may raise OSError."""
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
            process = cls(_spawn(asked, answered, program, words, hand_on), requests, answers)
            pipes = [asked, answered]
            return process
        except OSError:
            # No descriptors, no process, no memory: it is done here then, and who does it says what is wrong, if it is.
            with _guard:
                _free[0] += 1
            return None
        except BaseException:
            with _guard:
                _free[0] += 1
            raise
        finally:
            for fd in pipes:
                os.close(fd)

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._requests)
        os.close(self._answers)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # Who ignores SIGCHLD has no children to wait for.
        with _guard:
            _free[0] += 1

    def is_ready(self) -> bool:
        """Whether it has started, or has ended without. To be asked until it has."""
        try:
            os.read(self._answers, len(_READY))
        except BlockingIOError:
            return False
        os.set_blocking(self._answers, True)
        return True

    def has_answered(self) -> bool:
        """Whether `answer` has nothing to wait for."""
        import select  # for those who have many files

        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        return bool(poll.poll(0))

    def ask(self, request: Any) -> bool:
        """False where there is no room for it, or nobody listens."""
        import marshal  # for those who have many files

        data = marshal.dumps(request)
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

    def answer(self) -> bytes | None:
        """To the request that waits the longest, for which it waits; None where the process was killed."""
        (length,) = HEAD.unpack(_exactly(self._answers, HEAD.size) or bytes(HEAD.size))
        answer = _exactly(self._answers, length)
        self._room += self._asked.popleft()
        return answer or None


def serve(answer: Callable[[Any], bytes]) -> None:
    """The process's part: answer requests to the end. None of its answers is empty."""
    import marshal

    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        answers.write(_READY)
        answers.flush()
        while len(head := requests.read(HEAD.size)) == HEAD.size:
            (length,) = HEAD.unpack(head)
            request = requests.read(length)
            if len(request) < length:
                break
            data = answer(marshal.loads(request))
            answers.write(HEAD.pack(len(data)) + data)
            answers.flush()
    except BrokenPipeError:
        pass  # Nobody listens any more.
    os._exit(0)


def _spawn(requests: int, answers: int, program: str, words: tuple[str, ...], hand_on: Callable[[], object] | None) -> int:
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, requests, 0), (os.POSIX_SPAWN_DUP2, answers, 1)]
    # Where it fails it is done here, which says why: a traceback amid the progress would tell a user nothing.
    actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
    for fd in (requests, answers):
        _enlarge(fd)
    # As of the fork server: a session of its own, so that Ctrl-C is for the builder alone, and no secrets of its environment.
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), program)
    argv = [sys.executable, "-I", "-S", path, *words]
    env = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}

    def spawn() -> int:
        return os.posix_spawn(sys.executable, argv, env, file_actions=actions, setsid=True, setsigmask=())

    return spawn() if hand_on is None else _on_a_thread(lambda: (hand_on(), spawn())[1])


def _on_a_thread(work: Callable[[], int]) -> int:
    """The process that it starts. Raises what it raises, and OSError where there is no thread. A thread's capabilities are its
    own, and go with it."""
    import threading  # for those who hand something on

    found: list[int] = []
    failed: list[BaseException] = []
    pressed: KeyboardInterrupt | None = None

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits
            failed.append(error)

    thread = threading.Thread(target=run)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(f"no thread: {error}") from error
    # Its descriptors are closed by who waits: not before it has used them.
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt as interrupt:
            pressed = interrupt
    if failed:
        raise failed[0]
    if pressed is not None:
        os.kill(found[0], _SIGKILL)
        os.waitpid(found[0], 0)
        raise pressed
    return found[0]


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
