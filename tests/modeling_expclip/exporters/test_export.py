import itertools
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, CLIPModel

from modeling_expclip import ExpCLIPModel, verify
from modeling_expclip.checkpoint.golden import VerificationError
from modeling_expclip.cli.main import main
from modeling_expclip.exporters import export as export_module
from modeling_expclip.exporters import onnx_graphs
from modeling_expclip.exporters.export import export
from modeling_expclip.exporters.runtimes import BACKENDS, describe, exported_backend, load_image_tower
from tests.conftest import picture, write_clip

for package in ("nncf", "onnx", "onnxruntime", "onnxscript", "openvino"):
    pytest.importorskip(package)

# Lowest cosine with torch's embeddings, of a random model and noise: less than a trained one and faces reach.
COSINES = {
    ("openvino", "fp32"): 0.99999,
    ("openvino", "bf16"): 0.9995,
    ("openvino", "int8"): 0.99,
    ("onnx", "fp32"): 0.99999,
    ("onnx", "int8"): 0.99,
}
ALL_EXPORTS = """
import sys
from transformers.utils import logging
from modeling_expclip.exporters.export import export

logging.disable_progress_bar()
source, faces, output, *combinations = sys.argv[1:]
for combination in combinations:
    backend, precision = combination.split("-")
    export(source, f"{output}/{combination}", backend, precision, [faces] if precision == "int8" else [])
assert sys.modules["openvino_telemetry"] is None, "OpenVINO reports its use"
"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for seed in range(20):
        picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory, checkpoint, faces) -> Path:
    """Every backend and precision, written by another process, which has nothing to say, and moved since."""
    output = tmp_path_factory.mktemp("exports")
    combinations = ["-".join(combination) for combination in COSINES]
    command = [sys.executable, "-c", ALL_EXPORTS, checkpoint, faces, output / "written", *combinations]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    return (output / "written").rename(output / "moved")


@pytest.fixture
def damaged(exports, tmp_path):
    """A copy of an export, to be damaged."""

    def copy(backend: str) -> Path:
        return shutil.copytree(exports / f"{backend}-fp32", tmp_path / backend)

    return copy


@pytest.mark.parametrize(("backend", "precision"), COSINES)
def test_an_export_embeds_as_torch_does(exports, backend, precision):
    folder = str(exports / f"{backend}-{precision}")
    model = CLIPModel.from_pretrained(folder)
    assert exported_backend(folder) == backend
    tower = load_image_tower(folder, backend)
    for batch in (1, 5):
        pixels = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            expected = model.get_image_features(pixels).pooler_output
        found = tower(pixels)
        assert found.dtype == torch.float32 and found.shape == expected.shape
        assert torch.cosine_similarity(found, expected).min() >= COSINES[backend, precision]
        torch.testing.assert_close(found.norm(dim=-1), expected.norm(dim=-1), rtol=0.1, atol=0)
        if precision == "fp32":  # bfloat16 would be off by more
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("backend", "precision"), COSINES)
def test_an_export_is_a_complete_plain_checkpoint(exports, backend, precision, checkpoint):
    folder = exports / f"{backend}-{precision}"
    graph = "onnx/vision_model_quantized.onnx" if precision == "int8" else "onnx/vision_model.onnx"
    towers = {"openvino": {"image_tower.xml", "image_tower.bin"}, "onnx": {graph}}
    files = {
        *"config model processor_config preprocessor_config tokenizer tokenizer_config export golden README".split()
    }
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert towers[backend] < found and {Path(name).stem for name in found - towers[backend]} == files
    assert type(AutoModel.from_pretrained(folder)) is CLIPModel
    assert not [file.name for file in folder.glob("*.json") if "auto_map" in file.read_text()]
    assert main(["verify", "--model", str(folder)]) == 0
    pixels, ids = torch.rand(2, 3, 32, 32), torch.tensor([[512, 5, 9, 513], [512, 8, 9, 513]])
    original, plain = ExpCLIPModel.from_pretrained(checkpoint), CLIPModel.from_pretrained(folder)
    expected = original(input_ids=ids, pixel_values=pixels).logits_per_image
    torch.testing.assert_close(plain(input_ids=ids, pixel_values=pixels).logits_per_image, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("backend", "precision"), COSINES)
def test_an_export_names_no_place_of_its_making(exports, backend, precision):
    """Not even a relative one: exporters note the lines of code that each layer came from."""
    folder = exports / f"{backend}-{precision}"
    for file in filter(Path.is_file, folder.rglob("*")):
        assert not re.search(rb"[\w-]+/[\w.-]+\.py|stack_trace|conversion_parameters", file.read_bytes()), file.name
    assert main(["publish", "--model", str(folder), "--repo", "a/b", "--dry-run"]) == 0


def test_verify_loads_the_tower(damaged):
    folder = damaged("onnx")
    assert verify(folder)["pixel_values"] < 1e-6
    content = bytearray((folder / "onnx" / "vision_model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "onnx" / "vision_model.onnx").write_bytes(content)
    with pytest.raises(VerificationError, match="vision_model.onnx is damaged"):
        verify(folder)


def test_an_export_of_version_01_is_still_read(damaged):
    folder = damaged("onnx")
    expected = load_image_tower(str(folder), "onnx")(torch.ones(1, 3, 32, 32))
    (folder / "onnx" / "vision_model.onnx").rename(folder / "image_tower.onnx")
    (folder / "onnx").rmdir()
    path = folder / "export.json"
    path.write_text(path.read_text().replace("onnx/vision_model.onnx", "image_tower.onnx"))
    assert torch.equal(load_image_tower(str(folder), "onnx")(torch.ones(1, 3, 32, 32)), expected)


def test_verify_notices_a_changed_description(damaged, capsys):
    folder = damaged("onnx")
    (folder / "export.json").write_text((folder / "export.json").read_text().replace("fp32", "int8"))
    assert main(["verify", "--model", str(folder)]) == 1
    assert "export.json" in capsys.readouterr().err


def test_int8_is_int8(exports):
    import onnx

    sizes = [(exports / f"openvino-{precision}" / "image_tower.bin").stat().st_size for precision in ("fp32", "int8")]
    assert sizes[1] < 0.4 * sizes[0]
    graph = onnx.load(exports / "onnx-int8" / "onnx" / "vision_model_quantized.onnx").graph
    weights = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    kinds = [weights.get(makers[node.input[1]].input[0]) for node in products if node.input[1] in makers]
    # In each of the 2 layers: query, key and value as one, attention's output and two in the MLP.
    assert kinds.count("INT8") == 2 * 4


def test_a_plain_clip_with_weights_too_large_for_one_onnx_file(tmp_path, clip_folder, monkeypatch):
    monkeypatch.setattr(onnx_graphs, "_LIMIT", 0)
    export(str(clip_folder), tmp_path / "out", "onnx")
    files = json.loads((tmp_path / "out" / "export.json").read_text())["files"]
    assert {*files} == {"onnx/vision_model.onnx", "onnx/vision_model.onnx_data"}
    folder = str((tmp_path / "out").rename(tmp_path / "moved"))
    pixels = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(clip_folder).get_image_features(pixels.float()).pooler_output
    torch.testing.assert_close(load_image_tower(folder, "onnx")(pixels), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_share_a_tower(exports, backend):
    tower = load_image_tower(str(exports / f"{backend}-fp32"), backend)
    inputs = [torch.rand(1 + i % 3, 3, 32, 32) for i in range(60)]
    expected = [tower(pixels) for pixels in inputs]
    with ThreadPoolExecutor(6) as pool:
        for one, other in zip(pool.map(tower, inputs), expected):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("backend", "precision", "calibration", "message"),
    [
        ("tensorrt", "fp32", [], "unknown backend 'tensorrt'; expected one of openvino, onnx"),
        ("openvino", "fp16", [], "unknown precision 'fp16'; expected one of fp32, bf16, int8"),
        ("onnx", "bf16", [], "no bf16 on the CPU; use --backend openvino or --precision int8"),
        ("openvino", "int8", [], "--calibration PATH"),
        ("openvino", "fp32", ["faces"], "--calibration is for --precision int8"),
        ("onnx", "int8", ["nowhere"], "no file or folder 'nowhere'"),
        ("onnx", "int8", ["faces/0.png", "faces/0.png"], "gives 1 images; int8 needs 16"),
        ("onnx", "int8", ["faces", "torn.png"], r"cannot be read: torn.png \(UnidentifiedImageError"),
    ],
)
def test_wrong_calls_write_nothing(tmp_path, monkeypatch, checkpoint, faces, backend, precision, calibration, message):
    (tmp_path / "faces").symlink_to(faces)
    (tmp_path / "torn.png").write_bytes(b"not a picture")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        export(str(checkpoint), "out", backend, precision, calibration)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_stays(tmp_path, checkpoint):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        export(str(checkpoint), tmp_path, "openvino")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_tower_that_disagrees_leaves_nothing(tmp_path, exports, monkeypatch):
    def another_tower(model, folder, *options):
        shutil.copytree(exports / "onnx-fp32" / "onnx", folder / "onnx")

    source = write_clip(tmp_path / "source", seed=9)
    monkeypatch.setattr(export_module, "write_tower", another_tower)
    with pytest.raises(ValueError, match="fp32 image tower for onnx does not agree with torch: mean cosine"):
        export(str(source), tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == [source]


def test_calibration_is_spread_over_many_images(tmp_path):
    for i in range(1000):
        (tmp_path / f"{i:04}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    files = [int(Path(file).stem) for file in export_module._calibration_files([str(tmp_path)])]
    assert len(files) == 300 and files[0] == 0 and files[-1] >= 996
    assert {after - before for before, after in itertools.pairwise(files)} == {3, 4}


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_missing_packages(tmp_path, checkpoint, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = r'openvino needs the packages openvino and nncf: pip install "expclip\[export\]"'
    with pytest.raises(ImportError, match=message):
        export(str(checkpoint), tmp_path / "out", "openvino")


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_a_missing_runtime(exports, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"backend {backend} needs the package {package}: pip install {package}"):
        load_image_tower(str(exports / f"{backend}-fp32"), backend)


@pytest.mark.parametrize("name", ["image_tower.xml", "image_tower.bin", "onnx/vision_model.onnx"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_tower_is_refused(damaged, name, damage):
    backend = "onnx" if name.endswith("onnx") else "openvino"
    folder = damaged(backend)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"lacks {name}" if damage == "missing" else f"{name} is damaged"):
        load_image_tower(str(folder), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tower_the_runtime_cannot_read_is_refused(damaged, backend):
    folder = damaged(backend)
    (tower,) = [*folder.glob("image_tower.xml"), *folder.glob("onnx/*")]
    tower.write_bytes(b"<net/>")
    describe(folder, backend, "fp32", ())
    with pytest.raises(ValueError, match=f"cannot load {tower}: \\S"):
        load_image_tower(str(folder), backend)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:40],
        lambda text: "[]",
        lambda text: text.replace('"openvino"', '"tensorrt"', 1),
        lambda text: text.replace("image_tower.bin", "another.bin"),
        lambda text: text.replace('"files": {', '"files": {"../config.json": "",'),
    ],
)
def test_a_damaged_description_is_refused(damaged, change):
    folder = damaged("openvino")
    path = folder / "export.json"
    path.write_text(change(path.read_text()))
    for ask in (exported_backend, lambda source: load_image_tower(source, "openvino")):
        with pytest.raises(ValueError, match="export.json is damaged or of a newer version"):
            ask(str(folder))


def test_a_checkpoint_that_was_not_exported(exports, checkpoint):
    assert exported_backend(str(checkpoint)) is None
    with pytest.raises(ValueError, match="no exported image tower; write one with `expclip export --backend onnx`"):
        load_image_tower(str(checkpoint), "onnx")
    with pytest.raises(ValueError, match="was exported for 'onnx'; run `expclip export --backend openvino`"):
        load_image_tower(str(exports / "onnx-fp32"), "openvino")
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        load_image_tower(str(exports / "onnx-fp32"), "tpu")
