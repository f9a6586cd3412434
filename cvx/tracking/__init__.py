"""Weights & Biases: stream runs while they train, publish them later, and pull them back as models.

W&B is a transport and a dashboard, never the only copy: everything here is read from a run's folder after the files
have it.

publish          sends what W&B has not got of a run's folder
wandb_sink       follows the folder of a run at work, and begins again where the connection breaks
upload           one run's rows, pictures and final numbers on their way; drawn by pictures
finish           a run's end: samples, models and records sent by artifacts, then checked by verify_upload
wait_for_upload  waits for uploads while they move
run_link         opens the run on W&B and remembers it in the folder's `wandb.json`
best_alias       marks the best version of a model
pull             fetches models into a store
command_run      logs which models a command read, and what it found
account          the account, the project and the timeouts; artifact_names: what things are called on W&B
wandb_process    ends wandb's own process

wandb is imported here and in the report's workspace only, and only when it is used.
"""

from cvx.tracking.account import Target, Timeouts, target, without_credentials
from cvx.tracking.command_run import Findings, log_command
from cvx.tracking.publish import Published, publish
from cvx.tracking.pull import Pulled, pull
from cvx.tracking.run_link import read_link
from cvx.tracking.wandb_sink import Once, WandbSink, wandb_sinks

__all__ = [
    "Findings",
    "Once",
    "Published",
    "Pulled",
    "Target",
    "Timeouts",
    "WandbSink",
    "log_command",
    "publish",
    "pull",
    "read_link",
    "target",
    "wandb_sinks",
    "without_credentials",
]
