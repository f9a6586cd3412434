// What all tabs share: the address, colors, and the library of charts, which is loaded when first needed.
window.cvx = (() => {
    const parts = {}; // the query string of every tab
    const tabs = ['compare', 'classes', 'film', 'embeddings', 'runs', 'agreement', 'about'];
    const renamed = { points: 'embeddings' }; // what links said before, as in state/tab_link.py
    let active = tabOf(new URLSearchParams(location.search));
    let plain = location.search === ''; // a plain address stays plain until something is chosen
    let quiet = Infinity; // until then what a tab says is what the address, or a click on the tab, has said already
    const SETTLES_MS = 1500, LOST_MS = 30000;
    let steps = 0; // back or forth, so far
    let moving = 0; // until then the page is on its way to where the address is already, and what tabs say is of the past

    function tabOf(query) {
        const said = query.get('tab'), name = renamed[said] ?? said;
        return tabs.includes(name) ? name : 'compare';
    }

    function address() {
        const kept = [...new URLSearchParams(location.search)].filter(([key]) => key.startsWith('__'));
        const tab = active === 'compare' ? '' : 'tab=' + active;
        const query = [new URLSearchParams(kept).toString(), tab, parts[active]].filter(Boolean).join('&');
        return location.pathname + (query && '?' + query) + location.hash;
    }

    function note(push) {
        const next = address();
        if (next === location.pathname + location.search + location.hash) return;
        if (push) history.pushState(null, '', next);
        else history.replaceState(history.state, '', next);
    }

    const shared = {
        // A tab says which query leads back to what it shows; quietly, where that is no step to go back by.
        say(tab, link, quietly) {
            const known = tab in parts;
            parts[tab] = link;
            if (tab !== active || performance.now() < moving) return;
            if (plain && !known && tab === 'compare') return;
            plain = false;
            note(known && !quietly && performance.now() > quiet);
            if (quiet === Infinity) quiet = performance.now();
            else if (performance.now() < quiet) quiet = performance.now() + SETTLES_MS; // a slow server is not through yet
        },
        show(tab) {
            if (tab === active) return;
            active = tab;
            plain = false;
            note(true);
            quiet = performance.now() + SETTLES_MS;
        },
        navigate: null, // set by the component that can tell the server where a visitor went
        arrived(step) {
            if (step !== steps) return;
            moving = 0;
            quiet = performance.now() + SETTLES_MS;
        },
    };

    addEventListener('popstate', () => {
        active = tabOf(new URLSearchParams(location.search));
        quiet = performance.now() + SETTLES_MS;
        plain = location.search === '';
        for (const tab of tabs) delete parts[tab];
        moving = performance.now() + LOST_MS;
        steps += 1;
        shared.navigate?.(location.search.slice(1), steps);
    });

    // Charts
    let library;
    shared.charts = () => {
        const root = (window.gradio_config?.root || '').replace(/\/$/, '');
        library ??= new Promise((done, fail) => {
            const script = document.createElement('script');
            script.src = `${root}/gradio_api/file=${window.cvxVendor}/plotly-gl2d.min.js`;
            script.onload = () => done(window.Plotly || window.moduleName);
            script.onerror = () => fail(new Error('the library of charts did not load'));
            document.head.append(script);
        });
        return library;
    };
    shared.webgl = (() => {
        let known;
        return () => (known ??= Boolean(document.createElement('canvas').getContext('webgl')));
    })();
    shared.color = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();
    shared.layout = (more) => {
        const [ink, soft, line] = ['ink', 'soft', 'line'].map(shared.color);
        const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line, automargin: true };
        return {
            paper_bgcolor: 'rgba(0,0,0,0)',
            plot_bgcolor: 'rgba(0,0,0,0)',
            font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: soft },
            hoverlabel: { bgcolor: shared.color('card'), bordercolor: line, font: { color: ink, size: 12 } },
            margin: { l: 8, r: 12, t: 8, b: 8 },
            showlegend: false,
            ...more,
            xaxis: { ...axis, ...more?.xaxis },
            yaxis: { ...axis, ...more?.yaxis },
        };
    };
    shared.config = { displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false };
    // Ten colors that color-blind people tell apart in pairs with the marks below (after Paul Tol's and Okabe and Ito's).
    shared.palette = () => (document.body.classList.contains('dark')
        ? ['#77aadd', '#ee8866', '#44bb99', '#ffaabb', '#eedd88', '#b197fc', '#99ddff', '#bbcc33', '#dddddd', '#e07b91']
        : ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b58900', '#56b4e9', '#882255', '#332288', '#117733', '#777777']);
    shared.marks = ['circle', 'diamond', 'square', 'cross', 'triangle-up', 'x', 'star', 'triangle-down', 'pentagon', 'hexagram'];
    shared.dashes = ['solid', 'dash', 'dot', 'dashdot', 'longdash', 'longdashdot'];
    // Plotly takes what it writes for a kind of HTML.
    shared.plain = (words) => words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
    shared.data = (element) => {
        const holder = element.querySelector('[data-json]');
        return holder && JSON.parse(holder.dataset.json);
    };
    shared.floats = (text) => new Float32Array(bytes(text).buffer);
    shared.ints = (text) => new Int32Array(bytes(text).buffer);
    function bytes(text) {
        return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    }
    return shared;
})();
