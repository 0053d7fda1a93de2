"""The one seam to a cluster: kubectl as a program.

kubectl = Kubectl(("--context", "prod"), namespace="team")
kubectl.get("cptexperiments", "sweep")              an object; MissingError when it is not there
for experiment in kubectl.watch("cptexperiments", "sweep"): ...
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubectl_cpt.errors import CliError

Object = Mapping[str, Any]
EXPERIMENTS = "cptexperiments.cpt.dev"
TRIALS = "cpttrials.cpt.dev"


class ClusterError(CliError):
    """The API server, or kubectl, says no."""


class MissingError(ClusterError):
    """There is no such object."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """With the flags that every call gets."""

    flags: Sequence[str] = ()

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        """What it prints. Raises ClusterError with what to do."""
        try:
            done = subprocess.run(self._command(arguments), check=False, capture_output=True, text=True, input=text)
        except FileNotFoundError as error:
            raise ClusterError(
                "kubectl is not on the PATH: install it, or call this program as `kubectl cpt`"
            ) from error
        if done.returncode:
            raise _meaning(done.stderr.strip())
        return done.stdout

    def namespace(self) -> str:
        """Of the context: where objects go that do not say."""
        return self("config", "view", "--minify", "--output=jsonpath={..namespace}").strip() or "default"

    def get(self, kind: str, name: str, *flags: str) -> Object:
        """One object."""
        found: Object = json.loads(self("get", kind, name, "--output=json", *flags))
        return found

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """All objects of the namespace, or those with certain labels."""
        return list(json.loads(self("get", kind, f"--selector={selector}", "--output=json"))["items"])

    def patch(self, kind: str, name: str, patch: Object) -> None:
        """A merge patch."""
        self("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}")

    def watch(self, kind: str, name: str = "", selector: str = "") -> Iterator[Object]:
        """What is there, then every change; ends when the API server ends it, or when the caller stops."""
        names = [name] if name else [f"--selector={selector}"]
        arguments = ("get", kind, *names, "--watch", "--output=json")
        with subprocess.Popen(
            self._command(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield from _objects(process.stdout)
                if process.wait():
                    raise _meaning(process.stderr.read().strip())
            finally:
                process.terminate()

    def follow(self, *arguments: str) -> int:
        """Let kubectl write to our own output; its exit code."""
        return subprocess.run(self._command(arguments), check=False).returncode

    def _command(self, arguments: Sequence[str]) -> Sequence[str]:
        return ("kubectl", *self.flags, *arguments)


def _objects(lines: Iterator[str]) -> Iterator[Object]:
    """kubectl prints one indented object after another; only the last line of each begins with a brace."""
    text: list[str] = []
    for line in lines:
        text.append(line)
        if line.rstrip("\n") == "}":
            yield json.loads("".join(text))
            text.clear()


def _meaning(message: str) -> ClusterError:
    """kubectl's words, and what to do."""
    text = message.removeprefix("Error from server (NotFound): ").removeprefix("error: ")
    if "NotFound" in message:
        return MissingError(text)
    if "doesn't have a resource type" in message:
        return ClusterError(f"{text}: the kinds of cpt.dev are not installed there; install the chart first")
    if "Forbidden" in message:
        return ClusterError(f"{text}: ask the administrator for the chart's editor role in this namespace")
    if "refused" in message or "no such host" in message or "Unable to connect" in message:
        return ClusterError(f"{text}: is this the right context? See `kubectl config current-context`")
    return ClusterError(text or "kubectl failed without a word")
