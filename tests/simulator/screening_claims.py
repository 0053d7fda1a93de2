"""What design 4 promises about screening, held against the truth: each claim looks at one ended experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cpt_api.result import Estimate, Judgement, Screened, ScreenedArm, Verdict
from cpt_api.values import LearningRate, Tokens
from cpt_trainer.decide.against import compare
from cpt_trainer.decide.estimates import t_quantile
from cpt_trainer.decide.judgement import POWER
from simulator.claims import Claim, covers, known, noise_of, retention_text, within
from simulator.experiment import Ended
from simulator.truth import BASE_LOSS, Truth
from simulator.world import REPLAY

THRESHOLD = 0.02
"""The default of `minimumEffect` and `margin`."""
_REACH = 4.5
"""The detectable effect in standard errors: max-t over four rates at 5 % / 4 with about 8 degrees of freedom, and the
power on top."""


def detectable(truth: Truth, standard_error: float) -> float:
    """About what a screening of four datasets sees with 80 % power, if it knew the standard error."""
    assert len(truth.curves) in (0, 4), "the constant is for four"
    return _REACH * standard_error


# --- what is true ---------------------------------------------------------------------------------------------------


def effect(ended: Ended, name: str, rate: LearningRate, tokens: Tokens) -> float:
    """Bits per byte of the target that the recipe saves against the control."""
    return ended.world.loss(REPLAY, rate, tokens) - ended.world.loss(name, rate, tokens)


def kept(ended: Ended, name: str, rate: LearningRate) -> float:
    """The same on retention."""
    return ended.world.forgotten(REPLAY, rate) - ended.world.forgotten(name, rate)


def _best(ended: Ended, name: str, one: Screened) -> float:
    """At the rate that is truly best among those that were compared."""
    return max(effect(ended, name, arm.learning_rate, arm.tokens) for arm in _compared(one))


def _compared(one: Screened) -> list[ScreenedArm]:
    return [arm for arm in one.arms if arm.outcome == "Compared"]


def _judged(ended: Ended) -> Iterator[tuple[str, Screened, LearningRate, Tokens, Estimate]]:
    """Datasets that were judged, and the arm that they were judged at."""
    for name, one in ended.screened.items():
        if one.learning_rate and one.tokens and one.target.effect:
            yield name, one, one.learning_rate, one.tokens, one.target.effect


# --- verdicts -------------------------------------------------------------------------------------------------------


def no_false_help(ended: Ended) -> Iterable[bool]:
    """No dataset that helps at no rate is called Helps: one answer for the whole study."""
    useless = [one for name, one, *_ in _judged(ended) if _best(ended, name, one) <= 0]
    if useless:
        yield all(one.target.verdict is not Verdict.HELPS for one in useless)


def no_false_hurt(ended: Ended) -> Iterable[bool]:
    """No dataset that does no harm at some rate is called Hurts: one answer for the whole study."""
    harmless = [one for name, one, *_ in _judged(ended) if _best(ended, name, one) >= 0]
    if harmless:
        yield all(one.target.verdict is not Verdict.HURTS for one in harmless)


def harm_is_no_help(ended: Ended) -> Iterable[bool]:
    """A dataset that does harm worth seeing, at every rate, is not called Helps."""
    for name, one, *_ in _judged(ended):
        if one.target.detectable and _best(ended, name, one) <= -one.target.detectable:
            yield one.target.verdict is not Verdict.HELPS


def power(ended: Ended) -> Iterable[bool]:
    """Had the effect at the judged rate been the detectable one that is stated, it would have been called Helps.

    Noise does not depend on the effect, so the measured effect is moved by what the true one is off.
    """
    for name, one, rate, tokens, found in _judged(ended):
        assert one.target.detectable is not None
        assert found.degrees_of_freedom is not None
        assert found.standard_error is not None
        needed = one.target.detectable - t_quantile(POWER, found.degrees_of_freedom) * found.standard_error
        yield found.value - effect(ended, name, rate, tokens) + one.target.detectable > needed


def unaffected_is_small(ended: Ended) -> Iterable[bool]:
    """A dataset whose best effect is not smaller than what matters is not called Unaffected."""
    for name, one, *_ in _judged(ended):
        if abs(_best(ended, name, one)) >= THRESHOLD:
            yield one.target.verdict is not Verdict.UNAFFECTED


def no_false_word_on_retention(ended: Ended) -> Iterable[bool]:
    """No dataset that forgets as the control does is called Helps or Hurts there: one answer for the whole study."""
    words: list[Judgement] = [
        one.retention for name, one, rate, *_ in _judged(ended) if one.retention and kept(ended, name, rate) == 0
    ]
    if words:
        yield all(word.verdict not in (Verdict.HELPS, Verdict.HURTS) for word in words)


# --- intervals ------------------------------------------------------------------------------------------------------


def fixed_effect(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of an arm against the control covers, rate and tokens named beforehand."""
    work, _ = ended.decisions[0]
    models, noise = ended.world.scores(work), noise_of(ended, work)
    controls = {(c.learning_rate, c.tokens): [models[known(trial.digest)] for trial in c.trials] for c in work.controls}
    assert work.rung_tokens is not None
    for entry in work.datasets:
        case, rate = compare(entry, models, controls, noise), entry.arms[1].learning_rate
        if rate in case.compared:
            name = ended.world.names[case.dataset]
            yield covers(case.compared[rate].gain, effect(ended, name, rate, work.rung_tokens))


