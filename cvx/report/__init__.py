"""A report of a store: one HTML page, and the same sections as a W&B workspace and report.

outline             the list of sections: title, text, W&B panels
read_store          a store → snapshot, read once for all sections
sections/           snapshot → blocks, one module for each subject
fill                every section with its blocks, once for both renderings
blocks, charts      what sections are made of; drawings as SVG
html, markdown      blocks → page, text
run_page            the page of one run
affordable_measures which expensive measures a report may compute
wandb_panels, wandb_project, wandb_workspace   sections → W&B
"""

from cvx.report.run_page import run_page

__all__ = ["run_page"]
