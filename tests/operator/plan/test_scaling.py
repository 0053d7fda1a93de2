"""The stage scaling: what is trained on further bases, what is asked, and what becomes of the answers."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.conditions import Reason
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.result import Equivalent, Finding, Verdict
from cpt_api.result import Outcome as Ending
from cpt_api.trial import CPTTrialSpec, DecideWork, PrepareWork, Question, TrialType
from cpt_api.values import Digest, LearningRate
from cpt_operator.plan import Failed, Outcome, Plan, Succeeded
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.recipe import resolve
from cpt_operator.plan.scaling import equivalent_words
from make import make_decision, make_digest, make_experiment, make_result, make_scaled, make_screened, outcome_diverged
from planned import World, good, reason_of

MODELS: list[dict[str, Any]] = [
    {"name": "large", "uri": "s3://cpt/large", "peakLearningRate": "2e-4", "pretrainingTokens": "2T"},
    {"name": "small", "uri": "s3://cpt/small", "resources": {"nodes": 2, "memory": "9Gi"}},
]
REFERENCES = [{"name": "huge", "uri": "s3://cpt/huge", "pretrainingTokens": "2T"}]
SWEEP = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}
RATE = LearningRate.parse("3e-5")


def scaled(models: list[dict[str, Any]] | None = None, stages: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Two datasets at two rates to 20480 tokens, then two further bases, of which one tells its peak; a reference."""
    recipe = {"learningRateSweep": SWEEP, "scaling": {"models": MODELS if models is None else models}, **(stages or {})}
    model = {"uri": "s3://cpt/sources/base", "peakLearningRate": "4e-4", "pretrainingTokens": "1T"}
    return make_experiment(**{"recipe": recipe, "model": model, "references": REFERENCES} | changes)


def question(plan: Plan) -> DecideWork:
    """The last of this stage."""
    works = [trial.spec.decide for trial in plan.trials if trial.spec.decide]
    return [work for work in works if work.question is Question.SCALING][-1]


def arms(plan: Plan, model: str) -> set[tuple[str, int, bool]]:
    """(rate, end, cooled) of every segment on that base."""
    works = [trial.spec.train for trial in plan.trials if trial.title.startswith(f"{model}: ")]
    return {
        (str(work.schedule.peak_learning_rate), int(work.stop_tokens), work.schedule.cooldown is not None)
        for work in works
        if work
    }


def failing(what: Any) -> Any:
    """Answers of a world in which trials like that fail."""

    def answer(spec: CPTTrialSpec) -> Outcome:
        return Failed("Hang", "lost") if what(spec) else good(spec)

    return answer


def is_scaling(spec: CPTTrialSpec) -> bool:
    return spec.decide is not None and spec.decide.question is Question.SCALING


