"""One store → a report: a page to hand in, and the same sections as a W&B workspace and report.

sections   the one list of sections that both renderings read
study      what a store holds, gathered once
blocks     what a section of the page is made of
numbers, judged, pictures, films, alike, lesson   store → blocks, section by section
content    sections filled with blocks, once for both renderings
plots      drawings whose ink follows the page's colors
html       blocks → one self-contained page
markdown   blocks → what can be said without pictures
single     the page of one run
workspace  sections → W&B
"""

from cvx.report.run_page import run_page

__all__ = ["run_page"]
