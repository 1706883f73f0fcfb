"""What the language costs: parsing and lowering a realistic Dockerfile of 1,000 lines, beside Python's own parser.

The syntax tree comes from the grammar, not from a cache; warm means that lark and the grammar are loaded. Prints medians in
milliseconds, and their ratio to `ast.parse` of 1,000 lines of Python in the same run, which says more than the times of one
machine. Run by `make bench`.
"""

from __future__ import annotations

import ast
import statistics
import time
from collections.abc import Callable

from builder.dockerfile.ast import Dockerfile
from builder.dockerfile.syntax import parse
from builder.errors import SourceFile
from builder.oci.image import ImageConfig
from builder.oci.platform import Platform
from builder.plan.lower import lower
from builder.plan.stages import platform_args, reachable
from builder.plan.state import Settings
from builder.plan.steps import BaseImage, Plan

LINES = 1000
ROUNDS = 15
HERE = Platform("linux", "amd64")
SETTINGS = Settings({"VERSION": "2.0"}, HERE, 315619200)

STAGE = """\

# Stage {n} compiles one of the services.
FROM {base} AS service{n}
ARG VERSION
ARG SERVICE=service-{n} \\
    TARGETARCH
ENV PATH=/opt/${{SERVICE}}/bin:$PATH \\
    APP_HOME="/srv/${{SERVICE}}" \\
    RELEASE=${{VERSION:-1.0}}-${{TARGETARCH}}
LABEL org.opencontainers.image.title="$SERVICE" org.opencontainers.image.version=$RELEASE
WORKDIR $APP_HOME
COPY --chown=1000:1000 services/{n}/package.json services/{n}/package-lock.json ./
RUN apt-get update \\
    && apt-get install -y --no-install-recommends \\
        build-essential \\
        ca-certificates \\
        curl \\
    # what follows is for the compiler
    && curl -fsSL https://example.com/tool-${{VERSION}}.tgz | tar -xz -C /usr/local \\
    && rm -rf /var/lib/apt/lists/*

COPY --chown=1000:1000 services/{n}/src ./src
RUN ["make", "-C", "src", "all"]
EXPOSE 80{n:02}/tcp
USER 1000:1000
VOLUME ["/data", "/var/cache/${{SERVICE}}"]
HEALTHCHECK --interval=30s --timeout=5s CMD curl -f http://localhost:80{n:02}/health || exit 1
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["node", "src/server.js", "--port", "80{n:02}"]
"""


def text() -> str:
    """A Dockerfile of LINES lines: services, each a stage, and an image that collects them."""
    lines = ["# syntax=docker/dockerfile:1", "ARG VERSION=1.0"]
    count = (LINES - 50) // (STAGE.count("\n") + 1)
    for number in range(count):
        lines += STAGE.format(n=number, base="debian:12" if number % 3 == 0 else f"service{number - 1}").split("\n")[:-1]
    lines += ["", "FROM scratch"]
    collected = [f"COPY --from=service{number} /srv/service-{number} /srv/{number}/" for number in range(count)]
    return "\n".join([*lines, *collected, *(f"ENV NAME_{n}=value-{n}" for n in range(LINES))][:LINES]) + "\n"


def python() -> str:
    """As many lines of Python."""
    function = "def function{n}(first, second=None):\n    if first and second is not None:\n        return [first, *second]\n"
    body = '    value = {{"name": first, "count": len(second)}}\n    return value["name"] * 2 + str(second)\n'
    return "".join((function + body).format(n=n) for n in range(LINES // 5))


def parsed() -> Dockerfile:
    return parse(SourceFile("Dockerfile", text()))


def lowered(dockerfile: Dockerfile) -> Plan:
    stages = reachable(
        dockerfile,
        target="",
        build_args=SETTINGS.build_args,
        contexts=(),
        directories=(),
        predefined=platform_args(HERE, HERE),
    )
    bases = {external.name: BaseImage(external.name, ImageConfig(HERE)) for external in stages.externals()}
    return lower(stages, bases, SETTINGS, dockerfile.directives.escape)


def timed(work: Callable[[], object]) -> float:
    """The median of ROUNDS rounds, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def main() -> None:
    dockerfile, code = parsed(), python()
    plan = lowered(dockerfile)
    beside = timed(lambda: ast.parse(code))
    rows = {"parse": timed(parsed), "reachable and lower": timed(lambda: lowered(dockerfile))}
    rows["both"] = sum(rows.values())
    print(f"{text().count(chr(10))} lines, {len(dockerfile.instructions)} instructions, {len(plan.steps)} steps")
    print(f"{f'ast.parse of {LINES} lines of Python':<36}{beside:7.1f} ms")
    for title, value in rows.items():
        print(f"{title:<36}{value:7.1f} ms   {value / beside:5.1f} times that")


if __name__ == "__main__":
    main()