class TestArms:
    """Design 4: "two trunks (transferred rate and half of it) to the first rung, the winner continues"."""

    def test_rates_and_lengths(self) -> None:
        """A rate in proportion to the peaks, where both are known; the better one goes to the chosen tokens."""
        done = World(scaled()).run()
        assert done.complete
        first = {(rate, end, cooled) for rate in ("2.5e-5", "5e-5") for end, cooled in ((8192, False), (10240, True))}
        assert arms(done, "large") == first | {("2.5e-5", 16384, False), ("2.5e-5", 20480, True)}
        assert {rate for rate, _, _ in arms(done, "small")} == {"5e-5", "1e-4"}

    def test_reads_with_its_own_tokenizer(self) -> None:
        """The chosen dataset, replay, and the texts that are scored; nothing else is prepared for it."""
        done = World(scaled()).run()
        titles = {trial.title for trial in done.trials if trial.spec.prepare and trial.stage == "scaling"}
        assert titles == {
            *(f"{name} for {model}" for name in ("perl", "speeches", "linux") for model in ("large", "small")),
            *(f"{name} for huge" for name in ("speeches", "linux")),
        }

    def test_starts_from_its_base(self) -> None:
        """And the score before its first step must be that of its base."""
        done = World(scaled()).run()
        baselines = {trial.title: trial.digest for trial in done.trials if trial.spec.evaluate}
        (first,) = [t for t in done.trials if t.title == "large: perl 5e-5 seed 0 trunk @ 8192"]
        assert first.spec.train is not None
        assert first.spec.train.start.model is not None
        assert first.spec.train.start.model.source is not None
        assert first.spec.train.start.model.source.digest == make_digest("s3://cpt/large")
        assert first.spec.run.observe is not None
        assert first.spec.run.observe.baseline is not None
        assert first.spec.run.observe.baseline.digest == baselines["the base large"]

    def test_resources(self) -> None:
        """Field by field instead of the experiment's, for that model only."""
        done = World(scaled(resources={"nodes": 1, "memory": "1Gi", "cpu": "2"})).run()
        trained = {t.title.partition(":")[0]: t.spec.run.resources for t in done.trials if t.spec.train}
        assert (trained["small"].nodes, trained["small"].memory, trained["small"].cpu) == (2, "9Gi", "2")
        assert (trained["large"].nodes, trained["large"].memory) == (1, "1Gi")

    def test_the_rest_stays_what_it_is(self) -> None:
        """Every trial before is the same with and without a scaling."""
        plain = World(make_experiment(recipe={"learningRateSweep": SWEEP})).run()
        own = {t.digest for t in plain.trials if t.spec.type not in (TrialType.REPORT, TrialType.PREFLIGHT)}
        assert own < {t.digest for t in World(scaled()).run().trials}

    def test_an_appended_model(self) -> None:
        """It alone is new, and all are compared again."""
        world = World(scaled(MODELS[:1]))
        before = {trial.digest for trial in world.run().trials}
        world.spec = scaled()
        done = world.run()
        fresh = [trial for trial in done.trials if trial.digest not in before]
        assert done.complete
        assert {t.title.partition(":")[0] for t in fresh if t.spec.train} == {"small"}
        assert len(question(done).models or ()) == 4

    def test_an_appended_model_with_a_finding(self) -> None:
        """The experiment is stalled, and goes on without it."""
        world = World(scaled(MODELS[:1], references=None))
        world.run()

        def answer(spec: CPTTrialSpec) -> Outcome:
            found = Finding(input="small", reason="NotFound", message="nothing there")
            changes = {"findings": (found,)} if spec.preflight else {}
            return Succeeded(make_result(spec, **changes))

        world.spec, world.answer = scaled(references=None), answer
        done = world.run()
        assert done.finding is not None
        assert done.finding.reason is Reason.PREFLIGHT_FAILED
        assert [model.name for model in done.scaling] == ["base", "large"]

    def test_a_model_that_is_being_made(self) -> None:
        """The sweep goes on without it; scaling waits for its trial."""
        models = [{"name": "large", "trialName": "pretrain"}]
        world = World(scaled(models, references=None))
        waiting = world.run()
        assert not waiting.complete
        assert [stage.state for stage in waiting.stages] == ["Decided", "Decided", "Running", "Waiting"]
        assert waiting.tokens_ahead == 2 * 10240 + 20480 - 8192
        world.context = replace(world.context, made={"pretrain": make_digest("pretrained")})
        assert world.run().complete


