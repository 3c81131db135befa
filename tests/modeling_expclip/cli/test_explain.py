"""`expclip explain`: which PNGs it writes, how they are called, and what it says of what it cannot explain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling_expclip import MINI, FaceAnalyzer, FaceDetector
from modeling_expclip.cli.main import main
from modeling_expclip.media.explain import draw_heat
from tests.conftest import picture

FACES = Path(__file__).parents[3] / "space" / "examples"
HAPPY, ANGRY = FACES / "average-happiness.png", FACES / "average-anger.png"
GROUP = FACES.parent / "assets" / "average-faces.webp"


def run(*arguments) -> int:
    return main(["explain", *map(str, arguments)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_png_for_each_image_and_label(tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert run(HAPPY, ANGRY, "--labels", "joyful,furious", "--output", out, "--no-faces") == 0
    assert names(out) == {f"{face.name}.{label}.png" for face in (HAPPY, ANGRY) for label in ("joyful", "furious")}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(out / f"{HAPPY.name}.joyful.png") and lines[-1] == f"wrote 4 PNGs to {out}"
    photo = Image.open(HAPPY).convert("RGB")
    heat = FaceAnalyzer(MINI, faces=False).pipeline.explain(photo, "joyful", ["furious"])
    drawn = np.asarray(Image.open(out / f"{HAPPY.name}.joyful.png")).astype(int)
    assert np.abs(drawn - np.asarray(draw_heat(photo, heat))).max() <= 3


def test_faces_are_numbered_and_drawn_in_their_photo(tmp_path):
    pytest.importorskip("cv2")
    assert run(GROUP, "--labels", "joyful", "--output", tmp_path, "--faces", "--detector", "mtcnn", "--align") == 0
    photo = Image.open(GROUP).convert("RGB")
    faces = FaceDetector("mtcnn")(photo)
    assert names(tmp_path) == {f"{GROUP.name}.face{number}.joyful.png" for number in range(len(faces))}
    grey = np.asarray(photo.convert("L")).astype(int)
    coloured = []
    for number, face in enumerate(faces):
        drawn = np.asarray(Image.open(tmp_path / f"{GROUP.name}.face{number}.joyful.png")).astype(int)
        assert drawn.shape[:2] == grey.shape
        y, x = np.nonzero(np.ptp(drawn, -1) > 20)
        x0, y0, x1, y1 = face.box
        reach = max(x1 - x0, y1 - y0) / 4  # the crop is a square around the box
        inside = (x > x0 - reach) & (x < x1 + reach) & (y > y0 - reach) & (y < y1 + reach)
        coloured.append(len(x) and inside.mean())
    assert len(coloured) >= 4 and min(coloured) > 0.95


def test_nothing_is_called_alike(tmp_path):
    """Photos of one name, labels that differ in case, in what no file is called, or are too long for one."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        picture(size=(48, 48)).save(tmp_path / folder / "x.png")
    picture(1, size=(48, 48)).save(tmp_path / "x.png.b.png")
    labels = ["b", "B", "a/b", "a:b", "x.b", "日本", "y" * 300, "y" * 299 + "z"]
    out = tmp_path / "out"
    assert run(tmp_path, "--labels", ",".join(labels), "--output", out, "--no-faces") == 0
    found = names(out)
    assert len(found) == 3 * len(labels) == len({name.casefold() for name in found})
    assert all(len(name.encode()) < 255 and name.endswith(".png") for name in found)


def test_what_is_there_is_replaced_when_asked_only(tmp_path, capsys):
    call = (HAPPY, "--labels", "joyful,furious", "--output", tmp_path, "--no-faces")
    (tmp_path / f"{HAPPY.name}.png").write_bytes(b"another's")
    assert run(*call) == 0
    (tmp_path / f"{HAPPY.name}.joyful.png").write_bytes(b"mine")
    assert run(*call) == 2
    said = capsys.readouterr().err
    assert "furious.png and 1 more would be replaced" in said and "--overwrite" in said
    assert (tmp_path / f"{HAPPY.name}.joyful.png").read_bytes() == b"mine"
    (tmp_path / f"{HAPPY.name}.joyful.png").rename(tmp_path / f"{HAPPY.name}.face12.joyful.png")
    (tmp_path / f"{HAPPY.name}.furious.png").unlink()
    assert run(*call) == 2 and "face12" in capsys.readouterr().err
    assert run(*call, "--overwrite") == 0
    assert (tmp_path / f"{HAPPY.name}.face12.joyful.png").read_bytes() == b"mine"
    assert (tmp_path / f"{HAPPY.name}.png").read_bytes() == b"another's"


