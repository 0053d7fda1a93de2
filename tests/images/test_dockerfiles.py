"""Both images: what their Dockerfiles may do, which packages they hold, and that one really builds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer_image.kit import Lab

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGES = {"operator": ROOT / "operator/Dockerfile", "trainer": ROOT / "trainer_image/Dockerfile"}
INSTRUCTIONS = frozenset(
    {"ARG", "FROM", "LABEL", "ENV", "COPY", "RUN", "USER", "EXPOSE", "WORKDIR", "ENTRYPOINT", "CMD"}
)
"""Not ADD, which fetches and unpacks; not VOLUME, which a read-only root does not want; not HEALTHCHECK: probes are."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, continuation lines joined."""

    word: str
    text: str


def instructions(path: Path) -> list[Instruction]:
    """The Dockerfile without comments."""
    lines = (line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def requirements(path: Path) -> Mapping[str, tuple[str, frozenset[str]]]:
    """Version and hashes by name, from what pip-compile wrote."""
    pins = re.findall(r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", path.read_text(), flags=re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"--hash=(\S+)", hashes))) for name, version, hashes in pins}


def names_of(extra: str) -> Iterator[str]:
    """What the distribution and its extra ask for by themselves."""
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]:
        yield re.split(r"[\[<>=!~ ]", line, maxsplit=1)[0].lower()


@pytest.fixture(params=IMAGES)
def dockerfile(request: pytest.FixtureRequest) -> list[Instruction]:
    """Each of the two."""
    return instructions(IMAGES[request.param])


def texts(dockerfile: list[Instruction], word: str) -> list[str]:
    return [i.text for i in dockerfile if i.word == word]


class TestDockerfiles:
    def test_instructions(self, dockerfile: list[Instruction]) -> None:
        """Nothing but the plain instructions is used."""
        assert {i.word for i in dockerfile} <= INSTRUCTIONS

    def test_base_is_an_argument(self, dockerfile: list[Instruction]) -> None:
        """Who builds says from where: the default names no registry, and no tag that moves at will."""
        (default,) = [text.removeprefix("BASE=") for text in texts(dockerfile, "ARG") if text.startswith("BASE=")]
        assert re.fullmatch(r"[a-z]+:[0-9.]+-slim", default)
        assert {text.split()[0] for text in texts(dockerfile, "FROM")} == {"${BASE}"}

    def test_user_is_a_number(self, dockerfile: list[Instruction]) -> None:
        """A kubelet can see that the user is not root only if it is a number; pods are given the same one."""
        assert texts(dockerfile, "USER") == ["65532:65532"]

    def test_program_gets_signals(self, dockerfile: list[Instruction]) -> None:
        """No shell stands between the kubelet and the program."""
        (entry,) = texts(dockerfile, "ENTRYPOINT")
        assert json.loads(entry)[0] == "python3"

    def test_every_package_is_checked(self, dockerfile: list[Instruction]) -> None:
        """pip installs nothing whose hash is not written down."""
        installs = [text for text in texts(dockerfile, "RUN") if "pip install" in text]
        assert installs
        assert all("--require-hashes" in text and "--no-deps" in text for text in installs)

    def test_sources_exist(self, dockerfile: list[Instruction]) -> None:
        """Every file that is copied is in the repository."""
        copies = [shlex.split(text) for text in texts(dockerfile, "COPY") if "--from=" not in text]
        missing = [source for *sources, _ in copies for source in sources if not (ROOT / source).exists()]
        assert missing == []

    def test_one_version(self, dockerfile: list[Instruction]) -> None:
        """The image, the distribution and the chart have one version."""
        (version,) = [text.removeprefix("VERSION=") for text in texts(dockerfile, "ARG") if text.startswith("VERSION=")]
        chart = yaml.safe_load((ROOT / "helm/Chart.yaml").read_text())
        assert version == PROJECT["version"] == chart["appVersion"] == chart["version"]


class TestRequirements:
    @pytest.mark.parametrize(("extra", "folder"), [("operator", "operator"), ("trainer", "trainer_image")])
    def test_pins_are_the_tested_ones(self, extra: str, folder: str) -> None:
        """An image holds what the tests ran with: what the extra asks for is there, and every pin is the common one."""
        pins, tested = requirements(ROOT / folder / "requirements.txt"), requirements(ROOT / "constraints.txt")
        assert set(names_of(extra)) <= set(pins), "run `make constraints`"
        assert {name: pin for name, pin in pins.items() if tested[name] != pin} == {}, "run `make constraints`"

    @pytest.mark.parametrize(("image", "folder"), [("operator", "operator"), ("trainer", "trainer_image")])
    def test_nothing_pinned_is_removed(self, image: str, folder: str) -> None:
        """What a build takes out again of its environment is nothing that was asked for."""
        uninstall = re.compile(r"pip uninstall --yes ([a-z ]+?) *(?:&&|$)")
        found = [each for text in texts(instructions(IMAGES[image]), "RUN") for each in uninstall.findall(text)]
        removed = " ".join(found).split()
        assert "pip" in removed
        assert not set(removed) & set(requirements(ROOT / folder / "requirements.txt"))

    def test_operator_is_small(self) -> None:
        """No framework reaches the control plane."""
        assert not {"torch", "numpy", "transformers", "pyarrow"} & set(requirements(ROOT / "operator/requirements.txt"))


@dataclass(frozen=True)
class Builder:
    """Images in a folder."""

    folder: Path

    @property
    def buildah(self) -> list[str]:
        """Where its images are."""
        places = (f"--root={self.folder / 'store'}", f"--runroot={self.folder / 'run'}")
        return ["buildah", "--storage-driver=vfs", *places]

    @property
    def shared(self) -> Path:
        """What is seen inside, as /mnt."""
        return self.folder / "shared"

    def build(self, *what: str) -> None:
        """With the machine's certificates: its way to the package index may be its own."""
        isolated = ("--isolation=chroot", "--network=host", "--volume=/etc/ssl/certs:/etc/ssl/certs:ro")
        run(*self.buildah, "bud", *isolated, *what)

    def image(self, name: str) -> list[str]:
        """Build one on a plain Debian; what a command inside begins with."""
        base = self.folder / "base"
        base.mkdir()
        run("mmdebstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm",
            str(base / "base.tar"))  # fmt: skip
        (base / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        self.build("--tag=base:1", str(base))
        self.build("--build-arg=BASE=localhost/base:1", f"--file={IMAGES[name]}", f"--tag={name}:1", str(ROOT))
        container = run(*self.buildah, "from", f"localhost/{name}:1").strip()
        return [*self.buildah, "run", "--isolation=chroot", f"--volume={self.shared}:/mnt", container, "--"]


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    """Its images are large."""
    made = Builder(tmp_path)
    made.shared.mkdir()
    yield made
    run(*made.buildah, "rm", "--all")
    run(*made.buildah, "rmi", "--all", "--force")


VERSION = "import importlib.metadata as m; print(m.version('cpt-experiments'))"


class TestBuild:
    @pytest.mark.e2e
    def test_operator_image(self, builder: Builder) -> None:
        """It builds on a plain Debian, and its program starts as another user than root."""
        inside = builder.image("operator")
        assert run(*inside, "id", "-u").strip() == "65532"
        assert "--config" in run(*inside, "python3", "-m", "cpt_operator", "--help")
        assert run(*inside, "python3", "-c", VERSION).strip() == PROJECT["version"]

    @pytest.mark.slow
    @pytest.mark.timeout(3600)
    def test_trainer_image(self, builder: Builder) -> None:
        """So does the trainer's; in it a model is trained, and scored, and torch.compile has its compiler."""
        lab = Lab(builder.shared)
        data = lab.dataset("python")
        training = lab.train({data: "1"}, 2)
        inside = builder.image("trainer")
        assert run(*inside, "id", "-u").strip() == "65532"
        assert run(*inside, "python3", "-c", VERSION).strip() == PROJECT["version"]
        assert "gcc" in run(*inside, "gcc", "--version")
        for trial in (training, lab.evaluate([data], segment={"digest": training.digest})):
            verb, _, file, *_ = lab.command(trial)[3:]
            run("chmod", "-R", "a+rwX", str(builder.shared))
            place = ("--trial", f"/mnt/{Path(file).name}", "--store", "/mnt/store")
            run(*inside, "env", "CPT_SOURCES=/mnt/sources", "python3", "-m", "cpt_trainer", verb, *place)
            assert lab.result(trial).attempt == 1


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