class TestQuestion:
    """What the decision is given."""

    def test_models(self) -> None:
        """All bases with what they were pretrained on; texts in the order of the question's."""
        work = question(World(scaled()).run())
        models = work.models or ()
        assert sorted(str(model.pretraining_tokens) for model in models) == ["1T", "2T", "2T", "None"]
        assert sum(model.arm is None for model in models) == 1
        assert all(len(model.target) == len(work.target.texts) for model in models)
        assert {model.arm.tokens for model in models if model.arm} == {20480}
        assert [len(control.trials) for control in work.controls] == [2, 2]

    def test_how_much_was_picked_from(self) -> None:
        """The base's arm was the best of two datasets at two rates, another model's of two rates."""
        models = question(World(scaled()).run()).models or ()
        assert sorted(model.picked_from for model in models) == [1, 2, 2, 4]

    def test_two_rates_by_items(self) -> None:
        """Each model is asked about alone, without controls."""
        done = World(scaled()).run()
        asked = [t.spec.decide for t in done.trials if t.title == "learning rate @ 10240 of large"]
        assert [(work.last, work.controls, len(work.datasets[0].arms)) for work in asked if work] == [(True, (), 2)]

    def test_the_report_does_not_show_them(self) -> None:
        """It has the sweep's decisions, and the stage's own; models have names."""
        done = World(scaled()).run()
        (report,) = [trial for trial in done.trials if trial.spec.report]
        assert report.spec.report is not None
        assert [answered.question.value for answered in report.spec.report.answered] == ["LearningRate"] * 2 + [
            "Scaling"
        ]
        legend = report.spec.run.legend
        assert legend is not None
        assert {"base", "large", "small", "huge"} < {entry.name for entry in legend.names}

    def test_a_model_that_is_called_like_the_mix(self) -> None:
        """A page has one name for one thing."""
        stages = {"durationSweep": {"durations": ["20480"]}, "mixing": {"strategy": "Uniform"}, "mixSweep": {}}
        done = World(scaled([{"name": "the-mix", "uri": "s3://cpt/large"}], stages)).run()
        (legend,) = [trial.spec.run.legend for trial in done.trials if trial.spec.report]
        assert legend is not None
        names = [entry.name for entry in legend.names]
        assert {"the-mix", "the-mix-2"} < set(names)
        assert len(names) == len(set(names))

    def test_order_of_the_manifest(self) -> None:
        """Models the other way round: the same trials."""
        same, other = (
            {t.digest for t in World(spec).run().trials if t.spec.type is not TrialType.PREFLIGHT}
            for spec in (scaled(), scaled(MODELS[::-1]))
        )
        assert same == other

    @settings(max_examples=5, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_any_order_of_answers(self, seed: int) -> None:
        """Whatever finishes first, and whoever plans, the trials are the same; none ever leaves the plan."""
        rng, slow = random.Random(seed), World(scaled())
        seen: set[Digest] = set()
        while slow.step(lambda count: rng.randint(1, count) if count else 0):
            now = {trial.digest for trial in slow.plan().trials}
            assert seen <= now
            seen = now
        assert seen == {trial.digest for trial in World(scaled()).run().trials}

    def test_ahead_never_grows(self) -> None:
        """Known tokens and those ahead never grow together."""
        totals = World(scaled(stages={"durationSweep": {"durations": ["20480", "40960"]}})).totals()
        assert totals == sorted(totals, reverse=True)


class TestAnswers:
    """Status, and what failed."""

    def test_status(self) -> None:
        """The base first, then by name; a reference has no gain."""
        done = World(scaled()).run()
        assert [model.name for model in done.scaling] == ["base", "huge", "large", "small"]
        assert [model.gain for model in done.scaling] == ["+0.5000", None, "+0.5000", "+0.5000"]
        assert done.scaling[0].compute_equivalent == "3 (2 to > 4)"
        assert done.scaling[0].interval == "+0.2000 to +0.8000"
        assert ("scaling", "Decided") in {(stage.name, stage.state) for stage in done.stages}
        assert "on large +0.5000, worth 3 (2 to > 4) times its compute" in done.message

    def test_nothing_to_repeat(self) -> None:
        """Where the base is best nothing is trained on others, and nothing of them counts as naive."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide and spec.decide.question is Question.SCREENING:
                return Succeeded(make_result(spec, decision=make_screened(spec.decide, Verdict.HURTS)))
            return good(spec)

        done = World(scaled(stages={"screening": {}}), answer=answer).run()
        assert done.complete
        assert "there is nothing to repeat" in reason_of(done, "scaling")
        assert not [trial for trial in done.trials if trial.stage == "scaling"]
        assert (done.tokens_naive, done.scaling) == (2 * 2 * 20480, ())

    def test_naive(self) -> None:
        """The study's protocol has both sweeps again on every model."""
        stages = {"durationSweep": {"durations": ["20480", "40960"]}}
        done = World(scaled(stages=stages)).run()
        assert done.tokens_naive == 4 * (2 * 20480) + 4 * (20480 + 40960)
        assert done.tokens_naive_elsewhere == 2 * 20480 + 20480 + 40960

    @pytest.mark.parametrize("best", ["the mix", "a dataset"])
    def test_naive_with_a_mix(self, best: str) -> None:
        """What is repeated counts: the sweep of the mix, or where a dataset is best the one of datasets."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or spec.decide.question is not Question.DURATION:
                return good(spec)
            document = make_decision(spec.decide)
            is_mix = all(entry.phases for entry in spec.decide.datasets)
            target = 1.0 if is_mix == (best == "the mix") else 1.2
            choices = tuple(
                choice.model_copy(
                    update={"arms": tuple(arm.model_copy(update={"target": target}) for arm in choice.arms)}
                )
                for choice in document.durations or ()
            )
            return Succeeded(make_result(spec, decision=document.model_copy(update={"durations": choices})))

        swept = {"learningRates": ["1e-4"], "rungs": ["10240"], "durations": ["40960", "81920"]}
        stages = {"durationSweep": {"durations": ["20480"]}, "mixing": {"strategy": "Uniform"}, "mixSweep": swept}
        done = World(scaled(stages=stages), answer=answer).run()
        assert done.complete
        assert done.best is not None
        assert (done.best.dataset is None) == (best == "the mix")
        of_mix, of_dataset = 40960 + 81920, 2 * 20480 + 20480
        elsewhere = of_mix if best == "the mix" else of_dataset
        assert done.tokens_naive_elsewhere == elsewhere
        assert done.tokens_naive == 2 * of_dataset + of_mix + 2 * elsewhere

    def test_repeats_the_mix(self) -> None:
        """The same parts of the same data, each made with the model's tokenizer."""
        stages = {"mixing": {"strategy": "Uniform"}, "mixSweep": {"learningRates": ["1e-4"], "rungs": ["10240"]}}

        def answer(spec: CPTTrialSpec) -> Outcome:
            """The mix is best."""
            if spec.decide is None or not any(entry.phases for entry in spec.decide.datasets):
                return good(spec)
            document = make_decision(spec.decide)
            rates = tuple(
                choice.model_copy(update={"arms": tuple(arm.model_copy(update={"target": 1.0}) for arm in choice.arms)})
                for choice in document.rates
            )
            return Succeeded(make_result(spec, decision=document.model_copy(update={"rates": rates})))

        done = World(scaled(MODELS[:1], stages, references=None), answer=answer).run()
        assert done.complete
        assert done.best is not None
        assert done.best.dataset is None
        titles = {trial.digest: trial.title for trial in done.trials}
        works = {t.title: t.spec.train for t in done.trials if t.spec.train and "the mix" in t.title}

        def parts(title: str) -> dict[str, str]:
            work = works[title]
            assert work is not None
            return {titles[part.dataset.digest or Digest("")]: str(part.weight) for part in work.phases[0].mixture}

        own = parts("the mix 1e-4 seed 0 cooled @ 10240")
        assert parts("large: the mix 5e-5 seed 0 cooled @ 10240") == {f"{n} for large": w for n, w in own.items()}

    @pytest.mark.parametrize(
        ("what", "words"),
        [
            pytest.param(
                lambda spec: isinstance(spec.work, PrepareWork) and spec.run.resources.memory is None
                and spec.prepare.tokenizer.source.uri == "s3://cpt/large",
                "large: perl: Hang: lost",
                id="its data",
            ),
            pytest.param(
                lambda spec: spec.evaluate and spec.evaluate.model.source.uri == "s3://cpt/large",
                "large: its base: Hang: lost",
                id="its base",
            ),
            pytest.param(
                lambda spec: spec.train and spec.train.start.model and spec.train.start.model.source.uri == "s3://cpt/large",
                "large: 2.5e-5: Hang: lost",
                id="its trunks",
            ),
        ],
    )  # fmt: skip
    def test_a_model_that_fails(self, what: Any, words: str) -> None:
        """It is named, and the others are compared without its arm."""
        done = World(scaled(), answer=failing(what)).run()
        assert done.complete
        assert words in reason_of(done, "scaling")
        assert [model.gain for model in done.scaling] == ["+0.5000", None, None, "+0.5000"]

    def test_one_of_two_rates_fails(self) -> None:
        """The other goes on, and the decision is told."""
        done = World(
            scaled(),
            answer=failing(
                lambda spec: (
                    spec.train
                    and str(spec.train.schedule.peak_learning_rate) == "2.5e-5"
                    and spec.train.stop_tokens == 8192
                )
            ),
        ).run()
        assert done.complete
        assert ("5e-5", 20480, True) in arms(done, "large")
        (asked,) = [t.spec.decide for t in done.trials if t.title == "learning rate @ 10240 of large"]
        assert asked is not None
        assert [str(rate) for rate in asked.datasets[0].missing] == ["2.5e-5"]

    @pytest.mark.parametrize(
        ("peak", "words"),
        [
            ("4e-4", "append the model under another name with a lower peakLearningRate"),
            (None, "in a new experiment name the peakLearningRate of the base"),
        ],
    )
    def test_diverged(self, peak: str | None, words: str) -> None:
        """It has no gain; what to do stands in the answer, and with the stage."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or not is_scaling(spec):
                return good(spec)
            document = make_scaled(spec.decide)
            lost = {"outcome": "Diverged", "target": None, "gain": None, "equivalent": None, "learning_rate": RATE}
            changed = tuple(
                one.model_copy(update=lost if asked.picked_from == 2 else {})
                for one, asked in zip(document.scaled or (), spec.decide.models or (), strict=True)
            )
            return Succeeded(make_result(spec, decision=document.model_copy(update={"scaled": changed})))

        model = {"uri": "s3://cpt/sources/base", **({"peakLearningRate": peak} if peak else {})}
        done = World(scaled(MODELS[:1], model=model), answer=answer).run()
        assert done.complete
        remedy = f"training diverged on large at 3e-5: {words}"
        assert remedy in done.message
        assert remedy in reason_of(done, "scaling")
        assert {model.name: model.gain for model in done.scaling}["large"] is None

    def test_both_diverge(self) -> None:
        """That is a result: the question has the lower one, and nothing is trained further."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.train and str(spec.train.schedule.peak_learning_rate) in ("2.5e-5", "5e-5"):
                return Succeeded(outcome_diverged(spec))
            if spec.decide and spec.decide.question is Question.LEARNING_RATE and not spec.decide.controls:
                decision = make_decision(spec.decide)
                none = tuple(choice.model_copy(update={"chosen": None}) for choice in decision.rates)
                return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": none})))
            return good(spec)

        done = World(scaled(MODELS[:1]), answer=answer).run()
        assert done.complete
        assert {end for _, end, _ in arms(done, "large")} == {8192}
        assert [str(m.arm.learning_rate) for m in question(done).models or () if m.arm and m.picked_from == 2] == [
            "2.5e-5"
        ]

    def test_the_winner_diverges_later(self) -> None:
        """Its arm is the segment that did."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            later = spec.train and spec.train.stop_tokens == 16384 and spec.train.start_tokens == 8192
            own = later and str(spec.train.schedule.peak_learning_rate) == "2.5e-5" if spec.train else False
            result = outcome_diverged(spec) if own else make_result(spec)
            assert not own or result.outcome is Ending.DIVERGED
            return Succeeded(result)

        assert World(scaled(MODELS[:1]), answer=answer).run().complete

    @pytest.mark.parametrize("what", ["failed", "other arms", "another model"])
    def test_a_bad_decision(self, what: str) -> None:
        """It ends the experiment, with its words."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or not is_scaling(spec):
                return good(spec)
            if what == "failed":
                return Failed("DataError", "cannot be paired")
            change = {"trial" if what == "other arms" else "baseline": make_digest("other")}
            wrong = tuple(one.model_copy(update=change) for one in make_scaled(spec.decide).scaled or ())
            return Succeeded(make_result(spec, decision=make_scaled(spec.decide).model_copy(update={"scaled": wrong})))

        done = World(scaled(), answer=answer).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert done.finding.message.startswith("scaling cannot be decided: the decision ")

    def test_the_same_model_twice(self) -> None:
        """Under another name it is no further point, and nothing is trained on it."""
        again = [{"name": "again", "uri": "s3://cpt/sources/base"}]
        done = World(scaled(again)).run()
        assert done.complete
        assert "again: it is the same model as base" in reason_of(done, "scaling")
        assert arms(done, "again") == set()

    def test_references_alone(self) -> None:
        """Without models the base's own recipe is held against the line."""
        done = World(scaled([])).run()
        assert done.complete
        assert [model.name for model in done.scaling] == ["base", "huge"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"place": "Between", "value": 2.4, "lower": 1.81, "upper": 3.456}, "2.4 (1.81 to 3.46)"),
        ({"place": "Between", "value": 2.4}, "2.4 (< 0.5 to > 4)"),
        ({"place": "Beyond", "lower": 3}, "> 4 (3 to > 4)"),
        ({"place": "Beyond", "lower": 4}, "> 4"),
        ({"place": "Below", "upper": 0.5}, "< 0.5"),
    ],
)
def test_words(found: dict[str, Any], words: str) -> None:
    """A bound beyond an end of the line is said with that end; without run noise there is none."""
    equivalent = Equivalent(smallest=0.5, largest=4, **found)
    assert equivalent_words(equivalent, is_sure=True) == words
    assert equivalent_words(equivalent, is_sure=False) == words.partition(" (")[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(
            make_experiment(references=REFERENCES),
            "references are compared in recipe.scaling: add that",
            id="references",
        ),
        pytest.param(
            scaled(
                [{"name": f"m{n}", "uri": f"s3://cpt/{n}"} for n in range(16)],
                references=[{"name": f"r{n}", "uri": f"s3://cpt/r{n}"} for n in range(16)],
                evaluation={
                    "target": {
                        "suite": "Heldout",
                        "data": [{"name": f"t{n}", "uri": f"s3://cpt/t{n}"} for n in range(16)],
                    }
                },
            ),
            "32 further bases on 16 texts are more than the 512 scores",
            id="too many scores",
        ),
        pytest.param(
            scaled([{"name": "python", "uri": "s3://cpt/a"}]), "the name 'python' stands for two", id="a dataset's name"
        ),
        pytest.param(scaled([{"name": "base", "uri": "s3://cpt/a"}]), "the name 'base' stands for two", id="base"),
        pytest.param(
            scaled([{"name": "big", "uri": "s3://cpt/a", "resources": {"nodes": 3}}]),
            "globalBatchSize 8 is not divisible by the 3 processes of big",
            id="processes",
        ),
    ],
)
def test_refused(spec: CPTExperimentSpec, words: str) -> None:
    """With what to do."""
    with pytest.raises(InvalidRecipeError, match=words):
        resolve(spec)
