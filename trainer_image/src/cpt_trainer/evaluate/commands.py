"""What can be done with suites by hand, without a trial.

    cpt-trainer evaluate --list                                      the shipped suites
    cpt-trainer evaluate --fetch-items SOURCE --store items          item files from public data (fetch.py)
    cpt-trainer compare A B                                          two item tables, paired (compare.py)

Answers go to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_file import read_suite, shipped
from cpt_trainer.options import Parser
from cpt_trainer.store import Address, Store, open_address


def carry_out(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Print the answer; raises TrainerExit."""
    verb, *rest = words
    if verb == "compare":
        _compare(_comparing().parse_args(rest), environment)
        return
    options = _evaluating().parse_args(rest)
    if options.list:
        sys.stdout.write("\n".join(map(_described, map(read_suite, shipped()))) + "\n")
    else:
        _fetch(options, environment)


def _comparing() -> Parser:
    parser = Parser(
        prog="cpt-trainer compare", description="Differences between two models on a suite, paired by item."
    )
    parser.add_argument("a", metavar="A", help="an item table of a suite: a file, or s3://bucket/key")
    parser.add_argument("b", metavar="B", help="the same of another model")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def _evaluating() -> Parser:
    parser = Parser(prog="cpt-trainer evaluate", description="Suites, and the items that they ask.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="the shipped suites")
    what.add_argument(
        "--fetch-items", type=Path, metavar="SOURCE", help="a folder of public data; it becomes item files"
    )
    parser.add_argument("--store", metavar="URI", help="where item files go: a folder, or s3://bucket/prefix")
    parser.add_argument("--suite", action="append", metavar="NAME", help="only what this suite asks; may be repeated")
    return parser


def _described(suite: Suite) -> str:
    tasks = ", ".join(task.name for task in suite.tasks)
    groups = ", ".join(group.name for group in suite.groups)
    return f"{suite.name} (version {suite.version}, {suite.digest.short})\n  scores: {groups}\n  tasks: {tasks}"


def _fetch(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    from cpt_trainer.evaluate.fetch import fetch

    if not options.store:
        _evaluating().error("no store: say with --store where the item files go")
    manifest = fetch(
        options.fetch_items, _open(options.store, environment), "", [read_suite(n) for n in options.suite or ()]
    )
    for file in manifest.files:
        sys.stdout.write(f"{file.items}: {file.scored} items, {file.shots} shots, {file.digest.short}\n")


def _compare(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    from cpt_trainer.evaluate.compare import compare, render
    from cpt_trainer.evaluate.suite_table import SuiteTable, read_suite_table

    def table(uri: str) -> SuiteTable:
        folder, _, name = uri.rpartition("/")
        return read_suite_table(_open(folder or ".", environment).get(name), uri)

    found = compare(table(options.a), table(options.b))
    sys.stdout.write((json.dumps(found.to_dict()) if options.json else render(found)) + "\n")


def _open(uri: str, environment: Mapping[str, str]) -> Store:
    return open_address(Address.of(uri, environment))
