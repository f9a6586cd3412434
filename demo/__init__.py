"""The demo: a page that compares gradient maps across models and datasets.

    app          flags, and the server: `python demo/app.py`
    page         header and tabs, and what moves a visitor between them
    film_gif     films of runs as a GIF: `python -m demo.film_gif`
    tabs/        one module per tab
    api/         endpoints for scripts: /models, /samples, /compare and /agreement
    jobs/        long jobs beside the page: training the starter models, pulling from W&B
    components/  parts that tabs are made of: map grid, image picker, film player, charts
    backend/     what the page asks of cvx: models, maps, predictions, run records
    serving/     many visitors: fair queue, rate limit, worker threads, memory
    state/       a visitor's choices, and the links that hold them
    static/      style, script and theme of the whole page

A component hands its script data as JSON; `static/page.js` is what the scripts share, `vendor/` what others wrote.
"""
