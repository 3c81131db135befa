"""A folder of weights is read once to identify it, by one process, and again when it may have changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import REPOSITORY
from training.models import sources


@pytest.fixture
def reads(monkeypatch):
    """The weight files that were opened."""
    opened, plain = [], Path.open

    def recording(self, *arguments, **options):
        if self.suffix == ".safetensors" and "rb" in (*arguments, *options.values()):
            opened.append(self.name)
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", recording)
    return opened


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Where digests are kept, as the user's cache would be; files count as settled at once."""
    monkeypatch.setattr("training.models.digests._SETTLED", -1000.0, raising=False)
    place = tmp_path / "assets"
    place.mkdir()
    monkeypatch.setattr("training.models.digests.cached_assets_path", lambda *_, **__: place, raising=False)
    return place


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"some weights")
    return folder


def by_hand(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + np.fromfile(file, np.uint8).tobytes())
    return f"sha256 {digest.hexdigest()}"


def test_a_folder_is_read_once(weights, kept, reads):
    assert sources.origin_of(str(weights)) == sources.origin_of(str(weights)) == by_hand(weights)
    assert reads == ["model.safetensors"]
    assert sorted(file.name for file in weights.iterdir()) == ["config.json", "model.safetensors"]


def test_changed_weights_are_read_again(weights, kept, reads):
    before, file = sources.origin_of(str(weights)), weights / "model.safetensors"
    stat = file.stat()
    file.write_bytes(b"more weights")  # as long as before
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # and, as copying tools leave it, as old
    assert sources.origin_of(str(weights)) == by_hand(weights) != before
    (weights / "added.json").write_text("{}")
    assert sources.origin_of(str(weights)) == by_hand(weights)
    assert len(reads) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": [], "sha256": 1}', "null", "\0"])
def test_a_damaged_note_is_made_anew(weights, kept, reads, content):
    sources.origin_of(str(weights))
    (note,) = kept.glob("*.json")
    whole = note.read_text()
    note.write_text(content)
    assert sources.origin_of(str(weights)) == by_hand(weights)
    assert note.read_text() == whole and len(reads) == 2


def test_weights_changed_just_now_are_not_remembered(weights, kept, reads, monkeypatch):
    """Changed again within the clock's grain, they would look the same."""
    monkeypatch.setattr("training.models.digests._SETTLED", 1000.0)
    for content in (b"one", b"two"):
        (weights / "model.safetensors").write_bytes(content)
        assert sources.origin_of(str(weights)) == by_hand(weights)
    assert len(reads) == 2 and not list(kept.glob("*.json"))


def test_without_a_place_to_keep_it_every_start_reads(weights, kept, reads):
    kept.rmdir()
    kept.write_text("a file where the folder should be")
    assert sources.origin_of(str(weights)) == sources.origin_of(str(weights)) == by_hand(weights)
    assert len(reads) == 2


_ASKS = """
import sys, time
from pathlib import Path
from training.models import digests
from training.models import sources

plain = digests._hashed
def slow(files):
    Path(sys.argv[2], f"read-{time.monotonic_ns()}").touch()
    time.sleep(1)
    return plain(files)
digests._hashed = slow
digests._SETTLED = -1000.0
print(sources.origin_of(sys.argv[1]))
"""


def test_of_processes_that_start_together_one_reads(tmp_path, weights):
    environment = {**os.environ, "HF_ASSETS_CACHE": str(tmp_path / "assets"), "PYTHONPATH": str(REPOSITORY)}
    (tmp_path / "reads").mkdir()
    command = [sys.executable, "-c", _ASKS, str(weights), str(tmp_path / "reads")]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=200)[0].strip() for process in started]
    assert answers == [by_hand(weights)] * 2
    assert len(list((tmp_path / "reads").iterdir())) == 1
