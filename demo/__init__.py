"""The demo: a page that compares gradient maps across models and datasets.

    app          flags, and the server: `python demo/app.py`
    page         header and tabs, and what moves a visitor between them; theme is what it looks like
    compare      the tab Compare
    class_view   the tab Class view
    agreement    the tab Agreement; its HTML is in matrix
    through_training  embeddings  runs    the tabs of what runs recorded
    about        the tab About; its live examples are in examples
    starter      the empty store: trains the starter models from the page
    pulling      a project of W&B, whose models come into the store in the background
    api          endpoints for scripts: /models, /samples, /compare and /agreement; script answers them
    reel         films of runs as a GIF: `python -m demo.reel`
    later        what the page asks of a tab that is drawn when it is opened
    choice       what a visitor asked for, and the link that says so
    link         the same for the other tabs
    looking      a choice answered: rows of cells
    downloads    a row as a file
    shelf        the store for all visitors: fresh listing, loaded models, results seen before
    answers      what a model predicts for all samples, as its run recorded it or as it says when asked
    history      the store's runs as the page sees them; listing is what else it holds: datasets, models, images
    grid  picker  classes    HTML of rows, of sample strips, of class cards
    film  points  curves     HTML and data of films, of scatter plots, of learning curves
    lanes        who is answered next, and that work ends when its visitor hangs up
    limits       how often and how large a visitor may ask, where the page is public
    turns        the threads that visitors share; memory is what they give back
    markup       escaping, pixels and colour bars as HTML

Each tab with a file of JavaScript beside it (film.js, points.js, curves.js, …) hands it data as JSON; page.js is what
they share, vendor/ what others wrote. Imports point down this list.
"""
