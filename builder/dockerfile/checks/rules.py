"""The 22 rules: name, description and message by BuildKit's wording (moby/buildkit, frontend/dockerfile/linter/ruleset.go).

Each rule is a function that makes its message of the values in question; its docstring is its page in docs/checks/.
"""

from __future__ import annotations

from builder.dockerfile.goquote import quoted
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Rule(NamedTuple):
    """All rules are warnings. An experimental one speaks only where `check=experimental=` names it."""

    name: str
    description: str
    experimental: bool
    message: Callable[..., str]

    @property
    def page(self) -> str:
        """The name of its page, as `stage-name-casing`."""
        import re  # a build's warnings do not name pages

        return re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower()


RULES: dict[str, Rule] = {}
"""By name, in BuildKit's order."""


def _rule(description: str, *, experimental: bool = False) -> Callable[[Callable[..., str]], Callable[..., str]]:
    def register(message: Callable[..., str]) -> Callable[..., str]:
        RULES[message.__name__] = Rule(message.__name__, description, experimental, message)
        return message

    return register


@_rule("Stage names should be lowercase")
def StageNameCasing(stage: str) -> str:
    """The name that a `FROM ... AS` gives to its stage has upper-case letters. Names of stages ignore case, so `Build` and
    `build` are one stage; written in lower case they look like what they are, apart from the keywords.

    Warned of:

    ```dockerfile
    FROM alpine AS BuildBase
    ```

    Better:

    ```dockerfile
    FROM alpine AS build-base
    ```
    """
    return f"Stage name '{stage}' should be lowercase"


@_rule("The 'as' keyword should match the case of the 'from' keyword")
def FromAsCasing(keyword: str, as_keyword: str) -> str:
    """`FROM` and `AS` of one line are written in different cases. Both work; one line in two manners is harder to read. A
    `From` in mixed case is the matter of ConsistentInstructionCasing.

    Warned of:

    ```dockerfile
    FROM debian:12 as build
    ```

    Better:

    ```dockerfile
    FROM debian:12 AS build
    ```
    """
    return f"'{as_keyword}' and '{keyword}' keywords' casing do not match"


@_rule("Empty continuation lines will become errors in a future release")
def NoEmptyContinuation() -> str:
    """An instruction is continued on the next line, and an empty line follows. The empty line is skipped and the instruction
    goes on after it, which is easily overlooked: an instruction may become an argument of the one before. Comments between
    continued lines are fine.

    Warned of:

    ```dockerfile
    FROM alpine
    RUN apk add \\

        curl
    ```

    Better:

    ```dockerfile
    FROM alpine
    RUN apk add \\
        # to ask the service for its health
        curl
    ```
    """
    return "Empty continuation line"


@_rule("All commands within the Dockerfile should use the same casing (either upper or lower)")
def ConsistentInstructionCasing(keyword: str, casing: str) -> str:
    """The keywords of the Dockerfile are written in different cases, or one of them in mixed case. What most of them have
    counts as meant; upper case where there are as many of both. ARGs before the first FROM are not looked at.

    Warned of:

    ```dockerfile
    FROM alpine
    run echo hello
    Cmd ["sh"]
    COPY . /src
    ```

    Better:

    ```dockerfile
    FROM alpine
    RUN echo hello
    CMD ["sh"]
    COPY . /src
    ```
    """
    return f"Command '{keyword}' should match the case of the command majority ({casing})"


@_rule("Stage names should be unique")
def DuplicateStageName(stage: str) -> str:
    """Two stages have one name, whatever the case of its letters. `FROM` and `--from` then mean the last one that they can
    see, and `--target` the last of all, which is rarely what was meant.

    Warned of:

    ```dockerfile
    FROM debian:12 AS builder
    FROM golang:1.23 AS builder
    ```

    Better:

    ```dockerfile
    FROM debian:12 AS packages
    FROM golang:1.23 AS builder
    ```
    """
    return f'Duplicate stage name "{stage}", stage names should be unique'


@_rule("Reserved words should not be used as stage names")
def ReservedStageName(stage: str) -> str:
    """A stage is called `scratch` or `context`. `scratch` is the name of the empty base, which the stage hides from all that
    comes after it; `context` is kept for the build context.

    Warned of:

    ```dockerfile
    FROM alpine AS scratch
    ```

    Better:

    ```dockerfile
    FROM alpine AS build
    ```
    """
    return f'Stage name should not use the same name as reserved stage "{stage}"'


