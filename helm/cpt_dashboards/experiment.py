"""What does this experiment learn, how far is it, and is it in trouble?"""

from __future__ import annotations

from cpt_dashboards.grafana import Dashboard, Panel, Query, Row, Variable
from cpt_dashboards.promql import one, rate, titled

EXPERIMENT = 'namespace="$namespace", experiment="$experiment"'
CHOSEN = f'{EXPERIMENT}, trial=~"$trial"'

_ANSWER = """The answer, with its intervals, is in the status and in the report. Curves of single runs decide nothing.

    kubectl cpt status $experiment --namespace $namespace
    kubectl cpt report $experiment --namespace $namespace --open
"""


def value(metric: str) -> str:
    """Of the experiment, as one number."""
    return f"max({metric}{{{EXPERIMENT}}})"


def curve(title: str, description: str, metric: str, *labels: str, unit: str = "none", steep: bool = False) -> Panel:
    """A line for each trial that runs."""
    legend = " ".join(["{{title}}", *(f"{{{{{label}}}}}" for label in labels)])
    return Panel(
        title, description, (Query(titled(metric, CHOSEN, *labels), legend),), unit=unit, logarithmic=steep, width=12
    )


SAVED = f"1 - {value('cpt_experiment_tokens_total')} / ({value('cpt_experiment_tokens_naive_total')} > 0)"
AT_RISK = (
    f"{titled('cpt_train_step', CHOSEN)}"
    f" - on (namespace, trial) group_left () {one('cpt_train_checkpoint_committed_step', CHOSEN, 'namespace', 'trial')}"
)
WAITED = rate("cpt_train_data_wait_seconds_total", CHOSEN, "namespace", "trial")
SINCE_STEP = f"time() - {one('cpt_train_last_step_timestamp_seconds', CHOSEN, 'trial')}"