def test_what_cannot_be_explained_is_said_and_the_rest_is_done(tmp_path, capsys):
    faces = tmp_path / "faces"
    faces.mkdir()
    (faces / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (faces / "film.mp4").write_bytes(b"")
    Image.open(HAPPY).save(faces / "good.png")
    out = tmp_path / "out"
    assert run(faces, "--labels", "joyful,furious", "--output", out, "--no-faces") == 0
    assert names(out) == {"good.png.joyful.png", "good.png.furious.png"}
    said = capsys.readouterr().err
    assert f"{faces / 'broken.png'}: " in said and "video, which is not explained" in said
    (faces / "good.png").unlink()
    assert run(faces, "--labels", "joyful,furious", "--output", tmp_path / "nothing", "--no-faces") == 1


def test_a_photo_without_a_face(tmp_path, capsys):
    pytest.importorskip("cv2")
    Image.new("RGB", (300, 200), "green").save(tmp_path / "field.png")
    call = (tmp_path / "field.png", "--labels", "joyful", "--output", tmp_path / "out")
    assert run(*call, "--faces", "--detector", "mtcnn") == 1
    assert f"{tmp_path / 'field.png'}: no face found" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["no-such.png"], "no-such.png"),
        ([HAPPY, "--margin", "0.2"], "add --faces"),
        ([HAPPY, "--faces", "--margin", "-1"], "margin"),
        ([HAPPY, "--labels", "a,a"], "more than once"),
        ([HAPPY, "--model", "no/such/model"], "no/such/model"),
        ([HAPPY, "--output", HAPPY], "is a file; name a folder"),
    ],
)
def test_wrong_calls(tmp_path, capsys, arguments, said):
    assert run("--output", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("expclip explain: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


def test_sets_of_words(tmp_path):
    assert run(HAPPY, "--label-set", "valence_arousal", "--output", tmp_path, "--no-faces") == 0
    assert names(tmp_path) == {f"{HAPPY.name}.valence.png", f"{HAPPY.name}.arousal.png"}


def test_names_that_are_called_as_anothers_digest_are_told_apart(tmp_path, capsys):
    assert run(HAPPY, "--labels", "a/b,a?b,a_b-c14cddc0", "--output", tmp_path / "out", "--no-faces") == 0
    printed = capsys.readouterr().out.splitlines()[:-1]
    assert len(set(printed)) == 3 and {Path(line).name for line in printed} == names(tmp_path / "out")


def test_a_photo_that_is_called_as_a_face_of_another_is_not_replaced(tmp_path, capsys):
    odd = tmp_path / "x.face0"
    odd.write_bytes(HAPPY.read_bytes())
    assert run(odd, "--labels", "q,w", "--output", tmp_path / "out", "--no-faces") == 0
    assert run(odd, "--labels", "q,w", "--output", tmp_path / "out", "--no-faces") == 2
    assert "would be replaced; add --overwrite" in capsys.readouterr().err


def test_what_is_read_is_not_written(tmp_path, capsys):
    for name in ("a.png", "a.png.q.png"):
        (tmp_path / name).write_bytes(HAPPY.read_bytes())
    for inputs in ([tmp_path], [tmp_path / "a.png", tmp_path / "a.png.q.png"]):
        assert run(*inputs, "--labels", "q", "--output", tmp_path, "--no-faces", "--overwrite") == 2
        assert "is an input; choose another folder" in capsys.readouterr().err
    face = tmp_path / "a.png.face0.q.png"  # how the map of a face would be called
    face.write_bytes(HAPPY.read_bytes())
    assert run(tmp_path / "*.png", "--labels", "q", "--output", tmp_path, "--faces", "--overwrite") == 2
    assert "is an input; choose another folder" in capsys.readouterr().err
    link = tmp_path / "out" / "a.png.q.png"
    link.parent.mkdir()
    link.symlink_to(HAPPY)
    assert run(tmp_path / "a.png", link, "--labels", "q", "--output", link.parent, "--no-faces", "--overwrite") == 2
    assert "is an input; choose another folder" in capsys.readouterr().err
    assert link.is_symlink()
    for path in (tmp_path / "a.png.q.png", face):
        assert path.read_bytes() == HAPPY.read_bytes()
