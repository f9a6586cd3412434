"""One store → a report: a page to hand in, and the same sections as a W&B workspace and report.

sections   the one list of sections that both renderings read
study      what a store holds, gathered once
blocks     what a section of the page is made of
numbers, pictures, films, alike, lesson   store → blocks, section by section
content    sections filled with blocks, once for both renderings
plots      drawings whose ink follows the page's colors
html       blocks → one self-contained page
markdown   blocks → what can be said without pictures
workspace  sections → W&B
"""
