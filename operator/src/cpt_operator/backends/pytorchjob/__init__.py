"""One PyTorchJob of training-operator v1.9 per attempt: how it is rendered, and when it has ended.

What v1.9 does by itself is not what a trial needs: it re-creates any missing pod whatever the restart policy, its
deadline does not fire, its retry count is not kept, and `Running` speaks of the master alone. So the job is made to do
nothing but hold pods (`restartPolicy: Never`, no TTL, no deadline), and an attempt ends at the first of `ends.ENDS`.
"""

from cpt_operator.backends.pytorchjob.manifest import GPUS_ANNOTATION, GRACE_SECONDS, render
from cpt_operator.backends.pytorchjob.observation import observe
from cpt_operator.backends.pytorchjob.view import FORBIDDEN_SECONDS, is_finished, may_still_save

__all__ = [
    "FORBIDDEN_SECONDS",
    "GPUS_ANNOTATION",
    "GRACE_SECONDS",
    "is_finished",
    "may_still_save",
    "observe",
    "render",
]
