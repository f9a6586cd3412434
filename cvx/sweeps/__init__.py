"""A W&B sweep file run with no account: the same YAML, local trials, a ledger that knows what is done.

`file.py` reads and checks the YAML, `space.py` knows its distributions, `command.py` its macros, `hyperband.py`
its early stop. `ledger.py` keeps the trials in Optuna's storage, `jobs.py` runs one as a process, `running.py` all of
them; `plots.py` draws what came out.
"""
