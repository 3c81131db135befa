"""The page of results holds what it was made from, and every figure of README, model card and the other pages."""

from __future__ import annotations

import pytest

from tests.evidence import MEASURED, PAGE, ROOT, figures, missing, page, read

# Numbers that nobody measured, or a table row's of them.
GIVEN: dict[str, dict[str, str]] = {
    **{f"docs/{page.name}": {} for page in PAGE.parent.glob("*.md") if page != PAGE},
    "README.md": {"3.10": "Python", "5.6": "transformers", "0.1": "a version"},
    "model_card.md": {"14.3": "chance among seven", "50": "chance among two", "95": "the level of intervals"},
    "docs/evaluate.md": {
        "95": "the level of intervals",
        "2 0 1": "what a divergence lies between",
        "15": "bins",
        "5.23": "transformers",
        "5.20": "transformers",
    },
    "docs/labels-and-prompts.md": {"95": "the level of intervals"},
    "docs/scale.md": {"16 256": "default batch sizes"},
}


def test_the_page_is_made_from_the_files():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.evidence`"


@pytest.mark.parametrize("name", GIVEN)
def test_every_figure_is_on_the_page(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not missing(text, PAGE.read_text(encoding="utf-8"), GIVEN[name]), f"a file in {MEASURED} should have them"


def test_what_counts_as_a_figure():
    text = "# 9.9\nWAR 54.5 % of 3,538 faces, 7 labels, 20 %, `1.5`, [x](a/2.5), version 1.2.3, ViT-4.4\n\n| a 3 | 4.25 (1.0 to -2) |\n\n    8.8\n"
    assert figures(text) == [("54.5",), ("20",), ("3", "4.25", "1.0", "2")]


def test_a_figure_that_nobody_measured_is_found():
    page = "| mini | 54.5 | 53.5 | 61.5 |\n| other | 50.2 | 8 |\n"
    assert not missing("| mine | 53.5 | 61.5 |\n\nIt reaches 50.2 %, chance is 14.3.\n", page, ["14.3"])
    assert missing("| mine | 54.5 | 61.5 |\n\n| a | 61.5 | 50.2 |\n\nIt reaches 50.3 %.\n", page, []) == [
        "54.5 61.5",
        "61.5 50.2",
        "50.3",
    ]


def test_a_file_says_where_its_figures_come_from(tmp_path):
    file = tmp_path / "x.md"
    file.write_text("---\ntitle: T\ncommand: c\n---\n| 1 |\n")
    with pytest.raises(ValueError, match="data, version, machine, date missing"):
        read(file)
    file.write_text("| 1 |\n")
    with pytest.raises(ValueError, match="has a title"):
        read(file)
    file.write_text("---\ntitle: T\nsource: a paper\n---\n| 1 |\n")
    assert read(file).text == "| 1 |"
