"""The catalogue: known causes of builds that give other bytes each time, each with what to write into the Dockerfile.

Names are stable: `--ignore` takes them, and the JSON form has them. docs/diff.md lists them, and a test compares.
"""

from __future__ import annotations

from builder.values import NamedTuple


class Pattern(NamedTuple):
    cause: str
    """As a sentence without its end, about one file."""
    fix: str


_FIND = "find DIR -exec touch -hd @$SOURCE_DATE_EPOCH {} +"
_HAS = "which RUN has unless an ARG of that name without a value takes it away"
_IGNORE = ".dockerignore: .git; where a RUN makes it: rm -rf .git in the same RUN"

PATTERNS: dict[str, Pattern] = {
    # Archives and compressed files.
    "gzip-time": Pattern("the gzip header has the time of packing", "gzip -n"),
    "gzip-name": Pattern("the gzip header has the name of what was packed, or of the system", "gzip -n"),
    "compression": Pattern(
        "the same content was compressed in another way",
        "pin the version and the level of the tool that packs, and its threads",
    ),
    "zip-times": Pattern("members of a zip archive have the times of the build", f"{_FIND}, then zip -X"),
    "zip-order": Pattern(
        "members of a zip archive stand in the order of the folder on disk", "find . | LC_ALL=C sort | zip -X archive.zip -@"
    ),
    "zip-attributes": Pattern("members of a zip archive have other modes, owners or systems", "zip -X, after chmod -R"),
    "zip-compression": Pattern(
        "members of a zip archive were compressed in another way", "pin the tool that packs, and its level"
    ),
    "jar-times": Pattern(
        "members of a jar have the times of the build",
        "jar --date=1980-01-02T00:00:00Z (JDK 17); Maven: project.build.outputTimestamp; Gradle: preserveFileTimestamps=false",
    ),
    "jar-order": Pattern(
        "members of a jar stand in the order of the folder on disk",
        "Gradle: reproducibleFileOrder=true; Maven: maven-jar-plugin 3.2",
    ),
    "jar-manifest": Pattern(
        "the manifest of a jar says when, where or by whom it was built",
        "Maven: project.build.outputTimestamp; leave Build-Date, Built-By and the like out of the manifest",
    ),
    "tar-times": Pattern(
        "members of a tar archive have the times of the build", "tar --mtime=@$SOURCE_DATE_EPOCH --clamp-mtime"
    ),
    "tar-order": Pattern("members of a tar archive stand in the order of the folder on disk", "tar --sort=name"),
    "tar-owners": Pattern(
        "members of a tar archive have the user of the build as their owner", "tar --owner=0 --group=0 --numeric-owner"
    ),
    "tar-form": Pattern(
        "a tar archive has the same files in another form: extended headers, owners' names or padding",
        "tar --format=ustar, or --pax-option=delete=atime,delete=ctime",
    ),
    "ar-times": Pattern("members of a static library have times and owners", "ar rcsD, ranlib -D"),
    "ar-order": Pattern("members of a static library stand in another order", "sort the object files: $(sort $(wildcard *.o))"),
    # What compilers write.
    "elf-build-id": Pattern(
        "the build ID of a program follows from its link, and nothing else of what is loaded differs",
        "gcc -ffile-prefix-map=$PWD=. for what it is made of, or -Wl,--build-id=none",
    ),
    "elf-debug": Pattern(
        "only the sections for debuggers differ",
        "build in a fixed folder, gcc -ffile-prefix-map=$PWD=., or strip --strip-debug --remove-section=.note.gnu.build-id",
    ),
    "elf-date": Pattern(
        "a program has the date of its build in it",
        f"gcc 7 and clang 16 take SOURCE_DATE_EPOCH for __DATE__, {_HAS}; gcc -Werror=date-time finds them",
    ),
    "go-build-id": Pattern("the build ID of a Go program differs", "go build -trimpath -buildvcs=false -ldflags=-buildid="),
    "pyc-time": Pattern(
        "compiled Python has the time of its source",
        "python -m compileall -f --invalidation-mode=checked-hash; pip install --no-compile;"
        " ENV PYTHONDONTWRITEBYTECODE=1 for imports",
    ),
    "pyc-mode": Pattern(
        "compiled Python is checked against its source in another way (time or hash)",
        "python -m compileall -f --invalidation-mode=checked-hash",
    ),
    "pyc-code": Pattern(
        "the code in compiled Python is written down in another order or with other references",
        "compile once, at the end, in one process: python -m compileall -j1, with ENV PYTHONHASHSEED=0",
    ),
    "pyc-path": Pattern("compiled Python has the folder of the build in it", "python -m compileall -s FOLDER -p /"),
    "pycache": Pattern(
        "Python writes __pycache__ when it imports, and not each time the same",
        "ENV PYTHONDONTWRITEBYTECODE=1 before that step",
    ),
    # Package managers.
    "dpkg-status-order": Pattern(
        "the packages stand in another order in dpkg's status, as they were unpacked", "install packages in one apt-get install"
    ),
    "package-versions": Pattern(
        "other versions of packages were installed",
        "pin versions (apt-get install NAME=VERSION), or install from a dated snapshot such as snapshot.debian.org",
    ),
    "dpkg-backup": Pattern("dpkg keeps what its database was before", "rm -f /var/lib/dpkg/*-old in the same RUN"),
    "debconf-database": Pattern("debconf's database differs", "rm -f /var/cache/debconf/*-old in the same RUN"),
    "apt-lists": Pattern(
        "the lists of packages are of another day", "rm -rf /var/lib/apt/lists/* in the same RUN, or RUN --mount=type=cache"
    ),
    "apt-cache": Pattern(
        "apt's cache stays in the image", "rm -rf /var/cache/apt/* in the same RUN, or RUN --mount=type=cache"
    ),
    "package-log": Pattern(
        "a package manager writes when it did what",
        "rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log in the same RUN",
    ),
    "apk-database": Pattern(
        "apk's database has times or another order", "apk add --no-cache with all packages in one RUN, pinned"
    ),
    "apk-cache": Pattern("apk's index or cache is of another day", "apk add --no-cache"),
    "rpm-database": Pattern(
        "rpm's database has the times at which packages were installed",
        "rm -rf /var/lib/rpm where nothing asks it, or --ignore rpm-database",
    ),
    "dnf-state": Pattern("dnf's history and caches are of another day", "dnf clean all && rm -rf /var/lib/dnf /var/cache/dnf"),
    # What packages leave behind.
    "ldconfig-cache": Pattern(
        "ldconfig's auxiliary cache has inodes and change times", "rm -f /var/cache/ldconfig/aux-cache in the same RUN"
    ),
    "ld-so-cache": Pattern("the linker's cache has libraries in another order", "run ldconfig once, after all is installed"),
    "font-cache": Pattern("fontconfig's cache has the times of the folders", "rm -rf /var/cache/fontconfig in the same RUN"),
    "man-database": Pattern("the database of manual pages has times", "rm -rf /var/cache/man in the same RUN"),
    "account-backup": Pattern(
        "useradd and its kin keep what the files were before", "rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow-"
    ),
    "shadow-dates": Pattern(
        "accounts have the day of their last password change",
        f"useradd takes SOURCE_DATE_EPOCH for the day, {_HAS}; or chage -d 2020-01-01 USER",
    ),
    "shadow-password": Pattern(
        "a password was hashed with a salt by chance", "set no password in the image, or one with a fixed salt: chpasswd -e"
    ),
    "machine-id": Pattern(
        "the id of the machine was made by chance", "RUN ... && : > /etc/machine-id && rm -f /var/lib/dbus/machine-id"
    ),
    "ssh-host-keys": Pattern(
        "host keys of ssh were made by chance", "rm -f /etc/ssh/ssh_host_*; make them when the container starts"
    ),
    "private-key": Pattern("a key was made by chance", "make keys when the container starts; in an image they are no secret"),
    "java-keystore": Pattern(
        "a keystore of Java has the time of each entry",
        "import certificates in a stage whose result is kept, or remove the file",
    ),
    "gnupg": Pattern("GnuPG keeps times and seeds of chance", "GNUPGHOME=$(mktemp -d), removed in the same RUN"),
    "random-seed": Pattern("a seed was made by chance", "remove it in the same RUN"),
    "host-files": Pattern(
        "the file is the container's, written by the builder", "build with pybuild or BuildKit, which leave it out"
    ),
    # Languages' own caches.
    "pip-cache": Pattern(
        "pip's cache stays in the image", "pip install --no-cache-dir, or RUN --mount=type=cache,target=/root/.cache/pip"
    ),
    "pip-record": Pattern(
        "a wheel's list of files has other hashes, or stands in another order", "pip install --no-compile, with pinned versions"
    ),
    "pip-direct-url": Pattern(
        "pip noted the folder that it installed from", "install from a fixed path, or from a wheel in an index"
    ),
    "npm-cache": Pattern(
        "npm's cache or logs stay in the image",
        "npm ci --cache /tmp/npm && rm -rf /tmp/npm, or RUN --mount=type=cache,target=/root/.npm",
    ),
    "maven-repository": Pattern("Maven notes when it asked for what", "RUN --mount=type=cache,target=/root/.m2"),
    "build-cache": Pattern("the cache of a build tool stays in the image", "RUN --mount=type=cache for it"),
    # Version control and databases.
    "git-index": Pattern("git's index has inodes and times of the checkout", _IGNORE),
    "git-logs": Pattern("git's logs have times and users", _IGNORE),
    "git-objects": Pattern("git's objects, packs and references differ: a commit has a time, and packs an order", _IGNORE),
    "sqlite-counter": Pattern(
        "only the counters of changes of an SQLite database differ", "make it in one transaction, and end with VACUUM"
    ),
    "temporary-file": Pattern(
        "a temporary file stays in the image", "rm -rf /tmp/* in the same RUN, or RUN --mount=type=tmpfs,target=/tmp"
    ),
    # Text.
    "log": Pattern("logs say when and what", "rm -f it in the same RUN"),
    "date-in-text": Pattern(
        "the text has a date or time of the build",
        f"date -ud @$SOURCE_DATE_EPOCH in the place of date: a variable {_HAS}",
    ),
    "temporary-path": Pattern("the text has the name of a temporary folder", "build in a fixed folder"),
    "random-id": Pattern("the text has an id by chance (UUID)", "give the tool a fixed id or seed"),
    "line-order": Pattern("the same lines stand in another order", "LC_ALL=C sort, or sort what the tool is given"),
    "hash-order": Pattern(
        "the same words stand in another order within lines", "ENV PYTHONHASHSEED=0, or sort in the program that writes it"
    ),
    "line-endings": Pattern("only the ends of lines differ", ".gitattributes: * text=auto eol=lf"),
    "layer-order": Pattern(
        "the layer has the same files in another order", "the builder packs as the folder is read: pack with one that sorts"
    ),
    "layer-form": Pattern(
        "the layer has the same files in another form of tar", "pack with the same version of the same builder"
    ),
}
