"""Asking the training commands, in this process, for what they must do or refuse in one line; and disks with little room."""

from __future__ import annotations

import importlib
import io
import resource
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

import yaml

from training.support.command import run


def ask(module: str, *arguments: object) -> tuple[int, str]:
    """Exit code and stderr of ``python -m training.MODULE ARGUMENTS``."""
    spoken = io.StringIO()
    with mock.patch.object(sys, "argv", [module, *map(str, arguments)]), redirect_stderr(spoken):
        try:
            run(f"training.{module}", importlib.import_module(f"training.{module}").main)
        except SystemExit as end:
            return end.code, spoken.getvalue()
    return 0, spoken.getvalue()


def refusal(module: str, *arguments: object) -> str:
    """The one line in which the command says what is wrong; progress bars may stand above it."""
    code, spoken = ask(module, *arguments)
    assert code == 2, spoken
    assert spoken.count(f"training.{module}: ") == 1, spoken
    assert "Traceback" not in spoken, spoken
    line = spoken.partition(f"training.{module}: ")[2]  # the Trainer's bar stays open before it
    assert line.endswith("\n") and line.count("\n") == 1, spoken
    return line.strip()


def write_recipe(path: Path, clip: Path, **training: object) -> Path:
    """A recipe that runs in a second on the small CLIP of the tests."""
    content = {
        "clip": {"model": str(clip), "preprocessing": "paper"},
        "teacher": {"kind": "vectors"},
        "faces": {"batch_size": 8},
        "training": {"max_steps": 10, "batch_size": 16, "log_steps": 5, "save_steps": 5, **training},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def mount(folder: Path, options: str) -> bool:
    """Mounts memory as a disk of its own on ``folder``; False where this process may not."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True)


class MemoryDisk:
    """A real file system of ``size`` bytes. ``mounted`` says whether there is one."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.mounted = mount(folder, f"size={size}")

    def make_room(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder)], check=True)

    def close(self) -> None:
        unmount(self.folder)


class LimitedFiles:
    """No file of this process may grow beyond a quarter of ``size`` bytes: what is left where nothing may be mounted."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, self._before[1]))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def close(self) -> None:
        self.make_room()
