"""Digests name recipes: the same meaning gives the same digest, another meaning another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cpt_api.digest import input_digests, listing_digest, mix_digest, subject_digest, trial_digest
from cpt_api.trial import CPTTrialSpec, DatasetArms, Phase
from make import make_digest

PYTHON, PERL, BASE, TEXT = map(make_digest, ("python", "perl", "base", "text"))


def spec_of(kind: str, block: dict[str, Any], **rest: Any) -> CPTTrialSpec:
    return CPTTrialSpec.model_validate({"type": kind, kind.lower(): block, **rest})


def make_train(
    rate: str = "3e-4", mixture: Any = None, rest: dict[str, Any] | None = None, **changes: Any
) -> CPTTrialSpec:
    """One segment from a base on two datasets."""
    block = {
        "start": {"model": {"source": {"uri": "s3://cpt/sources/base", "digest": BASE}}},
        "stopTokens": "1M",
        "phases": [{"mixture": mixture or [component(PYTHON, "0.7"), component(PERL, "0.3")]}],
        "schedule": {"peakLearningRate": rate, "warmupTokens": "10240"},
        "sequenceLength": 256,
        "globalBatchSize": 16,
    }
    return spec_of("Train", block | changes, **(rest or {}))


def component(digest: str, weight: str) -> dict[str, Any]:
    return {"dataset": {"digest": digest}, "weight": weight}


def make_prepare(**source: Any) -> CPTTrialSpec:
    block = {
        "source": {"uri": "s3://cpt/sources/python.jsonl", "digest": PYTHON} | source,
        "tokenizer": {"source": {"uri": "s3://cpt/sources/base", "digest": BASE}},
    }
    return spec_of("Prepare", block)


def make_merge(*parts: tuple[str, str], **changes: Any) -> CPTTrialSpec:
    """Ends of Train trials, and their weights."""
    inputs = [{"segment": {"digest": digest}, "weight": weight} for digest, weight in parts]
    return spec_of("Merge", {"inputs": inputs} | changes)


class TestSameRecipe:
    """Design 2: the digest holds nothing else (not names, nodes, GPUs, world size, micro-batch)."""

    @pytest.mark.parametrize("rate", ["0.0003", "30e-5", "3.0E-4"])
    def test_spelling_of_a_rate(self, rate: str) -> None:
        """Equal values are one trial."""
        assert trial_digest(make_train(rate)) == trial_digest(make_train("3e-4"))

    def test_spelling_of_tokens(self) -> None:
        """1M and 1000000 are one trial."""
        assert trial_digest(make_train(stopTokens="1000000")) == trial_digest(make_train(stopTokens="1M"))

    def test_order_of_a_mixture(self) -> None:
        """A mixture is a set of datasets with weights."""
        swapped = make_train(mixture=[component(PERL, "0.3"), component(PYTHON, "0.7")])
        assert trial_digest(swapped) == trial_digest(make_train())

    def test_spelling_of_a_weight(self) -> None:
        """0.5 and 0.50 are one merge."""
        assert trial_digest(make_merge((PYTHON, "0.50"))) == trial_digest(make_merge((PYTHON, "0.5")))

    def test_written_defaults(self) -> None:
        """A default that is written out changes nothing."""
        written = make_train(precision="BFloat16", seed=0, startTokens="0", optimizer={"beta2": "0.950"})
        assert trial_digest(written) == trial_digest(make_train())

    @pytest.mark.parametrize(
        "run",
        [
            {"resources": {"nodes": 4, "gpusPerNode": 8, "profile": "h100"}},
            {"suspend": True},
            {"observe": {"heldOut": [{"digest": TEXT}], "everyTokens": "100M"}},
            {"queueName": "fast", "priorityClassName": "high", "maxRetries": 9},
        ],
        ids=lambda run: next(iter(run)),
    )
    def test_run_block(self, run: dict[str, Any]) -> None:
        """How and where a trial runs is not what it is."""
        assert trial_digest(make_train(rest={"run": run})) == trial_digest(make_train())

    def test_address(self) -> None:
        """The same bytes at another address are the same input."""
        assert trial_digest(make_prepare(uri="s3://cpt/elsewhere/p.jsonl")) == trial_digest(make_prepare())

    def test_present_protocol(self) -> None:
        """Absent means the newest, and says so in the digest."""
        assert trial_digest(make_train(rest={"protocol": 1})) == trial_digest(make_train())


class TestOtherRecipe:
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(lambda: make_train("1e-4"), id="rate"),
            pytest.param(lambda: make_train(seed=1), id="seed"),
            pytest.param(lambda: make_train(stopTokens="2M"), id="tokens"),
            pytest.param(lambda: make_train(precision="Float32"), id="precision"),
            pytest.param(lambda: make_train(globalBatchSize=32), id="batch"),
            pytest.param(lambda: make_train(mixture=[component(PYTHON, "0.3"), component(PERL, "0.7")]), id="weights"),
            pytest.param(lambda: make_train(rest={"salt": "uid-1"}), id="salt"),
            pytest.param(lambda: make_train(rest={"protocol": 2}), id="protocol"),
            pytest.param(lambda: make_train(rest={"imageDigest": f"sha256:{'0' * 64}"}), id="image"),
            pytest.param(lambda: make_prepare(digest=PERL), id="content of the source"),
        ],
    )
    def test_differs(self, other: Callable[[], CPTTrialSpec]) -> None:
        """What a trial does is in its digest."""
        assert trial_digest(other()) not in {trial_digest(make_train()), trial_digest(make_prepare())}


class TestMerge:
    """Fp32 sums round, so the order of a merge is part of it."""

    def test_order(self) -> None:
        """Another order may give other bits."""
        one, other = ((PYTHON, "0.5"), (PERL, "0.5")), ((PERL, "0.5"), (PYTHON, "0.5"))
        assert trial_digest(make_merge(*one)) != trial_digest(make_merge(*other))

    @pytest.mark.parametrize("weights", [("0.5", "0.4"), ("1", "1")])
    def test_weights(self, weights: tuple[str, str]) -> None:
        """Even weights in the same ratio: dividing by their sum rounds."""
        half = make_merge((PYTHON, "0.5"), (PERL, "0.5"))
        assert trial_digest(make_merge(*zip((PYTHON, PERL), weights, strict=True))) != trial_digest(half)

    def test_unwritten(self) -> None:
        """An evaluation of a merge reads what the merge would read."""
        merge = make_merge((PYTHON, "0.5"), (PERL, "0.5"), base={"trial": {"digest": BASE}})
        assert merge.merge
        work = {"merge": merge.merge.to_dict(), "heldOut": [{"digest": TEXT}], "sequenceLength": 64}
        assert input_digests(spec_of("Evaluate", work)) == sorted([PYTHON, PERL, BASE, TEXT])


class TestGolden:
    """Frozen per protocol: a digest that changes means that an upgrade re-trains everything."""

    def test_train(self) -> None:
        """Protocol 1."""
        assert trial_digest(make_train()) == "f16d781d19415c5586e007efaf409013f74a97c3bc867302eee3f8b56d865199"

    def test_prepare(self) -> None:
        """Protocol 1."""
        assert trial_digest(make_prepare()) == "4e86ae6d749f399c331a490284ff4765f297e5a02f2af586aa69259a159e1cc1"

    def test_merge(self) -> None:
        """Protocol 1."""
        half = make_merge((PYTHON, "0.5"), (PERL, "0.5"))
        assert trial_digest(half) == "4ab140d3ef5e2791b488d1ec07e30d2886914701aa2d15d18fd71d10884a3956"

    def test_listing(self) -> None:
        """Of two files."""
        assert (
            listing_digest([("a.jsonl", 3, "etag-a"), ("b.jsonl", 5, "etag-b")])
            == "abab7b6a3efeebc71cb8bef5baeeebf6e9b8b8e89e5cdf4f043d1878bb35aac2"
        )


class TestReferences:
    def test_unresolved_reference_has_no_digest(self) -> None:
        """A trial that reads `trialName` has no digest before that trial has one."""
        named = make_train(mixture=[{"dataset": {"trialName": "prepared"}, "weight": "1"}])
        with pytest.raises(ValueError, match=r"unresolved reference.*prepared"):
            trial_digest(named)

    def test_inputs_are_sorted_and_each_once(self) -> None:
        """What `result.json` must name."""
        both = make_train(mixture=[component(PYTHON, "0.5"), component(PYTHON, "0.5")])
        assert input_digests(both) == sorted({BASE, PYTHON})

    def test_observed_texts_are_no_inputs(self) -> None:
        """`run.observe` is not hashed, so its texts are not among the inputs."""
        assert TEXT not in input_digests(make_train(rest={"run": {"observe": {"heldOut": [{"digest": TEXT}]}}}))


class TestMix:
    """What stands for a mix where a dataset has the digest of its Prepare trial."""

    @staticmethod
    def phase(*parts: tuple[str, str]) -> Phase:
        mixture = [{"dataset": {"digest": make_digest(name)}, "weight": weight} for name, weight in parts]
        return Phase.model_validate({"mixture": mixture})

    def test_canonical(self) -> None:
        """The order of its parts means nothing, nor how a weight is written."""
        one, same = self.phase(("a", "0.20"), ("b", "0.8")), self.phase(("b", "8e-1"), ("a", "0.2"))
        assert mix_digest([one]) == mix_digest([same])

    def test_differs(self) -> None:
        """Other weights and another order of phases are another mix."""
        one, other = self.phase(("a", "0.2"), ("b", "0.8")), self.phase(("a", "0.3"), ("b", "0.7"))
        assert len({mix_digest([one]), mix_digest([other]), mix_digest([one, other]), mix_digest([other, one])}) == 4

    def test_subject(self) -> None:
        """Arms belong to a dataset or to a mix, and answers call both by one digest."""
        arm = {"learningRate": "1e-4", "trial": {"digest": make_digest("t")}, "tokens": "1M"}
        phase = self.phase(("a", "1"))
        of_mix = DatasetArms.model_validate({"phases": [phase.to_dict()], "arms": [arm]})
        of_dataset = DatasetArms.model_validate({"dataset": {"digest": make_digest("a")}, "arms": [arm]})
        assert subject_digest(of_mix) == mix_digest([phase])
        assert subject_digest(of_dataset) == make_digest("a")


class TestListing:
    def test_order_of_entries_means_nothing(self) -> None:
        """Stores list in their own order."""
        entries = [("b", 2, "y"), ("a", 1, "x")]
        assert listing_digest(entries) == listing_digest(reversed(entries))

    @pytest.mark.parametrize("changed", [("c", 1, "x"), ("a", 2, "x"), ("a", 1, "y")], ids=["key", "size", "etag"])
    def test_every_part_counts(self, changed: tuple[str, int, str]) -> None:
        """A file that was renamed, resized or rewritten is another input."""
        assert listing_digest([changed]) != listing_digest([("a", 1, "x")])
