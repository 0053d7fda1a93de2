"""What does it cost, what was saved, and do the GPUs work?"""

from __future__ import annotations

from cpt_dashboards.fleet import NAMESPACE, OPEN_EXPERIMENT
from cpt_dashboards.grafana import Dashboard, Panel, Query, Row, Variable
from cpt_dashboards.promql import CHOSEN, EXPERIMENT, TRIAL, one, rate

_BY_EXPERIMENT = "{{namespace}}/{{experiment}}"


def total(metric: str) -> str:
    """Of each experiment since it exists."""
    return one(metric, CHOSEN, *EXPERIMENT)


def grown(metric: str) -> str:
    """In the time that is looked at, of all experiments together."""
    return f"sum(max by (namespace, experiment) (increase({metric}{{{CHOSEN}}}[$__range])))"


GPU_HOURS = f"{total('cpt_experiment_gpu_seconds_total')} / 3600"
SAVED = f"1 - {total('cpt_experiment_tokens_total')} / ({total('cpt_experiment_tokens_naive_total')} > 0)"
TOKENS_USED = f"{total('cpt_experiment_tokens_total')} / {total('cpt_experiment_budget_tokens')}"
GPUS_USED = f"{total('cpt_experiment_gpu_seconds_total')} / {total('cpt_experiment_budget_gpu_seconds')}"


def of_trials(metric: str) -> str:
    """A metric of NVIDIA's exporter by trial.

    It names the pod that holds the GPU in `pod`, or, where Prometheus kept that word for the exporter's own pod, in
    `exported_pod`; cpt_trial_pod_info knows whose pod it is.
    """
    renamed = (
        f'label_replace(label_replace({metric}{{exported_pod!=""}}, "pod", "$1", "exported_pod", "(.+)"),'
        ' "namespace", "$1", "exported_namespace", "(.+)")'
    )
    plain = f'{metric}{{exported_pod="", pod!=""}}'
    by_pod = f"avg by (namespace, pod) ({renamed} or {plain})"
    pods = one("cpt_trial_pod_info", CHOSEN, *TRIAL, "pod")
    return f"avg by (namespace, experiment, trial) ({pods} * on (namespace, pod) group_left () {by_pod})"


DASHBOARD = Dashboard(
    name="cost",
    title="CPT / Cost and GPUs",
    description="What does it cost, what was saved, and do the GPUs work?",
    variables=(
        NAMESPACE,
        Variable("experiment", "Experiment", 'label_values(cpt_experiment_info{namespace=~"$namespace"}, experiment)'),
        Variable("price", "Price of a GPU-hour", "1", is_text=True),
    ),
    range="now-7d",
    parts=(
        Panel(
            "GPU-hours",
            "In the time that is looked at: pod time times GPUs, lost attempts too. An attempt counts when it ends.",
            (Query(f"{grown('cpt_experiment_gpu_seconds_total')} / 3600", "GPU-hours"),),
            kind="stat",
            width=5,
        ),
        Panel(
            "Price",
            "Of these GPU-hours, by the price above; 1 is none of your prices, it shows the hours.",
            (Query(f"{grown('cpt_experiment_gpu_seconds_total')} / 3600 * $price", "price"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Tokens trained",
            "In the time that is looked at.",
            (Query(grown("cpt_experiment_tokens_total"), "tokens"),),
            kind="stat",
            width=5,
        ),
        Panel(
            "Tokens reused",
            "In the time that is looked at: equal trials had trained them before.",
            (Query(grown("cpt_experiment_tokens_reused_total"), "tokens"),),
            kind="stat",
            width=5,
        ),
        Panel(
            "GPUs at work",
            "Now, of attempts whose pods all run.",
            (Query(f"sum({rate('cpt_trial_gpu_seconds_total', CHOSEN, *TRIAL)}) or vector(0)", "GPUs"),),
            kind="stat",
            width=5,
        ),
        Panel(
            "Bills",
            "Since each experiment exists. Saved: beside one separate run for each arm and duration.",
            (
                Query(GPU_HOURS, "GPU-hours"),
                Query(f"{GPU_HOURS} * $price", "price"),
                Query(total("cpt_experiment_tokens_total"), "tokens trained"),
                Query(total("cpt_experiment_tokens_reused_total"), "tokens reused"),
                Query(total("cpt_experiment_tokens_naive_total"), "tokens of separate runs"),
                Query(SAVED, "saved", "percentunit"),
                Query(TOKENS_USED, "budget: tokens", "percentunit"),
                Query(GPUS_USED, "budget: GPU-hours", "percentunit"),
            ),
            kind="table",
            width=24,
            links={"Open the experiment": OPEN_EXPERIMENT},
        ),
        Row("Over time"),
        Panel(
            "GPUs at work by experiment",
            "Of attempts whose pods all run.",
            (
                Query(
                    f"sum by (namespace, experiment) ({rate('cpt_trial_gpu_seconds_total', CHOSEN, *TRIAL)})",
                    _BY_EXPERIMENT,
                ),
            ),
            stacked=True,
        ),
        Panel(
            "GPU-hours by experiment",
            "Since each experiment exists.",
            (Query(GPU_HOURS, _BY_EXPERIMENT),),
        ),
        Panel(
            "Budgets",
            "Part that is used. At 100 % trials save a checkpoint and wait; raised, they go on.",
            (
                Query(TOKENS_USED, f"tokens: {_BY_EXPERIMENT}"),
                Query(GPUS_USED, f"GPU-hours: {_BY_EXPERIMENT}"),
            ),
            unit="percentunit",
        ),
        Row("GPUs; the last three need NVIDIA's DCGM exporter"),
        Panel(
            "MFU",
            "Part of the devices' bf16 peak, full attention counted; the mean of an experiment's trials.",
            (
                Query(
                    f"avg by (namespace, experiment) ({one('cpt_train_mfu_full_attention_ratio', CHOSEN, *TRIAL)})",
                    _BY_EXPERIMENT,
                ),
            ),
            unit="percentunit",
            width=6,
        ),
        Panel(
            "Utilisation",
            "Part of the time in which a GPU did anything; the mean of a trial's GPUs.",
            (Query(of_trials("DCGM_FI_DEV_GPU_UTIL"), "{{trial}}"),),
            unit="percent",
            width=6,
        ),
        Panel(
            "Memory",
            "In use; the mean of a trial's GPUs.",
            (Query(f"{of_trials('DCGM_FI_DEV_FB_USED')} * 1048576", "{{trial}}"),),
            unit="bytes",
            width=6,
        ),
        Panel(
            "Power",
            "The mean of a trial's GPUs. Utilisation may be 100 % while power says that a GPU mostly waits.",
            (Query(of_trials("DCGM_FI_DEV_POWER_USAGE"), "{{trial}}"),),
            unit="watt",
            width=6,
        ),
    ),
)
