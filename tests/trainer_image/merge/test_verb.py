"""`merge` as a function: what is written, what is evaluated without being written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from cpt_api.result import CheckpointRef
from cpt_api.values import Digest
from cpt_trainer import evaluate, merge, train
from cpt_trainer.errors import ConfigError, DataError, MissingError, SourceChangedError, TrainerExit
from cpt_trainer.manifest import read_checkpoint
from cpt_trainer.store import FaultyStore, Store
from cpt_trainer.trial import Trial
from cpt_trainer.weights import INDEX, open_weights
from trainer_image.kit import CONFIG, VOCABULARY, Lab

Tensors = dict[str, torch.Tensor]
BF16 = {"dtype": "bfloat16"}
HALVES = ("0.5", "0.5")


pytestmark = pytest.mark.usefixtures("one_thread_here")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty store."""
    return Lab(tmp_path)


def tensors(seed: int, dtype: torch.dtype = torch.float32, **changes: Any) -> Tensors:
    """Random weights of the kit's model, as transformers names them."""
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    torch.manual_seed(seed)
    lm = LlamaForCausalLM(LlamaConfig.from_dict(CONFIG | changes))
    return {name: tensor.to(dtype) for name, tensor in lm.state_dict().items() if name != "lm_head.weight"}


def inputs(*models: dict[str, Any], weights: tuple[str, ...] = HALVES) -> list[dict[str, Any]]:
    """Of a Merge trial."""
    return [{"model": model, "weight": weight} for model, weight in zip(models, weights, strict=True)]


def written(lab: Lab, trial: Trial) -> Tensors:
    """What any reader of safetensors finds."""
    from safetensors.torch import load_file

    files = (lab.folder / "store" / trial.data / "export").glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def same(one: Tensors, other: Tensors) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def end_of(lab: Lab, trial: Trial) -> Tensors:
    """The weights of a Train trial."""
    end = lab.result(trial).checkpoint
    assert isinstance(end, CheckpointRef)
    weights = read_checkpoint(lab.store, trial.data + end.manifest).tensors()
    return {name: torch.from_numpy(weights.read(name)) for name in weights.tensors}