@_rule("JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals")
def JSONArgsRecommended(keyword: str) -> str:
    """A `CMD` or `ENTRYPOINT` is in shell form, so that `/bin/sh -c` is the container's first process and the program its
    child. The shell does not pass signals on: `docker stop` waits and then kills, and the program cannot end in order.

    Not warned of where `SHELL` names the shell in the Dockerfile or in the base: then it was chosen on purpose.

    Warned of:

    ```dockerfile
    FROM alpine
    ENTRYPOINT serve --port 80
    ```

    Better:

    ```dockerfile
    FROM alpine
    ENTRYPOINT ["serve", "--port", "80"]
    ```

    A shell is needed for variables and pipes; `exec` then gives its place to the program:

    ```dockerfile
    FROM alpine
    ENTRYPOINT ["sh", "-c", "exec serve --port $PORT"]
    ```
    """
    return f"JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"


@_rule("The MAINTAINER instruction is deprecated, use a label instead to define an image author")
def MaintainerDeprecated() -> str:
    """`MAINTAINER` still sets the image's author, but a label says the same, is shown by more tools and can be read like any
    other label.

    Warned of:

    ```dockerfile
    FROM alpine
    MAINTAINER ada@example.org
    ```

    Better:

    ```dockerfile
    FROM alpine
    LABEL org.opencontainers.image.authors="ada@example.org"
    ```
    """
    return "Maintainer instruction is deprecated in favor of using label"


@_rule("FROM command must use declared ARGs")
def UndefinedArgInFrom(name: str, near: str) -> str:
    """A `FROM` reads a variable that no `ARG` before the first `FROM` declares. It is empty, and the base or the platform is
    another than was meant. The platform's own ARGs (`TARGETPLATFORM`, `BUILDARCH` and so on) need no declaration here.

    Warned of:

    ```dockerfile
    FROM alpine:3.20${VARIANT}
    ```

    Better:

    ```dockerfile
    ARG VARIANT=""
    FROM alpine:3.20${VARIANT}
    ```
    """
    return f"FROM argument '{name}' is not declared" + (f" (did you mean {near}?)" if near else "")


@_rule(
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image "
    "changes"
)
def WorkdirRelativePath(path: str) -> str:
    """The first `WORKDIR` of the build is relative, so that it goes on from the base's own. The base may have another one
    tomorrow. Only the first is told of; after an absolute one, relative ones are fine.

    Warned of:

    ```dockerfile
    FROM nginx
    WORKDIR html
    ```

    Better:

    ```dockerfile
    FROM nginx
    WORKDIR /usr/share/nginx
    WORKDIR html
    ```
    """
    return f"Relative workdir {quoted(path)} can have unexpected results if the base image changes"


@_rule("Variables should be defined before their use")
def UndefinedVar(name: str, near: str) -> str:
    """An instruction reads a variable that no `ARG` or `ENV` above it, and not the base, has set: it is empty. An `ARG`
    without a value counts as set, and so does a variable with a default, as in `${NAME:-value}`. Commands of `RUN`, `CMD` and
    `ENTRYPOINT` are the shell's matter and not looked at.

    `pybuild check` does not look at stages whose base it cannot see: that one may set anything.

    Warned of:

    ```dockerfile
    FROM alpine
    COPY $SOURCE /src
    ```

    Better:

    ```dockerfile
    FROM alpine
    ARG SOURCE=src
    COPY $SOURCE /src
    ```
    """
    return f"Usage of undefined variable '${name}'" + (f" (did you mean ${near}?)" if near else "")


@_rule("Multiple instructions of the same type should not be used in the same stage")
def MultipleInstructionsDisallowed(keyword: str) -> str:
    """A stage has more than one `CMD`, `ENTRYPOINT` or `HEALTHCHECK`. Only the last one counts; the warning stands at the one
    that has no effect.

    Warned of:

    ```dockerfile
    FROM alpine
    CMD ["true"]
    CMD ["false"]
    ```

    Better:

    ```dockerfile
    FROM alpine
    CMD ["false"]
    ```
    """
    return f"Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"


@_rule("Legacy key/value format with whitespace separator should not be used")
def LegacyKeyValueFormat(keyword: str) -> str:
    """An `ENV` or `LABEL` has a space between name and value. That form takes one pair alone, and the rest of the line is the
    value whatever is in it: `ENV A 1 B=2` sets `A` to `1 B=2`.

    Warned of:

    ```dockerfile
    FROM alpine
    ENV DIR /srv
    ```

    Better:

    ```dockerfile
    FROM alpine
    ENV DIR=/srv
    ```
    """
    return f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'


@_rule("Base image platform does not match expected target platform")
def InvalidBaseImagePlatform(image: str, actual: str, expected: str) -> str:
    """The base is for another platform than the build. The image would say the one and hold programs of the other, and no
    `RUN` can start them.

    Warned of, in a build for linux/amd64:

    ```dockerfile
    FROM tool-for-arm
    ```

    Better: a base that has the platform, or `--platform` for the whole build.
    """
    return f"Base image {image} was pulled with platform {quoted(actual)}, expected {quoted(expected)} for current build"


