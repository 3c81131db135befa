"""The rules of the house that no linter has. Who may import whom, and what may run as code, stands in pyproject.toml for `make lint`.

Each rule is a function from a file's syntax tree or text to complaints; what it must catch stands below it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from transformers.dynamic_module_utils import get_imports

import modeling_expclip
from tests.sync import BACKBONES, CODE, LIBRARY

ROOT = LIBRARY.parent
PACKAGES = ("modeling_expclip", "training", "space")
LIGHT = {"torch", "transformers", "PIL", "numpy", "packaging", "huggingface_hub", "safetensors"}


def complaints_about(package: str, rule) -> list[str]:
    """What a rule finds in all files of a package."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return [f"{file.relative_to(ROOT)}: {found}" for file in files for found in rule(ast.parse(file.read_bytes()))]


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """(level, module, name) of every ``from module import name``, and (0, module, None) of every ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", alias.name) for alias in node.names)


def cut_causes(tree: ast.AST) -> list[str]:
    """``raise ... from None``: it hides the cause from whoever debugs; only the command line shortens errors."""
    return [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.cause, ast.Constant) and node.cause.value is None
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_errors_keep_their_causes(package):
    assert complaints_about(package, cut_causes) == []


def test_cut_causes_are_found():
    assert cut_causes(ast.parse("try:\n    f()\nexcept OSError:\n    raise ValueError from None"))


def not_in_the_library(tree: ast.AST) -> list[str]:
    """Imports from the library of what it does not have, or keeps to itself."""
    found = []
    for level, module, name in imports(tree):
        if level or module.partition(".")[0] != "modeling_expclip":
            continue
        wanted = f"from {module} import {name}" if name else f"import {module}"
        public = not any(part.startswith("_") for part in [*module.split("."), name or ""])
        if module == "modeling_expclip" and name is not None:
            public = name in modeling_expclip.__all__
        try:
            exists = name is None or hasattr(importlib.import_module(module), name)
            importlib.import_module(module)
        except ModuleNotFoundError:
            exists = False
        if not (public and exists):
            found.append(wanted)
    return found


@pytest.mark.parametrize("package", ["training", "space"])
def test_the_others_import_public_names_that_exist(package):
    assert complaints_about(package, not_in_the_library) == []


@pytest.mark.parametrize(
    "code",
    [
        "from modeling_expclip import NOTHING",
        "from modeling_expclip import prompts",
        "from modeling_expclip.nowhere import x",
        "import modeling_expclip.nowhere",
        "from modeling_expclip.prompts import nothing",
        "from modeling_expclip.prompts import _fill",
    ],
)
def test_such_names_are_found(code):
    assert not_in_the_library(ast.parse(code))
    assert not not_in_the_library(ast.parse("from modeling_expclip import MINI\nimport modeling_expclip.prompts"))


@pytest.mark.parametrize("name", modeling_expclip.__all__)
def test_public_names_are_there_and_explained(name):
    value = getattr(modeling_expclip, name)
    if inspect.isroutine(value):  # what a command calls says what goes in, and what it raises
        assert re.search(r"^Args:$.+^Raises:$", inspect.getdoc(value), re.MULTILINE | re.DOTALL)
    elif inspect.isclass(value):
        assert value.__doc__


def heavy(tree: ast.AST) -> list[str]:
    """Imports that remote code cannot have: transformers copies flat siblings only, and users may have only what is LIGHT."""
    found = []
    for level, module, name in imports(tree):
        root = module.partition(".")[0]
        fine = f"{module}.py" in CODE if level == 1 else not level and root in LIGHT | set(sys.stdlib_module_names)
        found += [] if fine else [f"{'.' * level}{module} {name or ''}"]
    return found


@pytest.mark.parametrize("name", sorted(CODE | BACKBONES))
def test_remote_code_is_flat_and_light(name):
    assert heavy(ast.parse((LIBRARY / name).read_bytes())) == []
    # What transformers itself wants installed before it runs the file.
    assert set(get_imports(LIBRARY / name)) <= LIGHT | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "code",
    [
        "from . import prompts",
        "from .parts.prompts import x",
        "from ..prompts import x",
        "from .cli import main",
        "from modeling_expclip.prompts import x",
        "import pandas",
        "def f():\n    import cv2",
    ],
)
def test_such_remote_code_is_found(code):
    assert heavy(ast.parse(code))
    assert not heavy(ast.parse("import json\nfrom .prompts import x\nfrom PIL import Image"))


def test_remote_code_is_short():
    lines = {name: len((LIBRARY / name).read_text().splitlines()) for name in CODE | BACKBONES}
    assert len(CODE) == 5 and sum(lines[name] for name in CODE) <= 1130, lines
    assert all(lines[name] <= 120 for name in BACKBONES), lines


def test_compatibility_names_tests_that_exist():
    """pytest says nothing of an ``--ignore`` or ``--deselect`` that leads nowhere."""
    named = re.findall(r"tests/[\w/]+(?:\.py)?", (ROOT / ".ci" / "compatibility").read_text())
    assert len(named) > 5 and [name for name in named if not (ROOT / name).exists()] == []


# In parts, or this file would be the first to break the rule.
_HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io"))]
_ELSEWHERE = re.compile("|".join([*map(re.escape, _HOSTS), "index" + "-url", r"(?<![\w.~-])/" + r"work(?![\w-])"]))


def elsewhere(text: str) -> list[str]:
    """Package registries and folders of the machine that this was built on."""
    return _ELSEWHERE.findall(text)


def test_no_file_names_a_registry_or_a_folder_of_one_machine():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout, which knows the files that belong to it")
    files = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert ROOT / "README.md" in files
    found = {}
    for file in files:
        content = file.read_bytes()
        if b"\0" not in content and (names := elsewhere(content.decode(errors="replace"))):
            found[str(file.relative_to(ROOT))] = names
    assert found == {}


def test_such_names_of_elsewhere_are_found():
    machine = "/" + "work"
    assert all(map(elsewhere, [f"pip download from {_HOSTS[0]}", f"cd {machine}/main", f'"{machine}"', f"={machine}"]))
    assert not elsewhere("work/cache, ../work/mini, a/work/b, /workspace, https://example.org/work")