DASHBOARD = Dashboard(
    name="experiment",
    title="CPT / Experiment",
    description="What does this experiment learn, how far is it, and is it in trouble?",
    variables=(
        Variable("namespace", "Namespace", "label_values(cpt_experiment_info, namespace)", many=False),
        Variable(
            "experiment",
            "Experiment",
            'label_values(cpt_experiment_info{namespace="$namespace"}, experiment)',
            many=False,
        ),
        Variable("trial", "Trial", f"label_values(cpt_trial_info{{{EXPERIMENT}}}, trial)"),
    ),
    parts=(
        Panel(
            "Conditions",
            "Those that are true. Stalled: nothing goes on until somebody acts. Succeeded: it is finished.",
            (Query(one("cpt_experiment_condition", f'{EXPERIMENT}, status="True"', "type"), "{{type}}"),),
            kind="stat",
            width=4,
            names=True,
        ),
        Panel(
            "Stage",
            "Of the recipe; none when everything is decided.",
            (Query(one("cpt_experiment_stage", EXPERIMENT, "stage"), "{{stage}}"),),
            kind="stat",
            width=4,
            names=True,
        ),
        Panel(
            "Progress",
            "Part of the tokens that are planned so far; a decision may add more.",
            (Query(value("cpt_experiment_progress_ratio"), "progress"),),
            kind="stat",
            unit="percentunit",
            width=3,
        ),
        Panel(
            "Trials by phase",
            "Reused ones are among the succeeded.",
            (Query(one("cpt_experiment_trials", EXPERIMENT, "phase"), "{{phase}}"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Score of the best arm",
            "On target and retention, in the suite's unit: bits per byte of held-out text, where less is better, or"
            " points. None before the first decision.",
            (Query(one("cpt_experiment_score", EXPERIMENT, "suite", "role"), "{{role}}: {{suite}}"),),
            kind="stat",
            unit="none",
            width=4,
        ),
        Panel(
            "Tokens saved",
            "So far, beside one separate run for each arm and duration; negative where controls cost more.",
            (Query(SAVED, "saved"),),
            kind="stat",
            unit="percentunit",
            width=3,
        ),
        Panel("The answer", "Where to read it.", kind="text", text=_ANSWER, width=24),
        Row("What is learned, by runs that are at work"),
        curve(
            "Held-out text",
            "Bits per byte of each held-out text at the latest score: less is better. The first digits of its digest"
            " name the text; `kubectl cpt status` knows which is which.",
            "cpt_train_held_out_bits_per_byte",
            "text",
        ),
        curve(
            "Suites",
            "The small suites of `evaluation.curves`, asked while a run trains. Decisions ask whole suites.",
            "cpt_train_suite_score",
            "suite",
        ),
        curve(
            "Loss",
            "Nats per valid token of the last step. A branch falls while its rate does.",
            "cpt_train_loss",
        ),
        curve(
            "Loss by dataset",
            "Nats per valid token of the last step: what the run gets used to, and what it may forget.",
            "cpt_train_dataset_loss",
            "dataset",
        ),
        curve("Learning rate", "Constant on a trunk, falling on a branch.", "cpt_train_learning_rate", steep=True),
        curve(
            "Gradient norm",
            "Before clipping. A norm that grows for long says that the rate is too high.",
            "cpt_train_gradient_norm",
            steep=True,
        ),
        curve(
            "Epochs by dataset",
            "How often each dataset was read. Repeating pays little beyond four times.",
            "cpt_train_dataset_epochs",
            "dataset",
        ),
        Panel(
            "Spikes and skipped steps",
            "Of the present attempts: losses far above those before, and steps whose gradient was not finite.",
            (
                Query(titled("cpt_train_loss_spikes_total", CHOSEN), "spikes: {{title}}"),
                Query(titled("cpt_train_skipped_steps_total", CHOSEN), "skipped: {{title}}"),
            ),
            width=12,
        ),
        Row("How fast, and how safe"),
        curve("Tokens per second", "Of the last step, all ranks.", "cpt_train_tokens_per_second", unit="short"),
        curve(
            "MFU",
            "Part of the devices' bf16 peak, full attention counted; only of devices whose peak is known.",
            "cpt_train_mfu_full_attention_ratio",
            unit="percentunit",
        ),
        Panel(
            "Waiting for data",
            "Part of the time in which steps wait for data. It should be next to nothing.",
            (Query(WAITED, "{{trial}}"),),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Time since the last step",
            "It grows while a run scores held-out text, saves at its end, or hangs. A hang ends by itself after five"
            " minutes or ten steps, and the trial is tried again.",
            (Query(SINCE_STEP, "{{trial}}"),),
            unit="s",
            width=12,
        ),
        Panel(
            "Steps at risk",
            "Made since the last committed checkpoint: what an interruption now would cost.",
            (Query(AT_RISK, "{{title}}"),),
            width=8,
        ),
        Panel(
            "Checkpoints: seconds",
            "How long the last save held up training, and how long it took to reach the store after that.",
            (
                Query(titled("cpt_train_checkpoint_block_seconds", CHOSEN), "held up: {{title}}"),
                Query(titled("cpt_train_checkpoint_flush_seconds", CHOSEN), "flushed: {{title}}"),
            ),
            unit="s",
            width=8,
        ),
        Panel(
            "Checkpoints: failed saves",
            "Of the present attempts. Three in a row end the attempt.",
            (Query(titled("cpt_train_checkpoint_failures_total", CHOSEN), "{{title}}"),),
            width=8,
        ),
        Row("Trials with an attempt"),
        Panel(
            "Trials",
            "What each does, on how much of its tokens it is, and how often it was begun.",
            (
                Query(one("cpt_trial_progress_ratio", CHOSEN, "trial"), "progress", "percentunit"),
                Query(one("cpt_trial_attempts_total", CHOSEN, "trial"), "attempts"),
                Query(one("cpt_trial_tokens_total", CHOSEN, "trial"), "tokens"),
                Query(one("cpt_trial_phase", CHOSEN, "trial", "phase")),
                Query(one("cpt_trial_info", CHOSEN, "trial", "type", "stage", "title")),
            ),
            kind="table",
            width=24,
        ),
    ),
)
