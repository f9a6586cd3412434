// Learning curves, parallel coordinates, and tables that a click on a column's name sorts.
let data = null, plots = [];

async function draw() {
    const Plotly = await cvx.charts();
    if (!data) return;
    const colors = cvx.palette(), { drawn } = data;
    const place = element.querySelector('.cvx-curves .cvx-plot');
    const groups = [...new Set(data.curves.map((curve) => curve.group || curve.label))];
    const style = (i) => {
        const at = groups.indexOf(data.curves[i].group || data.curves[i].label);
        return { color: colors[at % colors.length], dash: cvx.dashes[at % cvx.dashes.length] };
    };
    const named = new Set();
    const legend = (curve) => {
        const first = !named.has(curve.group);
        if (curve.group) named.add(curve.group);
        return curve.group ? { name: cvx.plain(curve.group), legendgroup: curve.group, showlegend: first } : { name: cvx.plain(curve.label) };
    };
    const raw = drawn.smoothing ? data.curves.map((curve, i) => ({
        x: curve.x, y: curve.raw, mode: 'lines', type: 'scatter', opacity: 0.25, hoverinfo: 'skip', showlegend: false, line: { ...style(i), width: 1 },
    })) : [];
    const lines = data.curves.map((curve, i) => ({
        x: curve.x, y: curve.y, ...legend(curve), text: cvx.plain(curve.label), mode: curve.x.length < 2 ? 'markers' : 'lines', type: 'scatter', line: { ...style(i), width: 2 },
        hovertemplate: '%{y:.4g}<extra>%{text}</extra>',
    }));
    const narrow = place.clientWidth < 560, height = narrow ? 480 : 360;
    place.style.height = `${height}px`;
    await Plotly.react(place, [...raw, ...lines], cvx.layout({
        height, hovermode: 'closest', dragmode: 'zoom', showlegend: groups.length < 25,
        legend: narrow ? { orientation: 'h', y: -0.2, yanchor: 'top', maxheight: 150, font: { size: 11 } } : { font: { size: 11 } },
        xaxis: { title: { text: data.x }, type: drawn.log_x ? 'log' : 'linear' },
        yaxis: { type: drawn.log_y ? 'log' : 'linear', tickformat: drawn.metric.includes('acc') ? '.0%' : '' },
    }), cvx.config);
    plots = [place];
    const other = element.querySelector('.cvx-parallel .cvx-plot');
    if (!other || !data.parallel.length) return;
    if (!cvx.webgl()) { other.textContent = 'This browser offers no WebGL, which this chart needs; the tables below say the same.'; return; }
    other.style.minWidth = `${118 * data.parallel.length}px`;
    const accuracy = data.parallel.at(-1).values, dark = document.body.classList.contains('dark');
    await Plotly.react(other, [{
        type: 'parcoords', dimensions: data.parallel, labelfont: { color: cvx.color('ink'), size: 12 }, tickfont: { color: cvx.color('soft'), size: 11 },
        rangefont: { color: 'rgba(0,0,0,0)', size: 1 }, line: { color: accuracy, colorscale: dark ? [[0, '#8f7bff'], [0.5, '#2fb5a8'], [1, '#fde725']] : [[0, '#440154'], [0.5, '#21918c'], [1, '#c9a200']], cmin: Math.min(...accuracy), cmax: Math.max(...accuracy) },
    }], cvx.layout({ height: 320, margin: { l: 60, r: 60, t: 50, b: 20 } }), cvx.config);
    plots.push(other);
}

function start() {
    plots.forEach((plot) => window.Plotly.purge(plot)); // a browser allows but a few WebGL canvases
    plots = [];
    data = cvx.data(element);
    const link = element.querySelector('[data-link]');
    if (link) cvx.say('runs', link.dataset.link);
    if (data) draw();
}

watch('value', start);
start();

element.addEventListener('click', (event) => {
    const head = event.target.closest('.cvx-table th');
    if (!head) return;
    const down = head.getAttribute('aria-sort') !== 'descending', at = head.cellIndex;
    for (const other of head.parentElement.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const body = head.closest('table').tBodies[0], value = (row) => row.cells[at].textContent;
    const order = (a, b) => {
        const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
        const by = Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
        return down ? -by : by;
    };
    body.append(...[...body.rows].sort(order));
});
