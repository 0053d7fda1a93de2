"""What runs, what waits, and who needs somebody?"""

from __future__ import annotations

from cpt_dashboards.grafana import Dashboard, Panel, Query, Row, Threshold, Variable
from cpt_dashboards.promql import EXPERIMENT, TRIAL, count, one, rate

CHOSEN = 'namespace=~"$namespace"'
UNFINISHED = f'{CHOSEN}, phase=~"running|queued"'
NAMESPACE = Variable("namespace", "Namespace", "label_values(cpt_experiment_info, namespace)")

OPEN_EXPERIMENT = (
    "/d/cpt-experiment?${datasource:queryparam}&var-namespace=${__data.fields.namespace}"
    "&var-experiment=${__data.fields.experiment}&${__url_time_range}"
)
"""From a table's line to the page of its experiment."""


def condition(type_: str, status: str) -> str:
    """1 for each experiment that has it."""
    return one("cpt_experiment_condition", f'{CHOSEN}, type="{type_}", status="{status}"', *EXPERIMENT)


def trials(phase: str) -> str:
    """How many of each experiment."""
    return one("cpt_experiment_trials", f'{CHOSEN}, phase="{phase}"', *EXPERIMENT)


STEP_SECONDS = f"time() - {one('cpt_train_last_step_timestamp_seconds', CHOSEN, *TRIAL)}"

DASHBOARD = Dashboard(
    name="fleet",
    title="CPT / Fleet",
    description="What runs, what waits, and who needs somebody?",
    variables=(NAMESPACE,),
    parts=(
        Panel(
            "Experiments at work",
            "They have neither succeeded nor failed; those that wait, are suspended or stalled are among them.",
            (Query(count(condition("Succeeded", "Unknown")), "at work"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Stalled",
            "Nothing goes on until somebody acts, or it has failed for good. `kubectl cpt status` says what to do.",
            (Query(count(condition("Stalled", "True")), "stalled"),),
            kind="stat",
            width=4,
            thresholds=(Threshold(1, "red"),),
        ),
        Panel(
            "Trials running",
            "With pods at work.",
            (Query(f"sum({trials('running')}) or vector(0)", "running"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Trials queued",
            "They wait for a place: `parallelTrials`, the cap of GPUs of a namespace, or the cluster's queue.",
            (Query(f"sum({trials('queued')}) or vector(0)", "queued"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "GPUs at work",
            "Of attempts whose pods all run. Pod time times GPUs, divided by time.",
            (Query(f"sum({rate('cpt_trial_gpu_seconds_total', CHOSEN, *TRIAL)}) or vector(0)", "GPUs"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Tokens per second",
            "Of all trials that train, at their last steps.",
            (Query(f"sum({one('cpt_train_tokens_per_second', CHOSEN, *TRIAL)}) or vector(0)", "tokens/s"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Experiments",
            "One line each; its link opens the experiment. Without a stage everything is decided.",
            (
                Query(one("cpt_experiment_progress_ratio", CHOSEN, *EXPERIMENT), "progress", "percentunit"),
                Query(trials("running"), "running"),
                Query(trials("queued"), "queued"),
                Query(trials("succeeded"), "succeeded"),
                Query(trials("failed"), "failed"),
                Query(one("cpt_experiment_tokens_total", CHOSEN, *EXPERIMENT), "tokens trained"),
                Query(one("cpt_experiment_score", f'{CHOSEN}, role="target"', *EXPERIMENT), "target score", "none"),
                Query(one("cpt_experiment_stage", CHOSEN, *EXPERIMENT, "stage")),
                Query(condition("Stalled", "True"), "stalled", "none"),
            ),
            kind="table",
            width=24,
            links={"Open the experiment": OPEN_EXPERIMENT},
        ),
        Row("Over time"),
        Panel(
            "Trials by phase",
            "Running and queued ones of all experiments. Many queued and few running: there is no room.",
            (
                Query(
                    f"sum by (phase) ({one('cpt_experiment_trials', UNFINISHED, *EXPERIMENT, 'phase')})",
                    "{{phase}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "What trials with an attempt do",
            "The reason that column STATUS shows. ImagePullFailed, PodForbidden, ContainerConfigError do not go away by"
            " themselves, Unschedulable does when a node has room.",
            (Query(f"count by (phase) ({one('cpt_trial_phase', CHOSEN, *TRIAL, 'phase')})", "{{phase}}"),),
            stacked=True,
        ),
        Panel(
            "Pods by node",
            "Of trials. A node that is missing here while others are full is worth a look.",
            (Query(f"count by (node) ({one('cpt_trial_pod_info', CHOSEN, 'namespace', 'pod', 'node')})", "{{node}}"),),
            stacked=True,
        ),
        Panel(
            "Tokens per second by experiment",
            "Of trials that train, at their last steps.",
            (
                Query(
                    f"sum by (namespace, experiment) ({one('cpt_train_tokens_per_second', CHOSEN, *TRIAL)})",
                    "{{namespace}}/{{experiment}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "GPUs at work by experiment",
            "Of attempts whose pods all run.",
            (
                Query(
                    f"sum by (namespace, experiment) ({rate('cpt_trial_gpu_seconds_total', CHOSEN, *TRIAL)})",
                    "{{namespace}}/{{experiment}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Attempts beyond the first",
            "Of trials at work: each one lost the work since its last checkpoint. Preemptions, lost nodes and crashes.",
            (
                Query(
                    f"sum by (namespace, experiment) ({one('cpt_trial_attempts_total', CHOSEN, *TRIAL)} - 1)",
                    "{{namespace}}/{{experiment}}",
                ),
            ),
        ),
        Row("Trials with an attempt"),
        Panel(
            "Trials",
            "One line each. Hand-written ones have no experiment; what does not train has no steps.",
            (
                Query(one("cpt_trial_progress_ratio", CHOSEN, *TRIAL), "progress", "percentunit"),
                Query(one("cpt_trial_attempts_total", CHOSEN, *TRIAL), "attempts"),
                Query(one("cpt_train_tokens_per_second", CHOSEN, *TRIAL), "tokens/s"),
                Query(STEP_SECONDS, "since last step", "s"),
                Query(one("cpt_trial_phase", CHOSEN, *TRIAL, "phase")),
            ),
            kind="table",
            width=24,
            links={"Open the experiment": OPEN_EXPERIMENT},
        ),
    ),
)
