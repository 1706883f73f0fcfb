"""The history of builds: what each step was, what became of it and why it ran. For people alone: nothing is built from it.

A build is one row, written at its end. The values of proxies and secrets are in none; credentials in URLs are masked by who
writes it.
"""

from __future__ import annotations

from builder import canonical
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from builder.store.database import Database

    Status = Literal["done", "cached", "failed", "cancelled", "waiting"]
    """`waiting`: the build ended before its turn."""

MOST_OF_PLACE, MOST = 50, 500
"""How many builds of one place are kept, and how many in all; beyond it the oldest go."""


class BuiltStep(NamedTuple):
    """A step, and what a command needs to look at its file system."""

    number: int
    name: str
    op: Literal["base", "run", "copy", "workdir"]
    stage: str
    place: int
    """In the stage."""
    total: int
    """How many steps the stage has."""
    line: int
    end_line: int
    status: Status
    key: str
    """Empty for a base, and where it is not known."""
    inputs: str
    """The key's preimage where no record has it: the step did not end."""
    parent: int
    """The number of the step whose file system it starts from; 0 for a base."""
    layers: tuple[str, ...]
    """The diff IDs that it put on that."""
    reasons: tuple[tuple[str, str, int], ...]
    """Why it ran: kind, text, and the number of the step that it follows from."""
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    hostname: str
    network: Literal["host", "none"]
    hosts: tuple[tuple[str, str], ...]
    shm_size: int


class Build(NamedTuple):
    place: str
    """A hash of what makes two builds runs of one: Dockerfile, context and target."""
    path: str
    """The Dockerfile's, absolute; empty where it has none."""
    dockerfile: str
    context: str
    target: str
    """These three as messages name them."""
    created: int
    """Seconds since 1970."""
    outcome: Literal["done", "failed", "cancelled"]
    image: str
    """The image id; empty where there is none."""
    version: str
    """Of pybuild."""
    steps: tuple[BuiltStep, ...]


class Builds:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, build: Build) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO builds (place, path, dockerfile, context, target, created, outcome, image, version, steps)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*build[:-1], dump(build.steps)),
            )
            connection.execute(
                "DELETE FROM builds WHERE place = ?1 AND id <="
                " (SELECT id FROM builds WHERE place = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                (build.place, MOST_OF_PLACE),
            )
            connection.execute(
                "DELETE FROM builds WHERE id <= (SELECT id FROM builds ORDER BY id DESC LIMIT 1 OFFSET ?)", (MOST,)
            )

    def last(self, limit: int, *, place: str | None = None, path: str | None = None) -> list[Build]:
        rows = self._database.all(
            "SELECT place, path, dockerfile, context, target, created, outcome, image, version, steps FROM builds"
            " WHERE (?1 IS NULL OR place = ?1) AND (?2 IS NULL OR path = ?2) ORDER BY id DESC LIMIT ?3",
            place,
            path,
            limit,
        )
        return [Build._make((*row[:-1], load(row[-1]))) for row in rows]


def dump(steps: tuple[BuiltStep, ...]) -> str:
    """The steps as JSON. Most steps of a stage share their environment, which is written once."""
    envs: dict[tuple[tuple[str, str], ...], int] = {}
    rows = [{**step._asdict(), "env": envs.setdefault(step.env, len(envs))} for step in steps]
    return canonical.dumps({"envs": list(envs), "steps": rows})


def load(text: str) -> tuple[BuiltStep, ...]:
    """The steps of `dump`."""
    found = canonical.loads(text)
    envs = [_pairs(env) for env in found["envs"]]
    return tuple(_step(row, envs) for row in found["steps"])


def _step(row: dict[str, Any], envs: list[tuple[tuple[str, str], ...]]) -> BuiltStep:
    return BuiltStep(
        **{
            **row,
            "env": envs[row["env"]],
            "layers": tuple(row["layers"]),
            "reasons": tuple(tuple(reason) for reason in row["reasons"]),
            "hosts": _pairs(row["hosts"]),
        }
    )


def _pairs(rows: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in rows)
