"""How the program loads its modules: as Python does, by the same compiled files, only with fewer steps."""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TELL = """
import importlib, json, sys
from builder import loading
loading.install("sample")
def told(name):
    try:
        module = importlib.import_module(name)
    except Exception as error:
        return repr(error)
    spec = module.__spec__
    return {
        "value": getattr(module, "VALUE", None),
        "code": [each.__code__.co_filename for each in vars(module).values() if hasattr(each, "__code__")],
        "quick": type(module.__loader__).__module__ == "builder.loading",
        "spec": [spec.name, spec.origin, spec.cached, spec.parent, spec.has_location],
        "module": [module.__name__, module.__file__, module.__package__, hasattr(module, "__path__")],
        "cached": getattr(module, "__cached__", None),
    }
print(json.dumps({name: told(name) for name in sys.argv[1:]}))
"""


class Sample:
    """A package `sample` in a folder of its own, with what was compiled of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "sample"
        self.package.mkdir(parents=True)
        self.write("__init__", "")

    def write(self, name: str, text: str, *, compiled: bool = True, time: float = 1_700_000_000.5) -> Path:
        path = self.package / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (time, time))
        if compiled:
            # As whoever compiles in another folder names it.
            py_compile.compile(str(path), dfile=f"elsewhere/{name}.py", doraise=True)
        return path

    def tell(self, *names: str, flags: tuple[str, ...] = (), code: str = TELL, **environment: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run(code, *names, flags=flags, **environment))
        return found

    def run(self, code: str, *arguments: str, flags: tuple[str, ...] = (), **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *flags, "-c", code, *arguments],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{self.folder}:{ROOT}",
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "modules")


def value(found: object) -> tuple[object, object]:
    assert isinstance(found, dict), found
    return found["value"], found["quick"]


def test_a_module_is_what_python_would_make_of_it(sample: Sample) -> None:
    sample.write("small", "VALUE = __name__\ndef function():\n    return lambda: VALUE\n")
    sample.write("large", "VALUE = " + repr([f"word {number}" for number in range(20_000)]) + "[-1]\n")
    sample.write("inner/__init__", "VALUE = 'a package'\n")
    sample.write("inner/leaf", "VALUE = 'a leaf'\n")
    names = ("sample.small", "sample.large", "sample.inner", "sample.inner.leaf")
    by_python = sample.tell(*names, code=TELL.replace('loading.install("sample")', ""))
    by_us = sample.tell(*names)
    assert [value(by_us[name]) for name in names] == [
        ("sample.small", True),
        ("word 19999", True),
        ("a package", False),
        ("a leaf", True),
    ]
    for name in names:
        ours, theirs = by_us[name], by_python[name]
        assert isinstance(ours, dict) and isinstance(theirs, dict)
        assert {**ours, "quick": False} == theirs


def test_what_changed_since_it_was_compiled_is_read_anew(sample: Sample) -> None:
    sample.write("other_time", "VALUE = 1\n")
    sample.write("other_time", "VALUE = 2\n", compiled=False, time=1_700_000_001)
    sample.write("other_size", "VALUE = 1\n")
    sample.write("other_size", "VALUE = 222\n", compiled=False)
    sample.write("never", "VALUE = 3\n", compiled=False)
    found = sample.tell("sample.other_time", "sample.other_size", "sample.never")
    assert [value(each) for each in found.values()] == [(2, False), (222, False), (3, False)]


def test_what_is_compiled_otherwise_is_pythons(sample: Sample, tmp_path: Path) -> None:
    path = sample.write("one", "VALUE = 1\n", compiled=False)
    py_compile.compile(str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    assert value(sample.tell("sample.one")["sample.one"]) == (1, False)
    py_compile.compile(str(path), doraise=True)
    compiled = next((sample.package / "__pycache__").glob("one.*"))
    whole = compiled.read_bytes()
    # Another Python's, a file that is empty, one without code: Python compiles the source, or says what is wrong.
    for bytes_ in (b"\0\0\r\n" + whole[4:], b"", whole[:10]):
        compiled.write_bytes(bytes_)
        assert value(sample.tell("sample.one")["sample.one"]) == (1, False)
    compiled.write_bytes(whole[:16])
    by_python = sample.tell("sample.one", code=TELL.replace('loading.install("sample")', ""))
    assert sample.tell("sample.one") == by_python == {"sample.one": "EOFError('EOF read where object expected')"}
    compiled.write_bytes(whole)
    assert value(sample.tell("sample.one")["sample.one"]) == (1, True)
    assert value(sample.tell("sample.one", flags=("-O",))["sample.one"]) == (1, False)
    assert value(sample.tell("sample.one", PYTHONPYCACHEPREFIX=str(tmp_path / "cache"))["sample.one"]) == (1, False)


def test_a_module_that_is_gone_is_gone(sample: Sample) -> None:
    """What was compiled of it does not count, nor where there is a package of that name now."""
    sample.write("module", "VALUE = 1\n").unlink()
    sample.write("became", "VALUE = 1\n").unlink()
    sample.write("became/__init__", "VALUE = 'a package'\n")
    found = sample.tell("sample.module", "sample.became", "sample.nothing", "json")
    assert found["sample.module"] == """ModuleNotFoundError("No module named 'sample.module'")"""
    assert found["sample.nothing"] == """ModuleNotFoundError("No module named 'sample.nothing'")"""
    assert value(found["sample.became"]) == ("a package", False)
    assert value(found["json"]) == (None, False)


def test_it_can_be_loaded_again_and_tells_its_source(sample: Sample) -> None:
    sample.write("one", "VALUE = 1\ndef fails():\n    raise ValueError('no')\n")
    code = """