@_rule("Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior")
def RedundantTargetPlatform(platform: str) -> str:
    """`FROM --platform=$TARGETPLATFORM` says what a `FROM` without the flag means anyway.

    Warned of:

    ```dockerfile
    FROM --platform=$TARGETPLATFORM alpine
    ```

    Better:

    ```dockerfile
    FROM alpine
    ```
    """
    return f"Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"


@_rule("Sensitive data should not be used in the ARG or ENV commands")
def SecretsUsedInArgOrEnv(keyword: str, name: str) -> str:
    """The name of an `ARG` or `ENV` sounds like a secret: one of its parts between `_` is `apikey`, `auth`, `credential`,
    `credentials`, `key`, `password`, `pword`, `passwd`, `secret` or `token`, and none is `public`, `file` or `version`. Values
    of both stay in the image: in its config, or in the history of each `RUN`. A secret mount leaves nothing behind.

    Warned of:

    ```dockerfile
    FROM alpine
    ARG NPM_TOKEN
    RUN fetch --header "Authorization: $NPM_TOKEN"
    ```

    Better:

    ```dockerfile
    FROM alpine
    RUN --mount=type=secret,id=npm,env=NPM_TOKEN fetch --header "Authorization: $NPM_TOKEN"
    ```
    """
    return f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quoted(name)})"


@_rule("Default value for global ARG results in an empty or invalid base image name")
def InvalidDefaultArgInFrom(base: str) -> str:
    """Without `--build-arg` the base's name would be empty or no name at all, so that the Dockerfile cannot be built as it
    stands. (BuildKit looks at names without variables too, which are right or an error here.)

    Warned of:

    ```dockerfile
    ARG TAG
    FROM alpine:$TAG
    ```

    Better:

    ```dockerfile
    ARG TAG=3.20
    FROM alpine:$TAG
    ```
    """
    return f"Default value for ARG {base} results in empty or invalid base image name"


@_rule("FROM --platform flag should not use a constant value")
def FromPlatformFlagConstDisallowed(platform: str) -> str:
    """`FROM --platform` names one platform, so that the stage is the same for whatever the build is made. Leave the flag out
    for the platform of the build, or say `$BUILDPLATFORM` for that of the machine. Not warned of where the stage's name has
    the system or the architecture in it: then it is meant.

    Warned of:

    ```dockerfile
    FROM --platform=linux/amd64 alpine AS tools
    ```

    Better:

    ```dockerfile
    FROM --platform=$BUILDPLATFORM alpine AS tools
    FROM --platform=linux/amd64 alpine AS tools-amd64
    ```
    """
    return f"FROM --platform flag should not use constant value {quoted(platform)}"


@_rule("Attempting to Copy file that is excluded by .dockerignore")
def CopyIgnoredFile(verb: str, path: str) -> str:
    """A `COPY` or `ADD` names a path of the build context that `.dockerignore` leaves out: it will not be found. Paths below
    which a pattern with `!` may bring something back are not told of.

    Warned of, with `tests/` in `.dockerignore`:

    ```dockerfile
    FROM alpine
    COPY ./tests/data /data
    ```

    Better: take the path out of `.dockerignore`, or bring it back there with `!tests/data`.
    """
    return f"Attempting to {verb} file {quoted(path)} that is excluded by .dockerignore"


@_rule(
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended "
    "to be a description comment, add an empty line or comment between the instruction and the comment.",
    experimental=True,
)
def InvalidDefinitionDescription(keyword: str, name: str) -> str:
    """The comment right above an `ARG`, or a `FROM` with a name, is a description for `--call=outline` and `--call=targets`,
    and must begin with the name. An empty line, or a line with `#` alone, makes a comment of it like any other.

    Warned of:

    ```dockerfile
    # which alpine to take
    ARG TAG=3.20
    # everything is built here
    FROM alpine:$TAG AS build
    ```

    Better:

    ```dockerfile
    # TAG says which alpine to take
    ARG TAG=3.20
    # everything is built here

    FROM alpine:$TAG AS build
    ```
    """
    return f"Comment for {keyword} should follow the format: `# {name} <description>`"


@_rule("Protocol in EXPOSE instruction should be lowercase")
def ExposeProtoCasing(port: str) -> str:
    """The protocol of an `EXPOSE` has upper-case letters. The image has it in lower case anyway.

    Warned of:

    ```dockerfile
    FROM alpine
    EXPOSE 53/UDP
    ```

    Better:

    ```dockerfile
    FROM alpine
    EXPOSE 53/udp
    ```
    """
    return f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"


@_rule(
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"
)
def ExposeInvalidFormat(port: str) -> str:
    """An `EXPOSE` has an address or a port of the host, as `--publish` of `docker run` takes them. An image cannot say that:
    the container's port alone counts, and the rest is dropped.

    Warned of:

    ```dockerfile
    FROM alpine
    EXPOSE 127.0.0.1:8080:80
    ```

    Better:

    ```dockerfile
    FROM alpine
    EXPOSE 80
    ```
    """
    return f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