def ended_effect(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of an arm against the control covers, wherever the race ended for a rate named beforehand."""
    for name, one in ended.screened.items():
        arm = one.arms[1]
        if arm.gain:
            yield within(arm.gain, effect(ended, name, arm.learning_rate, arm.tokens))


def lower_bound(ended: Ended) -> Iterable[bool]:
    """The effect at the judged rate is not below its lower bound."""
    for name, _, rate, tokens, found in _judged(ended):
        assert found.lower is not None
        yield found.lower <= effect(ended, name, rate, tokens)


def upper_bound(ended: Ended) -> Iterable[bool]:
    """The best effect is not above the upper bound."""
    for name, one, _, _, found in _judged(ended):
        assert found.upper is not None
        yield _best(ended, name, one) <= found.upper


def forgetting(ended: Ended) -> Iterable[bool]:
    """What the judged model forgot over all documents is not more than its bound."""
    text = retention_text(ended)
    for _, one, rate, *_ in _judged(ended):
        trial = next(arm.trial for arm in one.arms if arm.learning_rate == rate)
        if one.forgotten and one.forgotten.upper is not None:
            yield ended.world.realised(trial, text) - BASE_LOSS <= one.forgotten.upper


CLAIMS = (
    Claim("no useless dataset of a study is called Helps", 0.935, 1, no_false_help, strict=True),
    Claim("no harmless dataset of a study is called Hurts", 0.935, 1, no_false_hurt, strict=True),
    Claim("a dataset that does detectable harm is not called Helps", 0.995, 1, harm_is_no_help),
    Claim("the stated detectable effect would be called Helps", 0.8, 1, power),
    Claim("an effect that matters is not called Unaffected", 0.93, 1, unaffected_is_small),
    Claim("no false word on retention in a study", 0.88, 1, no_false_word_on_retention),
    Claim("95 % interval of a fixed arm against the control", 0.93, 0.97, fixed_effect),
    Claim("95 % interval of an arm against the control, where its race ended", 0.93, 1, ended_effect),
    Claim("lower bound of the effect at the judged rate", 0.93, 1, lower_bound),
    Claim("upper bound of the best effect", 0.93, 1, upper_bound),
    Claim("one-sided 95 % bound of the judged model's forgetting", 0.93, 1, forgetting),
)