import importlib, inspect, traceback
from builder import loading
loading.install("sample")
from sample import one
one.VALUE = 2
importlib.reload(one)
print(one.VALUE, type(one.__loader__).__module__)
print(inspect.getsource(one.fails).count("raise"), one.__loader__.get_code("sample.one").co_name)
try:
    one.fails()
except ValueError:
    print(traceback.format_exc().splitlines()[-2].strip())
"""
    assert sample.run(code) == "1 builder.loading\n1 <module>\nraise ValueError('no')\n"


def test_no_module_has_a_package_or_an_extension_beside_it() -> None:
    """Python would take those first."""
    for path in (ROOT / "builder").rglob("*.py"):
        others = [each.name for each in path.parent.iterdir() if each.name.split(".")[0] == path.stem]
        assert others == [path.name]


def test_the_program_loads_its_modules_so() -> None:
    """All that is compiled, and is no package."""
    assert compileall.compile_dir(ROOT / "builder", quiet=1)
    code = """
import os, runpy, sys
end = os._exit
def tell(code):
    slow = [m.__name__ for m in sys.modules.values() if m.__name__.startswith("builder.")
            and not hasattr(m, "__path__") and type(m.__loader__).__module__ != "builder.loading"]
    print(*slow, flush=True)
    end(code)
os._exit = tell
program = sys.argv[1]
sys.argv[:] = [program, "--version"]
runpy.run_path(program, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, Path(sys.executable).with_name("pybuild")],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    version, slow = done.stdout.splitlines()
    assert version.startswith("pybuild ")
    assert slow == "builder.loading"


def test_who_looks_at_imports_keeps_his_turn(sample: Sample) -> None:
    """As tools do that measure or trace a program."""
    sample.write("one", "VALUE = 1\n")
    code = """
import sys
asked = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        asked.append(name)
sys.meta_path.insert(0, Finder())
from builder import loading
loading.install("sample")
from sample import one
print("sample.one" in asked, type(one.__loader__).__module__)
"""
    assert sample.run(code) == "True builder.loading\n"
