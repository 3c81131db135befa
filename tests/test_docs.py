"""What the documents show is run as it stands and prints what they say, and what they say twice is the same twice."""

import contextlib
import csv
import io
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from modeling_expclip.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
PAPER = "Enhancing Zero-Shot Facial Expression Recognition by LLM Knowledge Transfer"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def version() -> str:
    return re.search(r'^version = "(.+)"', read("pyproject.toml"), re.MULTILINE)[1]


@pytest.mark.parametrize("name", [*PAGES, "model_card.md", "CONTRIBUTING.md"])
def test_python_blocks_run_and_print_what_the_text_block_below_says(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", read(name), re.DOTALL)
    assert len(blocks) == read(name).count("```python")
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), {})
        assert printed.getvalue() == shown


def test_the_readme_is_one_screen_of_text_and_leads_to_every_page():
    text = read("README.md")
    assert len(text.splitlines()) <= 120 and len(text.encode()) <= 8 * 1024
    assert [page for page in [*PAGES[1:], "docs/tour.ipynb"] if f"]({page})" not in text] == []


@pytest.mark.parametrize("name", [*PAGES, "model_card.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_lines_of_prose_are_short(name):
    text = re.sub(r"```.*?```", "", read(name), flags=re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 105 and not line.startswith(("|", "    "))]
    assert long == []


@pytest.mark.parametrize("name", [*PAGES, "model_card.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_to_files_and_headings_lead_somewhere(name):
    folder = (ROOT / name).parent
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", read(name)):
        assert not target or (folder / target).exists(), f"{name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (folder / target if target else ROOT / name).read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{name} links to #{anchor}"


def test_the_cards_metadata_is_the_hubs():
    data = ModelCard.load(ROOT / "model_card.md").data
    assert (data.library_name, data.license, data.language) == ("transformers", "mit", "en")
    assert data.pipeline_tag == "zero-shot-image-classification"
    assert data.metrics == ["accuracy", "recall"] and "facial-expression-recognition" in data.tags


@pytest.mark.parametrize(
    ("heading", "says"),
    [
        ("Intended use", "do not say what a person feels"),
        ("Out of scope", r"Article 5\(1\)\(f\)"),
        ("Training data and its terms", "did not consent"),
        ("Evaluation, measured here", r"python -m training\.mini\.score"),
        ("Evaluation, reported in the paper", "Not measured here, and not this model"),
        ("Bias, fairness and limits", "102 posed adults in one studio: not more than that"),
        ("Environmental cost", "An estimate, not a measurement"),
        ("Citation", "@inproceedings"),
    ],
)
def test_the_card_has_what_a_card_must_have(heading, says):
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", read("model_card.md"), re.MULTILINE | re.DOTALL))
    assert re.search(says, " ".join(sections[heading].split()))


def test_the_cards_reported_figures_are_the_papers():
    names = {"B/32": "b32", "B/16": "b16", "L/14": "l14"}
    with (ROOT / "training" / "evaluation" / "reported_results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"].startswith("paper table")]
    reported = {(row["model"], row["benchmark"]): f"{row['uar']} / {row['war']}" for row in rows}
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in read("model_card.md").splitlines()]
    (header,) = (cells for cells in table if cells and cells[0] == "reported in the paper")
    models = [cells for cells in table if cells and re.match(r"(Exp-CLIP on|CLIP) ViT", cells[0])]
    assert len(models) == 6 and len(header) == 9
    for model, *figures in models:
        name = ("exp-clip-" if model.startswith("Exp") else "clip-") + names[model[-4:]]
        assert figures == [reported[name, benchmark] for benchmark in header[1:]]


def test_the_card_and_the_readme_give_the_same_figures():
    rows = [
        line
        for line in read("README.md").splitlines()
        if re.match(r"\| (expclip-mini,|expclip-mini of|face-api|`fer`)", line)
    ]
    assert rows and set(rows) <= set(read("model_card.md").splitlines())


def test_the_changelog_knows_this_version_and_every_command(capsys):
    changelog = read("CHANGELOG.md")
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)[1] == version()
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert {"classify", "publish"} <= set(commands)
    assert [command for command in commands if f"expclip {command}" not in changelog] == []


def test_contributing_names_what_there_is():
    text = read("CONTRIBUTING.md")
    paths = [path for path in re.findall(r"`([\w./-]+(?:/|\.py|\.md|\.csv))`", text) if "NAME" not in path]
    assert len(paths) > 10 and [path for path in paths if not (ROOT / path).exists()] == []
    targets = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    assert targets and targets <= set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))
    code = "".join(read(path) for path in paths if path.endswith(".py"))
    words = set(re.findall(r"`(_?[A-Z][A-Z_]+|[A-Z]\w+\.\w+|_Adapter|Kind|build_prompts)`", text))
    assert {"TEACHERS", "_AUTO_TYPES", "LAYOUTS", "PROMPT_SETS", "TeacherRecipe.input_column"} <= words
    assert [word for word in words if not re.search(rf"\b{word.rpartition('.')[2]}\b", code)] == []


def test_citation_is_cff():
    citation = yaml.safe_load(read("CITATION.cff"))
    required, known = (
        {"cff-version", "message", "title", "authors"},
        {"type", "abstract", "version", "license", "keywords"},
    )
    assert required <= set(citation) <= required | known | {"preferred-citation"}
    assert citation["cff-version"] == "1.2.0" and str(citation["version"]) == version() and citation["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert (paper["type"], paper["title"], paper["year"]) == ("conference-paper", PAPER, 2025)
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    card = read("model_card.md").replace("{", "").replace("}", "")
    assert authors == "Zhao, Zengqun and Cao, Yu and Gong, Shaogang and Patras, Ioannis" and authors in card
    assert PAPER in card and set(paper["conference"]) == {"name"}


def test_the_papers_recipe_is_called_what_it_is():
    """Our targets carry no dropout, and the paper's run saw whole batches of 512 faces, 95 of them."""
    pages = [
        *PAGES,
        "model_card.md",
        *(f"training/recipes/{file.name}" for file in (ROOT / "training/recipes").glob("*")),
    ]
    for name in pages:
        text = read(name)
        assert "exactly the paper" not in text, name
        assert set(re.findall(r"\b48,?[56]\d\d\b", text)) <= {f"{95 * 512:,}"}, name
    for name in ["docs/train.md", *(page for page in pages if "/paper-" in page)]:
        assert "protocol" in read(name) and "clean targets" in read(name), name
