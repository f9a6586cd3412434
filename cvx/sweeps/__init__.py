"""Run a W&B sweep file without an account: the same YAML, local trials, and a ledger of what is done.

`sweep_file.py` reads and checks the YAML, `search_space.py` knows its distributions, `command.py` its macros,
`hyperband.py` its early stop. `trials.py` keeps the trials in Optuna's storage, `trial_process.py` runs one as a
process, `runner.py` all of them; `display.py` shows them, `results.py` and `plots.py` write what came out.
"""