class TestWritten:
    """A model in Hugging Face layout."""

    def test_linear(self, lab: Lab) -> None:
        """Three models: the formula's values in the base's type, with the base's config and tokenizer."""
        given = [tensors(seed, torch.bfloat16) for seed in range(3)]
        models = [lab.model(f"m{n}", weights, **BF16) for n, weights in enumerate(given)]
        trial = lab.merge(*inputs(*models, weights=("0.5", "0.25", "2")))
        merge.run(trial)
        a, b, c = given
        want = {n: ((a[n].float() * 0.5 + b[n].float() * 0.25 + c[n].float() * 2) / 2.75).bfloat16() for n in a}
        assert same(written(lab, trial), want)
        for name in ("config.json", "tokenizer.json"):
            original = (lab.folder / "sources/m0" / name).read_bytes()
            assert lab.store.get(f"{trial.data}export/{name}") == original

    def test_types_of_the_base(self, lab: Lab) -> None:
        """Each tensor has the base's type, whatever the inputs have."""
        base, other = tensors(1, torch.float16), tensors(2)
        base["model.norm.weight"] = base["model.norm.weight"].float()
        trial = lab.merge(*inputs(lab.model("base", base), lab.model("other", other)))
        merge.run(trial)
        assert {n: t.dtype for n, t in written(lab, trial).items()} == {n: t.dtype for n, t in base.items()}

    def test_shards(self, lab: Lab) -> None:
        """Several files hold what one would, and transformers loads them."""
        from transformers.models.llama.modeling_llama import LlamaForCausalLM

        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        one, many = lab.merge(*inputs(*models)), lab.merge(*inputs(*models), base=models[0])
        merge.run(one)
        merge.run(many, shard_bytes=10_000)
        files = [output.key for output in lab.result(many).outputs if output.key.endswith(".safetensors")]
        assert len(files) > 3
        assert same(written(lab, many), written(lab, one))
        lm = LlamaForCausalLM.from_pretrained(lab.folder / "store" / many.data / "export")
        assert all(torch.equal(lm.state_dict()[name], tensor) for name, tensor in written(lab, one).items())

    def test_index(self, lab: Lab) -> None:
        """It names every tensor's file, and their size without headers."""
        trial = lab.merge({"model": lab.model("m", tensors(1)), "weight": "1"})
        merge.run(trial)
        index = json.loads(lab.store.get(f"{trial.data}export/{INDEX}"))
        assert index["weight_map"].keys() == tensors(1).keys()
        assert index["metadata"]["total_size"] == sum(tensor.numel() * 4 for tensor in tensors(1).values())

    def test_result(self, lab: Lab) -> None:
        """The outputs with their digests, the inputs by digest, the model at the root, and how much it was."""
        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        trial = lab.merge(*inputs(*models))
        merge.run(trial)
        result = lab.result(trial)
        digests = [model["source"]["digest"] for model in models]
        assert result.inputs == tuple(sorted(digests))
        assert result.origin == digests[0]
        assert result.numbers["parameters"] == sum(tensor.numel() for tensor in tensors(0).values())
        assert {output.key for output in result.outputs} == {
            "export/config.json",
            "export/tokenizer.json",
            "export/model-00001-of-00001.safetensors",
            f"export/{INDEX}",
        }
        for output in result.outputs:
            assert lab.store.stat(trial.data + output.key).size == output.bytes

    def test_tied_copy(self, lab: Lab) -> None:
        """A head that is a copy of the embedding stays one, where the base has it; a run's end need not have it."""
        plain, copied = tensors(1), tensors(2)
        copied["lm_head.weight"] = copied["model.embed_tokens.weight"].clone()
        with_copy, without = lab.model("copied", copied), lab.model("plain", plain)
        first, second = lab.merge(*inputs(with_copy, without)), lab.merge(*inputs(without, with_copy))
        merge.run(first)
        merge.run(second)
        found = written(lab, first)
        assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
        assert "lm_head.weight" not in written(lab, second)

    def test_untied(self, lab: Lab) -> None:
        """A head of its own is a tensor like any other."""
        given = [tensors(n) | {"lm_head.weight": torch.full((VOCABULARY, 32), float(n))} for n in range(2)]
        models = [lab.model(f"m{n}", weights, tie_word_embeddings=False) for n, weights in enumerate(given)]
        trial = lab.merge(*inputs(*models))
        merge.run(trial)
        assert set(written(lab, trial)["lm_head.weight"].ravel().tolist()) == {0.5}

    def test_frequencies(self, lab: Lab) -> None:
        """RoPE's frequencies, which old files hold, are nobody's weights."""
        old = tensors(1) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
        trial = lab.merge(*inputs(lab.model("old", old), lab.model("new", tensors(2))))
        merge.run(trial)
        assert written(lab, trial).keys() == tensors(1).keys()


