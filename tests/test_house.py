"""The rules of the house, read off its files: who imports whom, what travels in checkpoints, and what stands nowhere.

Each rule is a function from a file's syntax tree or text to complaints; what it must catch stands below it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports

import modeling_expclip
from modeling_expclip import MINI

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "modeling_expclip"
PACKAGES = ("modeling_expclip", "training", "space")
REMOTE = sorted(LIBRARY / copy.name for copy in Path(MINI).glob("*.py"))

LIGHT = {"torch", "transformers", "PIL", "numpy", "packaging", "huggingface_hub", "safetensors"}
OPTIONAL = {"cv2", "av", "openvino", "onnxruntime"}  # users without them keep the rest of the model


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def complaints_about(package: str, rule) -> list[str]:
    """What a rule finds in all files of a package."""
    files = sources(package)
    assert files
    return [f"{file.relative_to(ROOT)}: {found}" for file in files for found in rule(ast.parse(file.read_bytes()))]


def absolute_imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every ``from module import name``, and (module, None) of every ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def others(tree: ast.AST) -> list[str]:
    """Imports of the packages that only run from a clone."""
    return [
        module for module, _ in absolute_imports(tree) if module.partition(".")[0] in ("training", "space", "tests")
    ]


def test_the_library_imports_neither_training_nor_space():
    assert complaints_about("modeling_expclip", others) == []


@pytest.mark.parametrize(
    "code", ["import training.data.faces", "def f():\n    from space import app", "from training import data"]
)
def test_such_imports_are_found(code):
    assert others(ast.parse(code))


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


def defined(file: Path) -> set[str]:
    """The names that a module defines or imports outside functions and classes."""
    names, left = set(), list(ast.parse(file.read_bytes()).body)
    while left:
        node = left.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {
                inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            }
            left += [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)]
    return names


def not_in_the_library(tree: ast.AST) -> list[str]:
    """Imports from the library of what it does not have, or keeps to itself."""
    found = []
    for module, name in absolute_imports(tree):
        package, _, inner = module.partition(".")
        if package != "modeling_expclip":
            continue
        if not inner:
            fine = name is None or name in modeling_expclip.__all__ or (LIBRARY / f"{name}.py").is_file()
        else:
            place = LIBRARY.joinpath(*inner.split("."))
            file = place.with_suffix(".py")
            room = place.is_dir() and name is not None and (place / f"{name}.py").is_file()
            fine = room or (file.is_file() and (name is None or (name in defined(file) and not name.startswith("_"))))
        if not fine:
            found.append(f"from {module} import {name}")
    return found


@pytest.mark.parametrize("package", ["training", "space"])
def test_the_others_import_public_names_that_exist(package):
    assert complaints_about(package, not_in_the_library) == []


@pytest.mark.parametrize(
    "code",
    [
        "from modeling_expclip import NOTHING",
        "from modeling_expclip.nowhere import x",
        "import modeling_expclip.nowhere",
        "from modeling_expclip.prompts import nothing",
        "from modeling_expclip.prompts import _fill",
    ],
)
def test_such_names_are_found(code):
    assert not_in_the_library(ast.parse(code))


def heavy(tree: ast.AST) -> list[str]:
    """Imports that remote code cannot have: transformers copies flat siblings only, and users may have only what is LIGHT."""
    found = []

    def visit(node: ast.AST, inside: bool, guarded: bool) -> None:
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level != 1 or f"{node.module}.py" not in {file.name for file in REMOTE}:
                found.append(ast.unparse(node))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            for root in (module.partition(".")[0] for module in modules):
                allowed = root in sys.stdlib_module_names or root in LIGHT or (root in OPTIONAL and inside and guarded)
                found.extend([] if allowed else [f"import of {root}"])
        elif isinstance(node, ast.Try):
            catches = any(handler.type and "ImportError" in ast.unparse(handler.type) for handler in node.handlers)
            for child in node.body:
                visit(child, inside, guarded or catches)
            for child in [*node.handlers, *node.orelse, *node.finalbody]:
                visit(child, inside, guarded)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)), guarded)

    visit(tree, False, False)
    return found


@pytest.mark.parametrize("file", REMOTE, ids=lambda file: file.name)
def test_remote_code_is_flat_and_light(file):
    assert heavy(ast.parse(file.read_bytes())) == []
    # What transformers itself wants installed before it runs the file.
    assert set(get_imports(file)) <= LIGHT | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "code",
    [
        "from . import prompts",
        "from .parts.prompts import x",
        "from ..prompts import x",
        "from .cli import main",
        "from modeling_expclip.prompts import x",
        "import pandas",
        "import cv2",
        "try:\n    import cv2\nexcept ImportError:\n    cv2 = None",
        "def f():\n    import cv2",
        "def f():\n    try:\n        import cv2\n    except ValueError:\n        raise",
        "def f():\n    try:\n        pass\n    except ImportError:\n        import cv2",
        "def f():\n    try:\n        import pandas\n    except ImportError:\n        raise",
    ],
)
def test_such_remote_code_is_found(code):
    assert heavy(ast.parse(code))
    assert not heavy(
        ast.parse(
            "import json\nfrom .prompts import x\ndef f():\n    try:\n        import cv2\n    except ImportError:\n        raise"
        )
    )


def runs_what_it_reads(tree: ast.AST) -> list[str]:
    """Ways to run code out of data."""
    found = []
    for module, name in absolute_imports(tree):
        if module.partition(".")[0] in {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}:
            found.append(f"import of {module}")
        if (module, name) in {("torch", "load"), ("numpy", "load")} or (
            module == "pickle" and name not in (None, "UnpicklingError")
        ):
            found.append(f"from {module} import {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name == "pickle" and alias.asname for alias in node.names):
            found.append("pickle under another name")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted = f"{node.value.id}.{node.attr}"
            if (node.value.id == "pickle" and node.attr != "UnpicklingError") or dotted in (
                "yaml.load",
                "yaml.unsafe_load",
                "builtins.eval",
                "builtins.exec",
            ):
                found.append(dotted)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {option.arg: getattr(option.value, "value", None) for option in node.keywords}
            if called in ("eval", "exec", "__import__"):
                found.append(called)
            if called == "torch.load" and options.get("weights_only") is not True:
                found.append("torch.load without weights_only=True")
            if called in ("np.load", "numpy.load") and options.get("allow_pickle", False) is not False:
                found.append("np.load with pickles")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_runs_what_it_reads(package):
    assert complaints_about(package, runs_what_it_reads) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p",
        "from pickle import loads",
        "import joblib",
        "torch.load(path)",
        "torch." + "load(path, weights_only=False)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
    ],
)
def test_such_ways_are_found(code):
    assert runs_what_it_reads(ast.parse(code))
    assert not runs_what_it_reads(
        ast.parse(
            "import pickle\ntry:\n    torch.load(f, weights_only=True)\nexcept pickle.UnpicklingError:\n    model.eval()"
        )
    )


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
