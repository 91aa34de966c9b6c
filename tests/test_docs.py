"""What the documents say: their code runs, every method and sampler is in them, and links lead somewhere."""

import re
from pathlib import Path

import pytest

from pdediff.cases.choices import METHODS, OPERATORS, SAMPLERS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_example_of_the_library_runs():
    """The code of docs/extend.md, as it stands, gives samples of three methods that agree in their spread to 15 %."""
    lines = (ROOT / "docs" / "extend.md").read_text().split("From Python, without a case file")[1].splitlines()
    names: dict = {}
    exec("\n".join(line[4:] for line in lines if line.startswith("    ") or not line), names)
    spreads = [float(names[key].std(dim=0).mean()) for key in ("flagship", "particles", "flow")]
    assert max(spreads) < 1.15 * min(spreads)


def test_every_name_of_the_grammar_is_documented():
    """Methods and samplers in docs/methods.md, kinds of operators in docs/data.md."""
    methods, data = ((ROOT / "docs" / f"{page}.md").read_text() for page in ("methods", "data"))
    assert [name for name in (*METHODS.available, *SAMPLERS.available) if f"`{name}`" not in methods] == []
    assert [name for name in OPERATORS.available if f"kind: {name}" not in data] == []


def test_every_method_of_the_page_is_whole():
    """Each entry of docs/methods.md says when to use it and when not, and names its file."""
    page = (ROOT / "docs" / "methods.md").read_text().replace("**", "*")
    entries = [entry for entry in re.split(r"(?m)^### ", page)[1:] if not entry.startswith("Samplers at a glance")]
    assert len(entries) > 20
    for entry in entries:
        for part in ("*Use it when*", "*Don't use it when*", ".py`"):
            assert part in entry, entry.splitlines()[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    """Relative links, and paths of our own files in backticks, lead to files."""
    text = page.read_text()
    assert re.findall(r"@[A-Z]+@|TODO", text) == []
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:pdediff|solvers|datasets|cases|tests|docs)/[\w./-]+\.(?:py|yaml|md|csv))`", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []
