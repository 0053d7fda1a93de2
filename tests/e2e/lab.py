"""What the tests on a real node share: kubectl, the store as its administrator, small texts, and hand-written trials.

    lab.apply(trial("warm", {"type": "Train", "train": ...}))
    lab.wait("cptt/warm", "Succeeded")             a watch, not a sleep

Everything goes through `kubectl`, as a user's does.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cpt_api.layout import data_prefix, result_key
from cpt_api.result import Result
from cpt_api.values import Digest
from cpt_local import s3
from cpt_local.cluster import Cluster

Manifest = dict[str, Any]
VOCABULARY = 512
SEQUENCE, BATCH = 64, 4
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
    "bos_token_id": None, "eos_token_id": 0, "torch_dtype": "float32",
}  # fmt: skip


@dataclass(frozen=True)
class Lab:
    """One namespace of the cluster."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in this namespace; its complaint is the error."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl in this namespace, and see what it says."""
        return subprocess.run([*self._kubectl, *arguments], input=stdin, check=False, capture_output=True, text=True)

    @property
    def _kubectl(self) -> list[str]:
        kubectl, config = self.cluster.program("kubectl"), self.cluster.kubeconfig
        return [kubectl, f"--kubeconfig={config}", f"--namespace={self.namespace}"]

    def apply(self, *manifests: Manifest) -> str:
        """Apply them on the server's side."""
        # not YAML: PyYAML writes the string 1e-3 without quotes, and kubectl would read a number
        items = {"apiVersion": "v1", "kind": "List", "items": manifests}
        return self.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(items))

    def get(self, what: str) -> Manifest:
        """One object, or a list of them."""
        found: Manifest = json.loads(self.kubectl("get", what, "--output=json"))
        return found

    def wait(self, what: str, condition: str, status: str = "True", seconds: int = 120) -> Manifest:
        """Until a condition has that status."""
        self.kubectl("wait", what, f"--for=condition={condition}={status}", f"--timeout={seconds}s")
        return self.get(what)

    def wait_reason(self, what: str, reason: str, condition: str = "Succeeded", seconds: int = 60) -> str:
        """Until a condition has that reason; its message."""
        path = f'{{.status.conditions[?(@.type=="{condition}")].reason}}'
        done = self.try_kubectl("wait", what, f"--for=jsonpath={path}={reason}", f"--timeout={seconds}s")
        found = conditions(self.get(what)).get(condition, {})
        assert done.returncode == 0, f"{what} has {found}, expected {reason} within {seconds} s"
        return str(found["message"])

    def wait_until(self, what: str, holds: Callable[[Manifest], bool], seconds: int = 60) -> Manifest:
        """Watch an object until something holds for it."""
        last: Manifest = {}
        with self.watch("get", what, "--watch", "--output=json", f"--request-timeout={seconds}s") as lines:
            for last in documents(lines):
                if holds(last):
                    return last
        raise AssertionError(f"{what} is not as expected after {seconds} s: {json.dumps(last.get('status'), indent=1)}")

    @contextmanager
    def watch(self, *arguments: str) -> Iterator[Iterator[str]]:
        """The lines of a kubectl that does not end by itself."""
        with subprocess.Popen([*self._kubectl, *arguments], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            try:
                yield process.stdout
            finally:
                process.kill()

    def trials_of(self, experiment: str) -> list[Manifest]:
        """Its children."""
        return self.get_all("cptt", f"cpt.dev/experiment={experiment}")

    def get_all(self, kind: str, selector: str) -> list[Manifest]:
        """Objects by label."""
        found: Manifest = json.loads(self.kubectl("get", kind, f"--selector={selector}", "--output=json"))
        items: list[Manifest] = found["items"]
        return items

    def events(self, name: str) -> list[str]:
        """`reason: message` of the events about an object."""
        items = json.loads(self.kubectl("get", "events", f"--field-selector=involvedObject.name={name}", "-ojson"))
        return [f"{item['reason']}: {item['message']}" for item in items["items"]]

    # --- the store -------------------------------------------------------------------------------------------------

    def put(self, key: str, text: str) -> str:
        """A source; its address."""
        full = f"sources/{self.namespace}/{key}"
        s3.client(self.cluster).put_object(Bucket=s3.BUCKET, Key=full, Body=text.encode())
        return f"s3://{s3.BUCKET}/{full}"

    def read(self, key: str) -> bytes:
        """One object of the store."""
        body: bytes = s3.client(self.cluster).get_object(Bucket=s3.BUCKET, Key=key)["Body"].read()
        return body

    def result(self, trial: str) -> Result:
        """What a trial committed."""
        digest = Digest.parse(self.get(f"cptt/{trial}")["status"]["digest"])
        return Result.model_validate_json(self.read(result_key(self.namespace, digest)))

    def losses(self, trial: str) -> dict[int, float]:
        """Loss by step over all attempts; a step that was done again counts as it was done last."""
        digest = Digest.parse(self.get(f"cptt/{trial}")["status"]["digest"])
        prefix = f"{data_prefix(self.namespace, digest)}metrics/"
        keys = [o["Key"] for o in s3.client(self.cluster).list_objects_v2(Bucket=s3.BUCKET, Prefix=prefix)["Contents"]]
        numbered = sorted(keys, key=lambda key: int(key.rpartition("attempt-")[2].partition(".")[0]))
        lines = [json.loads(line) for key in numbered for line in self.read(key).decode().splitlines()]
        return {line["step"]: line["loss"] for line in lines if "loss" in line}


def documents(stream: Iterator[str]) -> Iterator[Manifest]:
    """Objects of `kubectl get --watch --output=json`: pretty-printed, one after the other."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line == "}\n":
            yield json.loads("".join(lines))
            lines = []


def conditions(item: Mapping[str, Any]) -> dict[str, Manifest]:
    """By type."""
    return {condition["type"]: condition for condition in item.get("status", {}).get("conditions", ())}


def put_base(lab: Lab) -> str:
    """A tokenizer and a config without weights; their address."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts("base", 50), trainer)
    lab.put("base/tokenizer.json", tokenizer.to_str())
    lab.put("base/tokenizer_config.json", json.dumps({"eos_token": "<|end|>", "model_max_length": 256}))
    return lab.put("base/config.json", json.dumps(CONFIG)).removesuffix("/config.json")


def texts(name: str, count: int) -> list[str]:
    """Documents of made-up words, another vocabulary for every name; the same for everybody."""
    rng = random.Random(name)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))) for _ in range(120)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [" ".join(rng.choices(words, weights, k=150)) + "." for _ in range(count)]


def put_texts(lab: Lab, name: str, count: int = 400, words: str | None = None) -> str:
    """A dataset; its address."""
    lines = [json.dumps({"text": text}) for text in texts(words or name, count)]
    return lab.put(f"{name}.jsonl", "\n".join(lines) + "\n")


def trial(name: str, spec: Manifest) -> Manifest:
    """A hand-written trial."""
    return {"apiVersion": "cpt.dev/v1alpha1", "kind": "CPTTrial", "metadata": {"name": name}, "spec": spec}


def preparation(lab: Lab) -> list[Manifest]:
    """`inputs` and `words`: what every hand-written training needs."""
    inputs = [
        {"name": "config", "kind": "Tokenizer", "uri": put_base(lab)},
        {"name": "words", "kind": "Dataset", "uri": put_texts(lab, "words")},
    ]
    source = {"preflightName": "inputs", "input": "words"}
    tokenizer = {"source": {"preflightName": "inputs", "input": "config"}}
    return [
        trial("inputs", {"type": "Preflight", "preflight": {"inputs": inputs}}),
        trial("words", {"type": "Prepare", "prepare": {"source": source, "tokenizer": tokenizer}}),
    ]


def training(name: str, steps: int, *, salt: str | None = None, **run: Any) -> Manifest:
    """A small model from random weights; the salt makes an equal recipe another trial."""
    tokens = steps * SEQUENCE * BATCH
    work = {
        "start": {"random": {"config": {"preflightName": "inputs", "input": "config"}, "seed": 1}},
        "phases": [{"mixture": [{"dataset": {"trialName": "words"}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1e-3"},
        "stopTokens": str(tokens),
        "sequenceLength": SEQUENCE,
        "globalBatchSize": BATCH,
        "precision": "Float32",
    }
    spec: Manifest = {"type": "Train", "train": work, "run": run}
    return trial(name, spec | ({"salt": salt} if salt else {}))


def experiment(lab: Lab, name: str, rates: Sequence[str] = ("1e-2",), **changes: Any) -> Manifest:
    """One rate on two datasets whose base is the trial `base`; a sweep of several is in test_upgrades.py."""
    batch = SEQUENCE * BATCH
    spec: Manifest = {
        "model": {"trialName": "base"},
        "datasets": [{"name": n, "uri": put_texts(lab, n)} for n in ("helpful", "useless")],
        "replay": {"dataset": {"name": "general", "uri": put_texts(lab, "general", words="words")}},
        "evaluation": {
            "target": {
                "suite": "Heldout",
                "data": [{"name": "goal", "uri": put_texts(lab, "goal", 60, words="helpful")}],
                "minimumEffect": "0.05",
            },
            "retention": {
                "suite": "Heldout",
                "data": [{"name": "kept", "uri": put_texts(lab, "kept", 60, words="words")}],
                "margin": "0.5",
            },
        },
        "recipe": {"learningRateSweep": {"learningRates": list(rates), "rungs": [str(20 * batch)]}},
        "training": {"sequenceLength": SEQUENCE, "globalBatchSize": BATCH, "precision": "Float32", "replicates": 2},
        "scheduling": {"parallelTrials": 2},
    }
    return {
        "apiVersion": "cpt.dev/v1alpha1",
        "kind": "CPTExperiment",
        "metadata": {"name": name},
        "spec": spec | changes,
    }


def audit_entries(cluster: Cluster, user: str) -> Iterator[Manifest]:
    """What a user asked of the API server, and what came of it."""
    with cluster.audit_log.open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["user"]["username"] == user and entry["stage"] == "ResponseComplete":
                yield entry


def repository() -> Path:
    """Where the chart and the examples are."""
    return Path(__file__).parents[2]
