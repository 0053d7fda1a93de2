"""Training as a function: segments, gates, divergence, memory, scores and exports, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpt_api.layout import progress_key
from cpt_api.result import CheckpointRef, Outcome, Progress
from cpt_api.trial import TrialRef
from cpt_api.values import Digest
from cpt_trainer import evaluate, train
from cpt_trainer.base import segment_end
from cpt_trainer.batches import Batch
from cpt_trainer.errors import ConfigError, DataError, Diverged, DoesNotFit, HalveMicroBatch
from cpt_trainer.manifest import Kind, Role, read_checkpoint
from cpt_trainer.model import Trainee
from cpt_trainer.trial import Trial
from cpt_trainer.update import Update
from trainer_image.kit import BATCH_TOKENS, NAMESPACE, VOCABULARY, Lab

STEPS = 12
COOLDOWN = {"startTokens": str(8 * BATCH_TOKENS), "endTokens": str(STEPS * BATCH_TOKENS)}


pytestmark = pytest.mark.usefixtures("one_thread_here")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two datasets."""
    return Lab(tmp_path)


@pytest.fixture
def mixture(lab: Lab) -> dict[Digest, str]:
    """Seven to three."""
    return {lab.dataset("python"): "0.7", lab.dataset("perl"): "0.3"}


def observing(*texts: Digest, **changes: Any) -> dict[str, Any]:
    """A run block."""
    return {"observe": {"heldOut": [{"digest": text} for text in texts]} | changes}


def tensors_of_end(lab: Lab, trial: Trial, role: Role = Role.WEIGHTS) -> dict[str, Any]:
    """Arrays of a trial's end."""
    end = lab.result(trial).checkpoint
    assert isinstance(end, CheckpointRef)
    weights = read_checkpoint(lab.store, trial.data + end.manifest).tensors(role)
    return {name: weights.read(name) for name in weights.tensors}


