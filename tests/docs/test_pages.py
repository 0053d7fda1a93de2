"""Pages for people: their links lead somewhere, and the first example is the demo's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/README.md"), *(ROOT / "docs").rglob("*.md")])


def links(page: Path) -> list[str]:
    """Targets of Markdown links into this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """What a link's `#…` can mean: headings as GitHub names them, and explicit ones."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Every link leads to a file of the repository, and every fragment to a heading of it."""
    broken = []
    for target in links(page):
        path, _, fragment = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (fragment and fragment not in anchors(other)):
            broken.append(target)
    assert broken == []


def test_readme_shows_the_demo() -> None:
    """Who reads the README sees what `make demo` applies."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert yaml.safe_load(block) == yaml.safe_load((ROOT / "examples/demo/experiment.yaml").read_text())


def test_decisions_are_listed() -> None:
    """The index of decisions names every record, under its own title."""
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()
    for record in folder.glob("[0-9]*.md"):
        number, title = record.read_text().splitlines()[0].removeprefix("# ").split(": ", 1)
        assert f"| [{number}]({record.name}) | {title} |" in index
