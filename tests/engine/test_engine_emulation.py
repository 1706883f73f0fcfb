"""The smallest programs of each architecture, and what this machine makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.engine import emulation
from builder.errors import SandboxError, Span
from builder.oci.platform import Platform
from tests.build.build_emulator import emulated
from tests.conftest import Foreign

OWN = Platform.of_machine(os.uname().machine)
# Debian's names of the emulators; older ones lack some.
QEMU = {
    "386": "i386", "amd64": "x86_64", "arm": "arm", "arm64": "aarch64", "loong64": "loongarch64", "mips64": "mips64",
    "mips64le": "mips64el", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}  # fmt: skip


def test_every_architecture_has_an_emulator_to_compare_with() -> None:
    assert set(QEMU) == set(emulation.ARCHITECTURES)


@pytest.mark.parametrize("name", emulation.ARCHITECTURES)
def test_the_program_ends_well_where_it_runs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(emulation.program(name))
    path.chmod(0o755)
    emulator = shutil.which(f"qemu-{QEMU[name]}-static") or shutil.which(f"qemu-{QEMU[name]}")
    assert emulator is not None or name == "loong64"
    if emulator is not None:
        assert subprocess.run([emulator, path], timeout=60).returncode == 0


def test_what_this_machine_can() -> None:
    found = emulation.abilities()
    assert set(found) == set(emulation.ARCHITECTURES)
    assert found[OWN.architecture] == "runs"
    assert emulation.abilities(["wasm"]) == {"wasm": "unknown"}
    emulation.require(OWN)
    emulation.require(OWN._replace(variant="v9"))


def test_what_an_emulator_changes(foreign: Foreign) -> None:
    wanted = Platform.parse(foreign.platform)
    with emulated(foreign):
        emulation.require(wanted)
        listed = dict(emulation.usable(OWN, emulation.abilities()))
        assert (listed[OWN], listed[wanted]) == (True, False)
    with emulated(foreign, ""), pytest.raises(SandboxError, match="without the flag F") as caught:
        emulation.require(wanted, Span(3, 1, 3, 4))
    assert (caught.value.span, caught.value.exit_code) == (Span(3, 1, 3, 4), 6)


def test_what_can_be_used_is_in_the_order_of_what_is_best() -> None:
    runs = dict.fromkeys(("386", "amd64", "arm", "arm64"), "runs")
    shown = [(str(one), native) for one, native in emulation.usable(Platform("linux", "amd64"), runs)]  # type: ignore[arg-type]
    assert shown == [
        ("linux/amd64", True),
        ("linux/386", True),
        ("linux/arm/v7", False),
        ("linux/arm/v6", False),
        ("linux/arm/v5", False),
        ("linux/arm64", False),
    ]
    # A processor that gave up 32 bits.
    alone = emulation.usable(Platform("linux", "arm64"), {"arm64": "runs", "arm": "absent"})
    assert [str(one) for one, _ in alone] == ["linux/arm64"]
