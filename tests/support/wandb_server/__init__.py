"""A stand-in for W&B's backend on 127.0.0.1, for tests only.

It takes what wandb's real client, `wandb sweep`, `wandb agent`, `wandb.Api()` and wandb-workspaces send, keeps it in
memory, and gives it back. What it does not understand it refuses with an HTTP error and keeps in `refused`, so that a
test that ends with `refused == []` has seen nothing swallowed. It can be told to fail, `fail("down" | "slow" | 429 | …)`,
and to take files slowly: `uplink`, in bytes per second.

`server.py` speaks HTTP, `graphql.py` reads queries, `schema.py` answers them, `objects.py` and `artifacts.py` say what
things look like, `rows.py` reads filters and rows, `state.py` keeps everything, `sweeps.py` hands out runs.
"""

from wandb_server.server import KEY, WandbServer

__all__ = ["KEY", "WandbServer"]