class TestRuns:
    """Ends of Train trials, and what comes after."""

    @pytest.fixture
    def data(self, lab: Lab) -> Digest:
        """A dataset."""
        return lab.dataset("python")

    @pytest.fixture
    def base(self, lab: Lab, data: Digest) -> Trial:
        """A model that was trained here."""
        trial = lab.train({data: "1"}, 2)
        train.run(trial)
        return trial

    def continued(self, lab: Lab, base: Trial, data: Digest, **changes: Any) -> Trial:
        """Training that goes on from there."""
        trial = lab.train({data: "1"}, 2, start={"model": {"trial": {"digest": base.digest}}}, **changes)
        train.run(trial)
        return trial

    def soup(self, lab: Lab, base: Trial, end: Trial, **changes: Any) -> Trial:
        """Half and half."""
        model = {"model": {"trial": {"digest": base.digest}}, "weight": "0.5"}
        return lab.merge(model, {"segment": {"digest": end.digest}, "weight": "0.5"}, **changes)

    def test_soup(self, lab: Lab, base: Trial, data: Digest) -> None:
        """Half of the base and half of a run's end."""
        end = self.continued(lab, base, data)
        soup = self.soup(lab, base, end)
        merge.run(soup)
        a, b = end_of(lab, base), end_of(lab, end)
        assert same(written(lab, soup), {name: (a[name] * 0.5 + b[name] * 0.5) / 1.0 for name in a})
        origins = {lab.result(trial).origin for trial in (base, end, soup)}
        assert len(origins) == 1
        assert None not in origins

    def test_one_end_alone(self, lab: Lab, base: Trial, data: Digest) -> None:
        """A merge of one is how a run's end becomes a model that others read."""
        end = self.continued(lab, base, data)
        trial = lab.merge({"segment": {"digest": end.digest}, "weight": "1"})
        merge.run(trial)
        assert same(written(lab, trial), end_of(lab, end))

    def test_evaluated_without_being_written(self, lab: Lab, base: Trial, data: Digest) -> None:
        """Its table is that of the written model, byte for byte."""
        soup = self.soup(lab, base, self.continued(lab, base, data))
        merge.run(soup)
        work = soup.spec.merge
        assert work is not None
        tables = []
        for what in ({"model": {"trial": {"digest": soup.digest}}}, {"merge": work.to_dict()}):
            trial = lab.evaluate([data], **what)
            evaluate.run(trial)
            tables.append(lab.store.get(trial.data + lab.result(trial).held_out[0].table))
        assert tables[0] == tables[1]

    def test_trained_from(self, lab: Lab, base: Trial, data: Digest) -> None:
        """Training from a merge starts afresh from its weights, and has the same root."""
        soup = self.soup(lab, base, self.continued(lab, base, data))
        merge.run(soup)
        trial = self.continued(lab, soup, data)
        assert lab.result(trial).origin == lab.result(base).origin

    def test_other_base(self, lab: Lab, base: Trial, data: Digest) -> None:
        """Two runs from different random starts have no mean, though all shapes agree."""
        work = base.spec.train
        assert work is not None and work.start.random is not None
        start = {"random": work.start.random.to_dict() | {"seed": 4}}
        other = lab.train({data: "1"}, 2, start=start)
        train.run(other)
        trial = lab.merge(*({"segment": {"digest": one.digest}, "weight": "1"} for one in (base, other)))
        with pytest.raises(
            DataError, match=r"inputs\[0\] comes from the model .*, inputs\[1\] from .* different bases"
        ):
            merge.run(trial)

    def test_other_base_of_files(self, lab: Lab, base: Trial, data: Digest) -> None:
        """A run's end is mixed only with the model that it came from; other files are known by who names them."""
        stranger = lab.model("stranger", tensors(9))
        end = {"segment": {"digest": self.continued(lab, base, data).digest}, "weight": "1"}
        with pytest.raises(DataError, match="different bases"):
            merge.run(lab.merge({"model": stranger, "weight": "1"}, end))
        merge.run(lab.merge(end, {"model": stranger, "weight": "1"}))


# --- refused ----------------------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[Tensors], None]:
    """A tensor is missing."""
    return lambda given: given.__delitem__(name)


def with_tensor(name: str, tensor: torch.Tensor) -> Callable[[Tensors], None]:
    """A tensor is another."""
    return lambda given: given.__setitem__(name, tensor)


class Meanwhile(FaultyStore):
    """Something happens elsewhere while an object is written."""

    def __init__(self, inner: Store, happens: Callable[[], object]) -> None:
        super().__init__(inner, fail_at=10**9)
        self._happens = happens

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """And then the object is written."""
        self._happens()
        super().put_stream(key, chunks)


