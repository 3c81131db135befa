"""Pictures of results show any class name, and what cannot be drawn is a message."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from training.support import plots

ODD = (r"$\nope$", "_hidden", "two\nlines", "caf\udce9", "long " * 60)


def test_odd_names_are_drawn(tmp_path, capsys):
    plots.confusion_matrix(np.eye(5, dtype=int), ODD, r"a $\model$ on x", tmp_path / "matrix.png")
    steps = [{"step": 1, "loss": 1.0, "image_to_teacher": 0.1, "teacher_to_image": 0.1, r"eval_$\nope$_mean_uar": 50.0}]
    plots.training_curve(steps, tmp_path / "curve.png")
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in ("matrix", "curve"))
    assert "was not drawn" not in capsys.readouterr().err


def test_what_cannot_be_drawn_is_a_message(tmp_path, capsys):
    plots.confusion_matrix(np.eye(2), ("a", "b"), 7, tmp_path / "matrix.png")  # a title without a length
    said = capsys.readouterr().err
    assert f"{tmp_path / 'matrix.png'} was not drawn (TypeError: " in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", full)
    with pytest.raises(OSError, match=r"matrix.png cannot be written \(No space left"):
        plots.confusion_matrix(np.eye(2, dtype=int), ("a", "b"), "x", tmp_path / "matrix.png")
