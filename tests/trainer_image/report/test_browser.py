"""The page in a real browser: Debian's Chromium, headless, without a way out.

Every test asks the browser anew. That its logs would show an error or a request is tested on a page that has both.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from cpt_trainer import report
from cpt_trainer.report.drawing import DARK, LIGHT
from trainer_image.report.study import files, make_study

pytestmark = pytest.mark.processes

_BY_THE_BROWSER_ITSELF = "not an origin"
_DARK = "--blink-settings=preferredColorScheme=0"


@dataclass(frozen=True)
class Seen:
    """What the browser said about a page."""

    dom: str
    errors: list[str]
    requests: set[str]
    """Beyond the machine; the browser's own, such as for its updates, left out."""


def browse(page: Path, *flags: str) -> Seen:
    """Open it."""
    chromium = shutil.which("chromium")
    assert chromium, "this test needs Debian's chromium: apt-get install chromium"
    profile = page.parent / "profile"
    log = page.parent / "net.json"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server",
               "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--enable-logging=stderr",
               f"--log-net-log={log}", "--hide-scrollbars", "--window-size=1100,4600", *flags,
               page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    events = [event.get("params") or {} for event in json.loads(log.read_text())["events"]]
    asked = {
        event["url"] for event in events if event.get("initiator", _BY_THE_BROWSER_ITSELF) != _BY_THE_BROWSER_ITSELF
    }
    return Seen(
        dom=done.stdout,
        errors=[line for line in done.stderr.splitlines() if "CONSOLE" in line],
        requests={url for url in asked if url.startswith(("http", "ws"))},
    )


def shares(page: Path, colours: dict[str, str], *flags: str) -> dict[str, float]:
    """Of the pixels of a picture of the page, by the name of a colour."""
    picture = page.parent / "picture.png"
    browse(page, f"--screenshot={picture}", *flags)
    pixels = np.rint(imread(str(picture))[:, :, :3] * 255).astype(int)
    wanted = {name: [int(value[at : at + 2], 16) for at in (1, 3, 5)] for name, value in colours.items()}
    return {name: float((pixels == rgb).all(axis=2).mean()) for name, rgb in wanted.items()}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A report's page in a folder."""
    trial = make_study(tmp_path / "store")
    report.run(trial)
    path = tmp_path / "report.html"
    path.write_bytes(files(trial)["report.html"])
    return path


def test_opens_without_an_error_or_a_request(page: Path) -> None:
    """All of it is there, and nothing was asked of anybody."""
    seen = browse(page, "--dump-dom")
    assert seen.dom.count("<svg") == 9
    assert "Which learning rate" in seen.dom
    assert (seen.errors, seen.requests) == ([], set())


def test_an_error_or_a_request_would_be_seen(page: Path) -> None:
    """What the test before finds nothing of, on the same page without its policy."""
    bad = '<img src="http://outside.test/x.png"><script>nonsense(</script></body>'
    text = re.sub("<meta http-equiv[^>]*>", "", page.read_text()).replace("</body>", bad)
    page.write_text(text)
    seen = browse(page, "--dump-dom")
    assert seen.requests == {"http://outside.test/x.png"}
    assert any("SyntaxError" in error for error in seen.errors)


def test_policy_stops_what_should_not_be_there(page: Path) -> None:
    """Whatever got onto the page: the browser runs and fetches nothing."""
    page.write_text(page.read_text().replace("</body>", '<img src="http://outside.test/x.png"></body>'))
    assert browse(page, "--dump-dom").requests == set()


@pytest.mark.parametrize(
    ("colours", "other", "flags"), [(LIGHT, DARK, []), (DARK, LIGHT, [_DARK])], ids=["light", "dark"]
)
def test_light_and_dark(page: Path, colours: dict[str, str], other: dict[str, str], flags: list[str]) -> None:
    """Paper, ink and drawings have the colours of the mode that the reader prefers."""
    found, strange = shares(page, colours, *flags), shares(page, {"paper": other["paper"]}, *flags)
    assert found["paper"] > 0.8
    assert all(found[name] > 0 for name in ("ink", "muted", "line", "series-1", "series-2", "series-3"))
    assert strange["paper"] < 0.001


def test_print(page: Path) -> None:
    """On several sheets of paper, whatever the mode on the screen."""
    pdf = page.parent / "report.pdf"
    browse(page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", _DARK)
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
