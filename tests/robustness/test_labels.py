"""Labels and templates may be any text: probabilities that add up to one and the labels as typed, or a ValueError of one line."""

from __future__ import annotations

import csv
import json
import math

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from modeling_expclip.cli.main import main
from modeling_expclip.cli.words import _is_file_name
from modeling_expclip.media.table import FIXED_COLUMNS
from modeling_expclip.prompts import LABEL_SETS, PROMPT_SETS, build_prompts, check_labels
from tests.conftest import picture

ODD = (
    *(
        "\u05db\u05e2\u05e1",
        "\u0627\u0644\u0641\u0631\u062d",
        "\u202eanger\u202c",
        "e\u0301",
        "\u00e9",
        "a\u0300\u0316\u0301" * 30,
        "\u200b",
    ),
    *(
        "\U0001f600",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\ufeffanger",
        "\u7b11\u9854",
        "\0",
        "a\0b",
        "\x1b[31mred\x1b[0m",
        "line\nbreak",
    ),
    *(
        "{}",
        "{noun}",
        "{adjective}",
        "{0.__class__}",
        "{!r}",
        "{",
        "}",
        "{{}}",
        "100%",
        "%s",
        "%(x)s",
        "\\n",
        '"',
        "'",
        ";",
        "=1+1",
    ),
    *(
        "!?",
        "...",
        "very " * 100,
        "x" * 5000,
        "<|endoftext|>",
        "<|startoftext|>",
        "Anger",
        "anger",
        "anger ",
        " anger",
        "\ud800",
        "\udce9",
    ),
    *("scores", "box", "None", "NaN", "1e999", "anger\r", "a\tb", "\x85", "\u2028"),
)
# Also characters that no file can hold; what is made of them must not be a traceback either.
texts = st.one_of(
    st.sampled_from(ODD),
    st.text(max_size=30),
    st.text(st.characters(categories=["Cs", "Cc", "Mn", "So", "Co", "Lo"]), max_size=8),
)


def sound(label: str) -> bool:
    return bool(label.strip()) and not any("\ud800" <= character <= "\udfff" for character in label)


@given(st.lists(texts, max_size=6))
@example(["Anger", "anger", "anger "])
def test_labels_are_kept_as_typed_or_refused(labels):
    fine = bool(labels) and all(map(sound, labels)) and len(set(labels)) == len(labels)
    try:
        assert check_labels(labels) == labels and fine
    except ValueError as error:
        assert not fine and str(error).strip()
        str(error).encode()  # so that it can be printed
        return
    for name, templates in PROMPT_SETS.items():
        groups = build_prompts(labels, name)
        assert [len(group) for group in groups] == [len(templates)] * len(labels)
        assert all(label in prompt for label, group in zip(labels, groups) for prompt in group[:1])


@given(texts.filter(sound), texts.filter(sound))
def test_nothing_but_the_slots_of_a_template_is_replaced(label, text):
    assume("{" not in text and "}" not in text)
    (group,) = build_prompts([label], [f"{text}{{}}{text}", f"{{noun}}{text}{{adjective}}"])
    assume(label not in LABEL_SETS["mafw"])  # the paper's words have adjectives of their own
    assert group == [text + label + text, label + text + label]


@given(st.one_of(texts, st.text("{}!:.0_nounadjectiv", max_size=12)))
@example("{0.__class__.__init__.__globals__} {}")
@example("{:>999999999}")
@example("{} {nuon}")
def test_a_template_has_known_slots_only(template):
    try:
        ((prompt,),) = build_prompts(["LABEL"], [template])
    except ValueError as error:
        assert "template" in str(error)
        return
    assert (
        prompt == template.replace("{}", "LABEL").replace("{noun}", "LABEL").replace("{adjective}", "LABEL") != template
    )


@pytest.mark.parametrize(
    ("labels", "prompts", "message"),
    [
        (5, "photo", "must be a list of strings, got 5"),
        (None, "photo", "must be a list of strings, got None"),
        ([None], "photo", "got None"),
        ([b"anger"], "photo", "got b'anger'"),
        ([["anger"]], "photo", r"got \['anger'\]"),
        (["a\ud800"], "photo", "lone surrogate"),
        (["a"], 5, "name of a prompt set or a list of templates, got 5"),
        (["a"], [None], "a template must be a string .* got None"),
        (["a"], [["a {}"]], "a template must be a string"),
        (["a"], ["{} \udce9"], "template .* lone surrogate"),
        (["a"], ["a {} {nuon}"], r"knows no {nuon}; write {}, {noun} or {adjective}"),
        (["a"], ["{!r}"], r"knows no {!r}"),
        (["a"], ["{0.__class__}"], r"knows no {0.__class__}"),
    ],
)
def test_wrong_kinds_are_named(recognise, labels, prompts, message):
    with pytest.raises(ValueError, match=message):
        build_prompts(labels, prompts)
    if labels is not None:  # None asks the pipeline for its own
        with pytest.raises(ValueError, match=message):
            recognise(picture(), candidate_labels=labels, prompts=prompts)