class TestRefused:
    """Models that do not belong together, in precise words."""

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            pytest.param(
                without("model.norm.weight"), r"inputs\[1\] lacks 1 tensors .* \['model.norm.weight'\]", id="missing"
            ),
            pytest.param(with_tensor("extra", torch.ones(2)), r"has 1 that it has not, .* \['extra'\]", id="unknown"),
            pytest.param(
                with_tensor("model.norm.weight", torch.ones(33)),
                r"tensor model.norm.weight has shape \[33\], in inputs\[0\] \[32\]",
                id="shape",
            ),
            pytest.param(
                with_tensor("model.norm.weight", torch.ones(32, dtype=torch.int64)),
                "model.norm.weight is I64; a mean is taken of F32, BF16, F16",
                id="type",
            ),
            pytest.param(
                with_tensor("lm_head.weight", torch.ones(VOCABULARY, 32)), "ties the head to the embedding", id="untied"
            ),
        ],
    )
    def test_tensors(self, lab: Lab, change: Callable[[Tensors], None], words: str) -> None:
        """Names, shapes, types, and a head that is not the embedding."""
        other = tensors(2)
        change(other)
        trial = lab.merge(*inputs(lab.model("base", tensors(1)), lab.model("other", other)))
        with pytest.raises(DataError, match=words):
            merge.run(trial)

    def test_config(self, lab: Lab) -> None:
        """Another computation over the same shapes, with both values and what to do."""
        models = lab.model("base", tensors(1)), lab.model("other", tensors(2), rope_theta=5e5, transformers_version="x")
        with pytest.raises(DataError, match=r"rope_theta 500000.0 in its config.json, inputs\[0\] has None.*write the"):
            merge.run(lab.merge(*inputs(*models)))

    def test_config_of_another_writer(self, lab: Lab) -> None:
        """Who wrote a config, and how large its numbers are, is no difference."""
        other = lab.model(
            "other", tensors(2, torch.bfloat16), dtype="bfloat16", transformers_version="5", use_cache=True
        )
        merge.run(lab.merge(*inputs(lab.model("base", tensors(1)), other)))

    def test_tokenizer(self, lab: Lab) -> None:
        """Other bytes in tokenizer.json."""
        base, _ = lab.model("base", tensors(1)), lab.model("other", tensors(2))
        with (lab.folder / "sources/other/tokenizer.json").open("a") as file:
            file.write("\n")
        with pytest.raises(DataError, match=r"another tokenizer\.json"):
            merge.run(lab.merge(*inputs(base, lab.reference("other"))))

    @pytest.mark.parametrize("config", ["{", "[]"])
    def test_damaged_config(self, lab: Lab, config: str) -> None:
        """A config that cannot be read."""
        lab.model("base", tensors(1))
        (lab.folder / "sources/base/config.json").write_text(config)
        with pytest.raises(DataError, match=r"config\.json"):
            merge.run(lab.merge({"model": lab.reference("base"), "weight": "1"}))

    def test_weight(self, lab: Lab) -> None:
        """A weight that fp32 cannot hold."""
        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        with pytest.raises(ConfigError, match=r"inputs\[1\]: weight .* is 0.0 in fp32"):
            merge.run(lab.merge(*inputs(*models, weights=("1", "1e-60"))))

    def test_changed_meanwhile(self, lab: Lab) -> None:
        """Files that are changed while they are read are not taken for those that the trial names."""
        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        trial = lab.merge(*inputs(*models))
        store = Meanwhile(lab.store, lambda: (lab.folder / "sources/m1/notes.txt").write_text("new"))
        with pytest.raises(SourceChangedError, match="m1 has changed"):
            merge.run(Trial(trial.document, store))
        with pytest.raises(MissingError):
            open_weights(lab.store, f"{trial.data}export/")

    def test_no_result(self, lab: Lab) -> None:
        """A run that has not ended is no input."""
        trial = lab.merge({"segment": {"digest": "0" * 64}, "weight": "1"})
        with pytest.raises(MissingError, match="has no result"):
            merge.run(trial)


class TestInterrupted:
    """An attempt that ends at any write, and the next one."""

    def test_every_write(self, lab: Lab) -> None:
        """What there is then is no model, and in the end the bytes are those of an attempt that went through."""
        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        whole = lab.merge(*inputs(*models))
        merge.run(whole, shard_bytes=20_000)
        spec = whole.document
        for write in range(1, 1000):
            other = Lab(lab.folder / f"at-{write}")
            (other.folder / "sources").symlink_to(lab.folder / "sources")
            store = FaultyStore(other.store, fail_at=write)
            try:
                merge.run(Trial(spec, store), shard_bytes=20_000)
            except TrainerExit:
                pass
            else:
                break
            with pytest.raises(MissingError):
                other.result(whole)
            merge.run(Trial(spec, other.store), shard_bytes=20_000)
            for output in lab.result(whole).outputs:
                assert other.store.get(whole.data + output.key) == lab.store.get(whole.data + output.key)
        assert write > 10

    def test_not_made_again(self, lab: Lab) -> None:
        """Shards of an earlier attempt are taken as they are: only the missing one is written."""
        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        trial = lab.merge(*inputs(*models))
        merge.run(trial, shard_bytes=20_000)
        folder = lab.folder / "store" / trial.data / "export"
        before = {file.name: file.stat().st_ino for file in folder.glob("*.safetensors")}
        (lab.folder / "store" / trial.data / "merged/model-00002-of-00006.json").unlink()
        (lab.folder / "kept").hardlink_to(folder / "model-00002-of-00006.safetensors")  # its inode is not used again
        merge.run(trial, shard_bytes=20_000)
        after = {file.name: file.stat().st_ino for file in folder.glob("*.safetensors")}
        assert [name for name in sorted(before) if after[name] != before[name]] == ["model-00002-of-00006.safetensors"]

    def test_shard_of_another_size(self, lab: Lab) -> None:
        """A shard that something else has overwritten is not taken."""
        models = [lab.model(f"m{n}", tensors(n)) for n in range(2)]
        trial = lab.merge(*inputs(*models))
        merge.run(trial)
        lab.store.put(f"{trial.data}export/model-00001-of-00001.safetensors", b"short")
        with pytest.raises(DataError, match="something else wrote there"):
            merge.run(trial)
