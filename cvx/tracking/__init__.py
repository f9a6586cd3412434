"""Weights & Biases: runs stream while they train, are published later, and come back as models.

W&B is a transport and a dashboard, never the only copy: everything here is read from a run's folder after the files
have it. `publish.py` sends what W&B has not got of a folder; `sink.py` lets it follow the folder of a run at work,
and begin again where the connection breaks. What it reads goes through the one `Upload` in `upload.py`, which draws
with `pictures.py`; `ending.py` sends models and records by `artifacts.py`, lets `waiting.py` wait for uploads while
they move, and checks by `arrival.py` that what was recorded is there; `best.py` settles which model is best.
`pull.py` fetches models into a store, `looking.py` tells W&B which of them a command looked at and what it found.
`account.py` knows whether there is an account, `names.py` what things are called there, `connection.py` opens the run
and remembers it in the folder's `wandb.json`.

wandb is imported here and in the report's workspace only, and only when it is used.
"""

from cvx.tracking.account import Target, Timeouts, target
from cvx.tracking.command_run import Findings, log_command
from cvx.tracking.publish import Published, publish
from cvx.tracking.pull import Pulled, pull
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
    "target",
    "wandb_sinks",
]