@settings(max_examples=25)
@given(st.lists(texts.filter(sound), min_size=1, max_size=5, unique=True), st.sampled_from(["class_name", "ensemble5"]))
def test_the_pipeline_answers_for_any_label(recognise, labels, prompts):
    answer = recognise(picture(), candidate_labels=labels, prompts=prompts)
    assert sorted(entry["label"] for entry in answer) == sorted(labels)
    assert all(0 <= entry["score"] <= 1 for entry in answer)
    assert math.fsum(entry["score"] for entry in answer) == pytest.approx(1, abs=1e-5)


def test_thousands_of_labels(recognise):
    labels = [f"label {number}" for number in range(3000)]
    answer = recognise(picture(), candidate_labels=labels, prompts="class_name")
    assert {entry["label"] for entry in answer} == set(labels)
    assert math.fsum(entry["score"] for entry in answer) == pytest.approx(1, abs=1e-4)
    assert check_labels(map(str, range(200_000)))[-1] == "199999"  # in no time
    with pytest.raises(ValueError, match="more than once: label 7"):
        check_labels([*labels, "label 7"])


def read(path, labels) -> list[float]:
    """The probabilities of the one row of an output file, which holds exactly these labels."""
    if path.suffix == ".json":
        (row,) = json.loads(path.read_text(encoding="utf-8"))
        assert list(row["scores"]) == labels and row["label"] in labels
        return list(row["scores"].values())
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    else:
        (row,) = pq.read_table(path).to_pylist()
    assert [name for name in row if name not in FIXED_COLUMNS] == labels and row["label"] in labels
    return [float(row[label]) for label in labels]


@pytest.fixture(scope="module")
def small_face(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "face.png"
    picture().save(path)
    return path


@pytest.fixture
def classify(checkpoint, small_face, tmp_path, capsys, monkeypatch, recognise):
    """The command with labels and an output file, on one face; its exit code and what it printed."""
    # The checkpoint is loaded once, and not for every example.
    parts = (
        recognise.model,
        type("Parts", (), {"tokenizer": recognise.tokenizer, "image_processor": recognise.image_processor}),
    )
    monkeypatch.setattr("modeling_expclip.media.analyzer.load_checkpoint", lambda folder: parts)

    def run(labels: str, output) -> tuple[int, str, str]:
        output.unlink(missing_ok=True)
        arguments = [
            "--model",
            str(checkpoint),
            "--prompts",
            "class_name",
            f"--labels={labels}",
            "--output",
            str(output),
        ]
        code = main(["classify", str(small_face), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
@settings(max_examples=25)
@given(st.lists(texts.filter(lambda text: "," not in text), min_size=1, max_size=4))
@example(["a\0b", "\U0001f600", "%s"])
@example(["anger", "Anger", "path"])
@example(["time"])
@example(["\udce9"])
def test_the_command_writes_what_was_typed_or_says_no(classify, tmp_path, ending, labels):
    assume(not _is_file_name(",".join(labels)))  # see test_cli
    output = tmp_path / f"out{ending}"
    code, out, err = classify(",".join(labels), output)
    typed = [label.strip() for label in labels]
    if code == 2:
        assert not all(map(sound, typed)) or len(set(typed)) < len(typed) or {*typed} & {*FIXED_COLUMNS}
        assert len(err.strip("\n").split("\n")) == 1 and err.startswith("expclip classify: ") and not output.exists()
        return
    assert code == 0
    assert sum(read(output, typed)) == pytest.approx(1, abs=1e-5)
    assert "\x1b" not in out and "\0" not in out and len(out.split("\n")) == 4, "a title, a row, what was written"


def test_thousands_of_labels_on_the_command_line(classify, tmp_path):
    labels = [f"label {number}" for number in range(1500)]
    for ending in (".csv", ".json", ".parquet"):
        code, *_ = classify(",".join(labels), tmp_path / f"out{ending}")
        assert code == 0 and sum(read(tmp_path / f"out{ending}", labels)) == pytest.approx(1, abs=1e-4)