class TestOneRun:
    """From random weights to a result."""

    def test_result(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """It learns, and says what it did and what it cost."""
        text = next(iter(mixture))
        trial = lab.train(mixture, STEPS, run=observing(text))
        train.run(trial)
        result = lab.result(trial)
        assert (result.numbers["steps"], result.numbers["tokens"]) == (STEPS, STEPS * BATCH_TOKENS)
        assert result.numbers["finalLoss"] < result.numbers["meanLoss"] < np.log(VOCABULARY)
        assert result.numbers["torchThreads"] == 1
        assert result.flops and result.flops.total > 0
        assert [score.text for score in result.held_out] == [text]
        assert {output.key for output in result.outputs} >= {"model/config.json", "export/model.safetensors"}
        assert result.checkpoint and result.checkpoint.step == STEPS

    def test_lines(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """Every step is a line, scores are lines between them, and progress says where it ended."""
        text = next(iter(mixture))
        trial = lab.train(mixture, STEPS, run=observing(text, everyTokens=str(4 * BATCH_TOKENS)))
        train.run(trial)
        data = lab.store.get(f"{trial.data}metrics/attempt-1.jsonl")
        lines = [json.loads(line) for line in data.splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
        assert [line["step"] for line in lines if "heldOut" in line] == [0, 4, 8, STEPS]
        progress = Progress.believed(lab.store.get(progress_key(NAMESPACE, trial.digest)), trial.digest)
        assert (progress.step, progress.committed_step) == (STEPS, STEPS)
        assert progress.held_out

    def test_bfloat16(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """bf16 computes about the same, from fp32 masters."""
        losses = []
        for precision in ("Float32", "BFloat16"):
            trial = lab.train(mixture, STEPS, precision=precision)
            train.run(trial)
            losses.append(lab.result(trial).numbers["meanLoss"])
        assert losses[1] == pytest.approx(losses[0], rel=2e-2)
        assert losses[1] != losses[0]
        assert {array.dtype for array in tensors_of_end(lab, trial).values()} == {np.dtype("float32")}

    def test_export_only(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """A retry after the final checkpoint trains nothing, and commits what the first would have."""
        trial = lab.train(mixture, STEPS)
        train.run(trial)
        first = lab.result(trial)
        lab.store.delete(f"trials/{NAMESPACE}/{trial.digest}/result.json")
        train.run(lab.trial(trial.spec, attempt=2))
        second = lab.result(trial)
        assert second.attempt == 2
        assert second.numbers["finalLoss"] == first.numbers["finalLoss"]
        assert second.outputs == first.outputs
        assert second.flops == first.flops

    def test_not_whole(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """A stop that is not at the end of a batch is refused with the number that divides."""
        trial = lab.train(mixture, STEPS, stopTokens=str(STEPS * BATCH_TOKENS + 1))
        with pytest.raises(ConfigError, match=f"multiple of .* {BATCH_TOKENS}"):
            train.run(trial)

    def test_other_tokenizer(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """Data of another tokenizer is refused before anything is trained."""
        key = f"data/{NAMESPACE}/{next(iter(mixture))}/manifest.json"
        manifest = json.loads(lab.store.get(key))
        lab.store.put(key, json.dumps(manifest | {"tokenizer": "0" * 64}).encode())
        with pytest.raises(DataError, match="made with tokenizer 000000000000"):
            train.run(lab.train(mixture, STEPS))


class TestSegments:
    """Design 3: "two segments equal one long run bitwise"."""

    def trunk(self, lab: Lab, mixture: dict[Digest, str], **changes: Any) -> Trial:
        """The first eight steps."""
        trial = lab.train(mixture, 8, **changes)
        train.run(trial)
        return trial

    def branch(self, lab: Lab, trunk: Trial, mixture: dict[Digest, str], **changes: Any) -> Trial:
        """The steps after them, cooled down."""
        start = {"segment": {"digest": trunk.digest}}
        schedule = {"peakLearningRate": "1e-2", "cooldown": COOLDOWN}
        values = {"start": start, "startTokens": str(8 * BATCH_TOKENS), "schedule": schedule}
        return lab.train(mixture, STEPS, **values | changes)

    def test_equal(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """Weights, optimizer and losses of trunk and branch are those of one run, bit by bit."""
        text = next(iter(mixture))
        whole = lab.train(mixture, STEPS, schedule={"peakLearningRate": "1e-2", "cooldown": COOLDOWN})
        train.run(whole)
        trunk = self.trunk(lab, mixture, run=observing(text))
        branch = self.branch(lab, trunk, mixture, run=observing(text))
        train.run(branch)
        assert lab.losses(trunk) | lab.losses(branch) == lab.losses(whole)
        for role in Role:
            ends = [tensors_of_end(lab, trial, role) for trial in (whole, branch)]
            assert ends[0].keys() == ends[1].keys()
            assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])

    def test_kinds(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """Where a run can go on its end is a SegmentEnd, where the rate is zero it is Final; only the root exports."""
        trunk = self.trunk(lab, mixture)
        branch = self.branch(lab, trunk, mixture)
        train.run(branch)
        ends = [segment_end(trunk, TrialRef(digest=trial.digest)) for trial in (trunk, branch)]
        assert [end.checkpoint.manifest.kind for end in ends] == [Kind.SEGMENT_END, Kind.FINAL]
        assert not any(output.key.startswith("export/") for output in lab.result(branch).outputs)

    def test_later_phase(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """A branch may read something else from its own beginning on."""
        _, second = mixture
        before = [{"dataset": {"digest": digest}, "weight": weight} for digest, weight in mixture.items()]
        after = [{"dataset": {"digest": second}, "weight": "1"}]
        phases = [{"mixture": before, "untilTokens": str(8 * BATCH_TOKENS)}, {"mixture": after}]
        branch = self.branch(lab, self.trunk(lab, mixture), mixture, phases=phases)
        train.run(branch)
        lines = lab.store.get(f"{branch.data}metrics/attempt-1.jsonl").splitlines()
        assert {name for line in lines for name in json.loads(line).get("datasets", {})} == {second.short}

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"seed": 1}, id="seed"),
            pytest.param({"sequenceLength": 16, "globalBatchSize": 8}, id="length"),
            pytest.param({"globalBatchSize": 2}, id="batch"),
        ],
    )
    def test_other_order(self, lab: Lab, mixture: dict[Digest, str], changes: dict[str, Any]) -> None:
        """A branch that would have read something else before is refused."""
        branch = self.branch(lab, self.trunk(lab, mixture), mixture, **changes)
        with pytest.raises(DataError, match=r"not of this run|segment goes from"):
            train.run(branch)

    def test_other_mixture(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """So is one whose weights differ."""
        trunk = self.trunk(lab, mixture)
        branch = self.branch(lab, trunk, dict.fromkeys(mixture, "0.5"))
        with pytest.raises(DataError, match="mixture or data differ"):
            train.run(branch)


class TestGate:
    """Design 3: the step-0 gate."""

    def base(self, lab: Lab, mixture: dict[Digest, str]) -> Trial:
        """A model that others start from."""
        trial = lab.train(mixture, 4)
        train.run(trial)
        return trial

    def test_evaluate(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """An evaluation of the export, one of the segment's end, and the loop's own scores agree to the last digit."""
        text = next(iter(mixture))
        base = lab.train(mixture, 4, run=observing(text))
        train.run(base)
        scores = [lab.result(base).held_out[0].bits_per_byte]
        for what in ({"model": {"trial": {"digest": base.digest}}}, {"segment": {"digest": base.digest}}):
            trial = lab.evaluate([text], **what)
            evaluate.run(trial)
            scores.append(lab.result(trial).held_out[0].bits_per_byte)
        assert len(set(scores)) == 1

    @pytest.mark.parametrize("error", [0.0, 0.004, 0.006])
    def test_baseline(self, lab: Lab, mixture: dict[Digest, str], error: float) -> None:
        """A start that scores more than 0.5 % away from its baseline is refused."""
        text = next(iter(mixture))
        base = self.base(lab, mixture)
        model = {"model": {"trial": {"digest": base.digest}}}
        baseline = lab.evaluate([text], **model)
        evaluate.run(baseline)
        self.change_score(lab, baseline, 1 + error)
        run = observing(text, baseline={"digest": baseline.digest})
        trial = lab.train(mixture, 2, start=model, run=run)
        if error < 0.005:
            train.run(trial)
            assert lab.result(trial).numbers["steps"] == 2
        else:
            with pytest.raises(DataError, match=r"evaluation .* says"):
                train.run(trial)

    def change_score(self, lab: Lab, trial: Trial, factor: float) -> None:
        """As if another model had been evaluated."""
        key = f"trials/{NAMESPACE}/{trial.digest}/result.json"
        document = json.loads(lab.store.get(key))
        document["heldOut"][0]["bitsPerByte"] *= factor
        lab.store.put(key, json.dumps(document).encode())


class TestGradients:
    """A gradient that is not finite changes nothing."""

    def test_skipped(self, lab: Lab, mixture: dict[Digest, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """One is skipped and counted, and training goes on."""
        poison(monkeypatch, {3})
        trial = lab.train(mixture, STEPS)
        train.run(trial)
        result = lab.result(trial)
        assert (result.numbers["skippedSteps"], result.outcome) == (1, Outcome.COMPLETED)
        end = read_checkpoint(lab.store, trial.data + result.checkpoint.manifest) if result.checkpoint else None
        assert end and end.manifest.optimizer_steps == STEPS - 1

    def test_diverged(self, lab: Lab, mixture: dict[Digest, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Eleven of a hundred are a result: Diverged, without a checkpoint to go on from."""
        poison(monkeypatch, set(range(2, 20)))
        trial = lab.train(mixture, 20)
        with pytest.raises(Diverged, match="11 of the last 12 gradients"):
            train.run(trial)
        result = lab.result(trial)
        assert (result.outcome, result.checkpoint, result.numbers["steps"]) == (Outcome.DIVERGED, None, 12)


def poison(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """Some gradients are not numbers; the first has number 1."""
    square, count = Update.square, [0]

    def poisoned(self: Update) -> float:
        count[0] += 1
        return float("nan") if count[0] in calls else square(self)

    monkeypatch.setattr(Update, "square", poisoned)


class TestMemory:
    """Sequences that do not fit."""

    def test_halves(self, lab: Lab, mixture: dict[Digest, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """An attempt that runs out of memory asks the next one for half, whose losses are the same."""
        whole = lab.train(mixture, 4, start={"random": {"config": lab.base(), "seed": 3}})
        train.run(whole)
        fits(monkeypatch, 2)
        trial = lab.train(mixture, 4, schedule={"peakLearningRate": "1e-2", "warmupTokens": "1"})
        with pytest.raises(HalveMicroBatch, match="2 come next"):
            train.run(trial)
        train.run(lab.trial(trial.spec, attempt=2))
        assert lab.result(trial).numbers["microBatch"] == 2
        np.testing.assert_allclose([*lab.losses(trial).values()], [*lab.losses(whole).values()], rtol=1e-6)

    def test_does_not_fit(self, lab: Lab, mixture: dict[Digest, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Where one sequence does not fit there is nothing to halve."""
        fits(monkeypatch, 0)
        trial = lab.train(mixture, 4)
        for attempt, error in ((1, HalveMicroBatch), (2, HalveMicroBatch), (3, DoesNotFit)):
            with pytest.raises(error):
                train.run(lab.trial(trial.spec, attempt))


def fits(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Memory is over with more rows than that."""
    forward = Trainee.forward

    def limited(self: Trainee, batch: Batch) -> torch.Tensor:
        if torch.is_grad_enabled() and len(batch.tokens_BT) > rows:
            raise torch.OutOfMemoryError("as asked")
        return forward(self, batch)

    monkeypatch.setattr(Trainee, "forward", limited)


class TestExport:
    """What others read."""

    def test_transformers(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """transformers loads it, with the weights of the final checkpoint."""
        from transformers.models.llama.modeling_llama import LlamaForCausalLM

        trial = lab.train(mixture, 4)
        train.run(trial)
        lm = LlamaForCausalLM.from_pretrained(lab.folder / "store" / trial.data / "export")
        for name, array in tensors_of_end(lab, trial).items():
            assert np.array_equal(lm.state_dict()[name].numpy(), array)

    def test_bytes(self, lab: Lab, mixture: dict[Digest, str]) -> None:
        """Config and tokenizer are those of the start, byte for byte."""
        trial = lab.train(mixture, 4)
        train.run(trial)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            original = (lab.folder / "sources/base" / name).read_bytes()
            assert lab.store.get(f"{trial.data}export/{name}") == original
