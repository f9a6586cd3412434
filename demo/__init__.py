"""The demo: a page that compares gradient maps across models and datasets.

    app.py       flags, and the server: `python demo/app.py`
    page.py      header, tabs and events between them
    film_gif.py  films of runs as a GIF: `python -m demo.film_gif`
    tabs/        one module a tab: its controls, its events, its part of the link
    components/  the HTML, style and script of what tabs show; a folder each, and what several of them share
    backend/     the page's questions to cvx: catalog, explanations, predictions and runs of a store, cached
    serving/     many visitors: fair queue, rate limit, worker threads, memory
    jobs/        work beside the page: training the starter models, pulling from W&B
    state/       a visitor's choices, and the links that hold them
    api/         endpoints for scripts: /models, /samples, /compare and /agreement
    static/      style, script and theme of the whole page
    vendor/      other people's libraries
    space/       files for a Hugging Face Space
    images/      pictures of the page in the documentation

A component hands its script data as JSON; static/page.js is what the scripts share.
"""
