"""The demo: a page that compares gradient maps across models and datasets.

    app          layout, wiring, flags: `python demo/app.py`
    compare      the tab Compare
    class_view   the tab Class view
    about        the tab About
    starter      the empty store: trains the starter models from the page
    api          endpoints for scripts: /models and /compare
    choice       what a visitor asked for, and the link that says so
    looking      a choice answered: rows of cells
    shelf        the store as the page sees it: fresh listing, loaded models, results seen before
    grid  picker  classes    HTML of rows, of sample strips, of class cards
    markup       escaping, pixels and colour bars as HTML

Imports point down this list.
"""
