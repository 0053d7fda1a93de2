"""`kubectl cpt`: what an experiment would do, doing it on this machine, and looking after it on a cluster.

Every command is a function of its own module, imported when it is called: `plan` must answer within a second. Data
goes to standard output, everything else to standard error, and errors end with a code of `kubectl_cpt.errors.Exit`.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from cpt_api.values import Tokens
from kubectl_cpt.errors import CliError

if TYPE_CHECKING:
    from kubectl_cpt.cluster.kubectl import Kubectl


class _Group(TyperGroup):
    """Turns our errors into a message and an exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own Context
        try:
            return super().invoke(ctx)
        except CliError as error:
            color = False if "NO_COLOR" in os.environ else None  # None: where it is a terminal
            for line in str(error).splitlines():
                typer.secho(f"error: {line}", err=True, fg=typer.colors.RED, color=color)
            raise typer.Exit(error.code) from error


app = typer.Typer(
    cls=_Group,
    name="kubectl-cpt",
    help="Continued-pretraining experiments: plan them, run them here or watch them on a cluster.",
    epilog="Exit codes: 0 it succeeded, 1 it failed, 2 wrong options, 3 the manifest is wrong, 4 too expensive, "
    "5 another run holds the store, 6 timed out, 7 a decision is not confirmed, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Makes every verb a command of its own, even while there is only one."""


class PlanOutput(StrEnum):
    """Formats of `plan`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    MARKDOWN = "markdown"


class DataOutput(StrEnum):
    """Formats of everything else."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def _count(text: str) -> Tokens:
    try:
        return Tokens.parse(text)
    except ValueError as error:
        raise typer.BadParameter("expected a number with M, B or T, such as 7B") from error


def _size(text: str) -> tuple[str, Tokens]:
    """Of a further model."""
    name, _, count = text.partition("=")
    if not name or not count:
        raise typer.BadParameter(f"--parameters-of {text}: expected the name of a model and its size, such as 70b=69B")
    return name, _count(count)


def _positive(value: float | None) -> float | None:
    if value is not None and value <= 0:
        raise typer.BadParameter("expected a positive number")
    return value


Files = Annotated[
    list[str] | None,
    typer.Option("--filename", "-f", help="Manifests: files, folders of .yaml files, or - for standard input."),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Instead of the manifests' or the context's own.")
]

Kubeconfig = Annotated[str | None, typer.Option("--kubeconfig", help="As of kubectl.")]
Context = Annotated[str | None, typer.Option("--context", help="As of kubectl.")]


def _kubectl(kubeconfig: str | None, context: str | None, namespace: str | None) -> Kubectl:
    from kubectl_cpt.cluster.kubectl import Kubectl

    given = (("--kubeconfig", kubeconfig), ("--context", context), ("--namespace", namespace))
    return Kubectl([f"{flag}={value}" for flag, value in given if value])


@app.command("plan")
def plan_command(
    filename: Files = None,
    kustomize: Annotated[str | None, typer.Option("--kustomize", "-k", help="A folder for kubectl kustomize.")] = None,
    namespace: Namespace = None,
    output: Annotated[PlanOutput, typer.Option("--output", "-o", help="wide lists every trial.")] = PlanOutput.TABLE,
    parameters: Annotated[
        Tokens | None, typer.Option(parser=_count, metavar="COUNT", help="Of the model, such as 7B: gives FLOPs.")
    ] = None,
    parameters_of: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COUNT", help="Of a further model of recipe.scaling, such as 70b=69B; one each."),
    ] = None,
    tokens_per_second_per_gpu: Annotated[
        float | None, typer.Option(callback=_positive, help="Of training: gives GPU-hours.")
    ] = None,
    gpu_teraflops: Annotated[
        float | None, typer.Option(callback=_positive, help="Of the data sheet: with --mfu, where no speed is known.")
    ] = None,
    mfu: Annotated[float | None, typer.Option(min=0.01, max=1, help="The part of it that training reaches.")] = None,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(callback=_positive, help="In your currency: gives the price.")
    ] = None,
    tokens_per_evaluation: Annotated[
        Tokens | None,
        typer.Option(
            parser=_count,
            metavar="COUNT",
            help="That a model reads on the suites that decide, such as 65M: adds the scores' cost.",
        ),
    ] = None,
    fail_over_cost: Annotated[
        float | None, typer.Option(callback=_positive, help="Exit 4 when the price may be higher.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Say what applying it would change on the cluster: + ~ - and ! for refused.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What would run and what it costs, offline, by the operator's own planner."""
    from kubectl_cpt.bill import Prices
    from kubectl_cpt.plan import show

    further = dict(map(_size, parameters_of or ()))
    prices = Prices(
        parameters=parameters,
        tokens_per_second_per_gpu=tokens_per_second_per_gpu,
        per_gpu_hour=price_per_gpu_hour,
        gpu_teraflops=gpu_teraflops,
        mfu=mfu,
        further=further,
        tokens_per_evaluation=tokens_per_evaluation,
    )
    kubectl = _kubectl(kubeconfig, context, None) if live else None
    show(filename or [], kustomize, namespace, output, prices, fail_over_cost, kubectl)


@app.command("run")
def run_command(
    store: Annotated[
        str, typer.Option("--store", help="A folder, or s3://bucket/prefix with AWS_* in the environment.")
    ],
    filename: Files = None,
    namespace: Namespace = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials at the same time; scheduling.parallelTrials, or 1.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Training processes of a trial, instead of the manifest's.")
    ] = None,
    source_root: Annotated[
        Path | None, typer.Option(help="A folder that stands for S3: s3://BUCKET/KEY is read from FOLDER/KEY.")
    ] = None,
    logs: Annotated[
        Path | None, typer.Option(help="What trials print; logs below the store, or ./cpt-logs with S3.")
    ] = None,
    output: Annotated[DataOutput, typer.Option("--output", "-o", help="Of the answer.")] = DataOutput.TABLE,
) -> None:
    """Run an experiment, and trials written by hand, on this machine; again and it goes on where it was."""
    from kubectl_cpt.run import Options, run

    if not filename:
        raise typer.BadParameter("name the manifests", param_hint="--filename")
    run(Options(filename, store, namespace, parallel, processes, source_root, logs, output), os.environ)


# --- on a cluster -----------------------------------------------------------------------------------------------------


class StatusOutput(StrEnum):
    """Formats of `status`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Outcome(StrEnum):
    """What `wait` waits for."""

    SUCCEEDED = "succeeded"


Name = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its name.")]
Reference = Annotated[str, typer.Argument(metavar="[EXPERIMENT/]TRIAL", help="The name of a trial.")]


@app.command("status")
def status_command(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it has ended.")] = False,
    output: Annotated[
        StatusOutput, typer.Option("--output", "-o", help="wide lists every trial.")
    ] = StatusOutput.TABLE,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(callback=_positive, help="In your currency: says what it has cost.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Where an experiment is, what was decided, what its trials do, and what to do next."""
    from kubectl_cpt.cluster import commands

    kubectl = _kubectl(kubeconfig, context, namespace)
    if watch:
        if output not in (StatusOutput.TABLE, StatusOutput.WIDE):
            raise typer.BadParameter("goes with -o table and -o wide only", param_hint="--watch")
        commands.follow(kubectl, name, wide=output is StatusOutput.WIDE, per_gpu_hour=price_per_gpu_hour)
    else:
        commands.status(kubectl, name, output, price_per_gpu_hour)


@app.command("wait")
def wait_command(
    name: Name,
    outcome: Annotated[Outcome, typer.Option("--for", help="The only outcome there is.")] = Outcome.SUCCEEDED,
    timeout: Annotated[str | None, typer.Option(help="Such as 90s, 15m or 2h; for ever when absent.")] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Until it has succeeded: exit 0; 1 when it failed or somebody must act; 6 when the time is over."""
    from kubectl_cpt.cluster import commands

    assert outcome is Outcome.SUCCEEDED
    commands.wait(_kubectl(kubeconfig, context, namespace), name, _seconds(timeout))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in "smh":
        raise typer.BadParameter(f"{text!r}: expected a duration such as 90s, 15m or 2h", param_hint="--timeout")
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]


@app.command("logs")
def logs_command(
    trial: Reference,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As of kubectl logs.")] = False,
    store: Annotated[str | None, typer.Option(help="s3://bucket: for pods that are gone.")] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What a trial printed, also when its pods are long gone."""
    from kubectl_cpt.cluster import commands

    kubectl = _kubectl(kubeconfig, context, namespace)
    commands.logs(kubectl, trial, follow=follow, store=store, environment=os.environ)


@app.command("report")
def report_command(
    name: Name,
    to: Annotated[
        Path | None,
        typer.Option("--to", file_okay=False, help="Fetch page, figures and tables there (AWS_* in the environment)."),
    ] = None,
    opens: Annotated[
        bool, typer.Option("--open", help="Show the page; fetched to EXPERIMENT-report by itself.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Where the page with the figures, the tables and the bill lies; or fetch it, and show it."""
    from kubectl_cpt.cluster import commands

    commands.report(_kubectl(kubeconfig, context, namespace), name, to=to, opens=opens, environment=os.environ)


@app.command("verify")
def verify_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[EXPERIMENT[/TRIAL]]", help="All decisions of one, or one trial's.")
    ] = None,
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", help="Manifests that `kubectl cpt run` carried out, instead of a name."),
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="A folder or s3://bucket/prefix; where the report lies when absent.")
    ] = None,
    output: Annotated[DataOutput, typer.Option("--output", "-o", help="Of the answer.")] = DataOutput.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take decisions anew from the stored tables, and say whether they are the same bytes: exit 7 when not."""
    if (name is None) == (not filename):
        raise typer.BadParameter("name an experiment, or the manifests of a run with --filename", param_hint="NAME")
    if name is not None:
        from kubectl_cpt.cluster import decided

        kubectl = _kubectl(kubeconfig, context, namespace)
        decided.verify(kubectl, name, store=store, output=output, environment=os.environ)
        return
    from kubectl_cpt.verify import verify_run

    if store is None:
        raise typer.BadParameter("name the store of the run", param_hint="--store")
    verify_run(filename or [], store, namespace, output, os.environ)


@app.command("gc")
def gc_command(
    store: Annotated[
        str, typer.Option("--store", help="A folder, or s3://bucket/prefix with AWS_* in the environment.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List it; there is nothing else yet.")] = False,
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", help="Manifests of all `kubectl cpt run` to keep, instead of a cluster."),
    ] = None,
    output: Annotated[DataOutput, typer.Option("--output", "-o", help="Of the list.")] = DataOutput.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List what lies in the store that no trial of the namespace is, or reads; nothing is deleted."""
    from kubectl_cpt import garbage

    if not dry_run:
        raise typer.BadParameter("it only lists: say so, and delete by your store's own tools", param_hint="--dry-run")
    if filename:
        garbage.of_runs(filename, store, namespace, output, os.environ)
    else:
        garbage.of_cluster(_kubectl(kubeconfig, context, namespace), store, namespace, output, os.environ)


@app.command("retry")
def retry_command(
    name: Annotated[str, typer.Argument(metavar="EXPERIMENT[/TRIAL]", help="All failed trials, or one.")],
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make failed trials anew, with a fresh count of attempts; checkpoints are kept."""
    from kubectl_cpt.cluster import commands

    commands.retry(_kubectl(kubeconfig, context, namespace), name)


@app.command("cancel")
def cancel_command(
    trial: Reference,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """End a trial for good; its experiment goes on, and names it in the verdict."""
    from kubectl_cpt.cluster import commands

    commands.cancel(_kubectl(kubeconfig, context, namespace), trial)


@app.command("suspend")
def suspend_command(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Pause: trials save a checkpoint, release their GPUs and wait."""
    from kubectl_cpt.cluster import commands

    commands.suspend(_kubectl(kubeconfig, context, namespace), name, stop=True)


@app.command("resume")
def resume_command(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Go on from the checkpoints."""
    from kubectl_cpt.cluster import commands

    commands.suspend(_kubectl(kubeconfig, context, namespace), name, stop=False)


def main() -> None:
    """Entry point of `kubectl-cpt`; kubectl finds it on the PATH as `kubectl cpt`."""
    app(prog_name="kubectl cpt" if Path(sys.argv[0]).name.startswith("kubectl-") else None)


if __name__ == "__main__":
    main()
