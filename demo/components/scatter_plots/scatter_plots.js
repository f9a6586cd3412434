// Scatter plots side by side: one point is the same image in all of them, and lights up in all of them.
const MOST = 60, BLOCK = 64, DIM = 0.08;
let data = null, plots = [], chosen = null, tip = null, mode = 'lasso', hovered = -1;
const blocks = new Map();

function unpack(raw) {
    const runs = raw.runs.map((run) => ({
        ...run,
        preds: cvx.ints(run.preds),
        confidences: cvx.floats(run.confidences),
        layouts: Object.fromEntries(Object.entries(run.layouts).map(([name, xy]) => [name, cvx.floats(xy)])),
    }));
    return { ...raw, labels: cvx.ints(raw.labels), rows: cvx.ints(raw.rows), runs };
}

const classStyle = (index) => {
    const colors = cvx.palette();
    return { color: colors[index % colors.length], mark: cvx.marks[(index + Math.floor(index / colors.length)) % cvx.marks.length] };
};

function marker(run) {
    const { labels } = data, [good, bad] = [cvx.palette()[0], cvx.palette()[1]], many = labels.length > 3000;
    const base = { size: many ? 5 : 7, opacity: 0.85, line: { width: 0 } };
    if (data.color === 'confidence') {
        return {
            ...base, color: run.confidences, colorscale: 'Cividis', cmin: 0, cmax: 1, symbol: 'circle',
            colorbar: { thickness: 8, len: 0.6, tickformat: '.0%', outlinewidth: 0, x: 1, xpad: 2 },
        };
    }
    if (data.color === 'correct') {
        const right = Array.from(labels, (label, i) => label === run.preds[i]);
        return { ...base, color: right.map((one) => (one ? good : bad)), symbol: right.map((one) => (one ? 'circle' : 'x')) };
    }
    const styles = data.classes.map((_, i) => classStyle(i));
    const by = data.color === 'label' ? labels : run.preds;
    return { ...base, color: Array.from(by, (one) => styles[one].color), symbol: Array.from(by, (one) => styles[one].mark) };
}

function trace(run) {
    const xy = run.layouts[data.layout] || new Float32Array(0), n = xy.length / 2;
    const x = new Float32Array(n), y = new Float32Array(n);
    for (let i = 0; i < n; i++) { x[i] = xy[2 * i]; y[i] = xy[2 * i + 1]; }
    return {
        x, y, type: cvx.webgl() ? 'scattergl' : 'scatter', mode: 'markers', marker: marker(run), hoverinfo: 'none',
        selectedpoints: chosen, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: DIM } },
    };
}

async function draw() {
    const Plotly = await cvx.charts();
    if (!data) return;
    plots = [...element.querySelectorAll('.cvx-panel')].map((panel) => panel.querySelector('.cvx-plot'));
    for (const [i, run] of data.runs.entries()) {
        const plot = plots[i], bare = { visible: false };
        plot.style.height = `${plot.clientWidth < 480 ? Math.max(260, plot.clientWidth) : 480}px`;
        const layout = cvx.layout({
            dragmode: mode, hovermode: 'closest', hoverdistance: 12,
            xaxis: bare, yaxis: { ...bare, scaleanchor: 'x' }, uirevision: data.layout, margin: { l: 4, r: 4, t: 4, b: 4 },
        });
        await Plotly.react(plot, [trace(run)], layout, { ...cvx.config, scrollZoom: mode === 'pan' });
        element.querySelectorAll('.cvx-trust')[i].textContent = run.trust[data.layout] || '';
        if (plot.dataset.heard) continue;
        plot.dataset.heard = 'yes';
        plot.on('plotly_hover', (event) => light(event.points[0].pointIndex, event.event));
        plot.on('plotly_unhover', () => light(-1));
        plot.on('plotly_click', (event) => look(event.points[0].pointIndex));
        plot.on('plotly_selected', (event) => { if (event) select(event.points.map((point) => point.pointIndex), 'lasso'); });
        plot.on('plotly_deselect', () => select(null));
        plot.on('plotly_relayout', () => light(-1));
    }
    key();
}

// The key doubles as a way to select classes without a mouse.
function key() {
    const list = element.querySelector('.cvx-key-list');
    const entries = { label: data.classes, prediction: data.classes, correct: ['right', 'wrong'], confidence: [] }[data.color];
    list.replaceChildren(...entries.map((name, i) => {
        const button = document.createElement('button'), sign = document.createElement('i');
        const style = data.color === 'correct' ? { color: cvx.palette()[i], mark: ['circle', 'x'][i] } : classStyle(i);
        button.type = 'button';
        sign.style.color = style.color;
        sign.textContent = SIGNS[style.mark];
        sign.setAttribute('aria-hidden', 'true');
        button.append(sign, name);
        button.dataset.entry = i;
        button.setAttribute('aria-pressed', 'false');
        return button;
    }));
}
const SIGNS = {
    circle: '●', diamond: '◆', square: '■', cross: '✚', 'triangle-up': '▲', x: '✖', star: '★', 'triangle-down': '▼', pentagon: '⬟', hexagram: '✶',
};

function members(entry) {
    const found = [];
    for (let i = 0; i < data.labels.length; i++) {
        const same = data.color === 'label' ? data.labels[i] === entry
            : data.color === 'prediction' ? data.runs.some((run) => run.preds[i] === entry)
                : data.runs.some((run) => (run.preds[i] === data.labels[i]) === (entry === 0));
        if (same) found.push(i);
    }
    return found;
}

function quick(which) {
    if (which === 'none') return select(null);
    const found = [];
    for (let i = 0; i < data.labels.length; i++) {
        const preds = data.runs.map((run) => run.preds[i]);
        const yes = which === 'wrong' ? preds.some((pred) => pred !== data.labels[i]) : preds.some((pred) => pred !== preds[0]);
        if (yes) found.push(i);
    }
    return select(found);
}

async function select(indices, how) {
    chosen = indices && indices.length ? indices : null;
    if (how !== 'key') for (const one of element.querySelectorAll('.cvx-key-list button')) one.setAttribute('aria-pressed', 'false');
    const Plotly = await cvx.charts();
    for (const plot of plots) {
        if (how !== 'lasso' && plot.layout.selections?.length) await Plotly.relayout(plot, { selections: [] }); // which forgets the selected points, too
        await Plotly.restyle(plot, { selectedpoints: [chosen] });
    }
    gallery(indices);
}

async function gallery(indices) {
    const place = element.querySelector('.cvx-chosen');
    if (!indices) { place.replaceChildren(); return; }
    const title = document.createElement('h3');
    title.textContent = `${indices.length} of ${data.labels.length} images selected`;
    const shown = indices.filter((i) => data.rows[i] >= 0).slice(0, MOST);
    const sprite = shown.length ? await server.thumbs({ dataset: data.dataset, rows: shown.map((i) => data.rows[i]) }) : '';
    const strip = document.createElement('div');
    strip.className = 'cvx-thumbs cvx-wide';
    strip.style.setProperty('--sprite', `url(${sprite})`);
    strip.style.setProperty('--count', shown.length);
    strip.append(...shown.map((i, at) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.dataset.point = i;
        button.title = words(i).join('\n');
        button.setAttribute('aria-label', `compare on image ${data.rows[i] + 1}: ${words(i).join(', ')}`);
        button.style.backgroundPosition = `${(100 * at) / Math.max(shown.length - 1, 1)}% 0`;
        return button;
    }));
    const more = document.createElement('p');
    more.className = 'cvx-small';
    more.textContent = (indices.length > shown.length ? `The first ${shown.length} are shown. ` : '') + 'Click one to compare the models on it.';
    place.replaceChildren(title, counts(indices), strip, more);
}

function counts(indices) {
    const table = document.createElement('table'), body = table.createTBody(), head = table.createTHead().insertRow();
    table.className = 'cvx-table';
    for (const name of ['class', 'images', ...data.runs.map((run) => `right: ${run.label}`)]) {
        const cell = document.createElement('th');
        cell.scope = 'col';
        cell.textContent = name;
        head.append(cell);
    }
    const groups = new Map();
    for (const i of indices) {
        if (!groups.has(data.labels[i])) groups.set(data.labels[i], []);
        groups.get(data.labels[i]).push(i);
    }
    for (const [label, group] of [...groups].sort((a, b) => b[1].length - a[1].length)) {
        const row = body.insertRow();
        row.insertCell().textContent = data.classes[label];
        row.insertCell().textContent = group.length;
        for (const run of data.runs) row.insertCell().textContent = group.filter((i) => run.preds[i] === label).length;
    }
    const scroll = document.createElement('div');
    scroll.className = 'cvx-scroll';
    scroll.tabIndex = 0;
    scroll.setAttribute('role', 'region');
    scroll.setAttribute('aria-label', 'selected images by class');
    scroll.append(table);
    return scroll;
}

function words(i) {
    const label = data.classes[data.labels[i]];
    const said = data.runs.map((run) => {
        const sign = run.preds[i] === data.labels[i] ? '✓' : '✗';
        return `${sign} ${run.label}: ${data.classes[run.preds[i]]}, ${(100 * run.confidences[i]).toFixed(1)}\u00a0%`;
    });
    return [`label ${label}`, ...said];
}

// Pictures come in blocks, so that most of what the pointer passes is here already.
function block(number) {
    if (!blocks.has(number)) {
        const first = number * BLOCK, rows = Array.from({ length: BLOCK }, (_, i) => first + i);
        const image = server.thumbs({ dataset: data.dataset, rows }).then((uri) => new Promise((done) => {
            const sprite = new Image();
            sprite.onload = () => done(sprite);
            sprite.onerror = () => done(null);
            sprite.src = uri;
        }));
        blocks.set(number, image);
    }
    return blocks.get(number);
}

function light(i, event) {
    hovered = i;
    for (const [p, plot] of plots.entries()) {
        const ring = plot.querySelector('.cvx-ring') || plot.appendChild(Object.assign(document.createElement('i'), { className: 'cvx-ring' }));
        const xy = data.runs[p].layouts[data.layout], axes = plot._fullLayout;
        ring.hidden = i < 0 || !xy || !axes?.xaxis;
        if (ring.hidden) continue;
        const x = axes.xaxis.l2p(xy[2 * i]), y = axes.yaxis.l2p(xy[2 * i + 1]);
        ring.hidden = x < 0 || y < 0 || x > axes.xaxis._length || y > axes.yaxis._length;
        ring.style.left = `${x + axes.xaxis._offset}px`;
        ring.style.top = `${y + axes.yaxis._offset}px`;
    }
    tooltip(i, event);
}

async function tooltip(i, event) {
    tip ??= document.body.appendChild(Object.assign(document.createElement('div'), { className: 'cvx-tip', hidden: true }));
    tip.hidden = i < 0;
    if (i < 0) return;
    const text = document.createElement('div');
    text.append(...words(i).map((line) => Object.assign(document.createElement('p'), { textContent: line })));
    tip.replaceChildren(text);
    if (event) {
        tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - 270))}px`;
        tip.style.top = `${event.clientY + 14 + 150 > innerHeight ? event.clientY - 164 : event.clientY + 14}px`;
    }
    const row = data.rows[i];
    if (row < 0) return;
    const sprite = await block(Math.floor(row / BLOCK));
    if (!sprite || hovered !== i) return;
    const canvas = document.createElement('canvas'), side = sprite.naturalHeight;
    canvas.width = canvas.height = side;
    canvas.className = 'cvx-pixels';
    canvas.getContext('2d').drawImage(sprite, -(row % BLOCK) * side, 0);
    tip.prepend(canvas);
}

function look(i) {
    if (data.rows[i] < 0) return;
    light(-1);
    trigger('look', { dataset: data.dataset, row: data.rows[i] });
}

function say() {
    const base = element.querySelector('[data-link]')?.dataset.link, more = new URLSearchParams();
    if (base === undefined) return;
    if (data.layout !== 'tsne') more.set('embeddings.layout', data.layout);
    if (data.color !== 'label') more.set('embeddings.color', data.color);
    cvx.say('embeddings', [base, more.toString()].filter(Boolean).join('&'));
}

cvx.recolor = (layout, color) => {
    if (!data) return;
    Object.assign(data, { layout, color });
    say();
    draw();
};

function start() {
    window.Plotly && plots.forEach((plot) => window.Plotly.purge(plot)); // a browser allows but a few WebGL canvases
    const before = data?.dataset, raw = cvx.data(element);
    data = raw && unpack(raw);
    plots = [];
    chosen = null;
    if (data?.dataset !== before) blocks.clear();
    if (!data) return;
    say();
    draw();
}

watch('value', start);
start();

element.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button || !data) return;
    if (button.dataset.select) quick(button.dataset.select);
    if (button.dataset.point) look(Number(button.dataset.point));
    if (button.dataset.mode) {
        mode = button.dataset.mode;
        for (const one of element.querySelectorAll('[data-mode]')) one.setAttribute('aria-pressed', one === button);
        draw();
    }
    if (button.dataset.entry) {
        const on = button.getAttribute('aria-pressed') !== 'true';
        button.setAttribute('aria-pressed', on);
        const pressed = [...element.querySelectorAll('.cvx-key-list [aria-pressed="true"]')].map((one) => Number(one.dataset.entry));
        select(pressed.length ? [...new Set(pressed.flatMap(members))].sort((a, b) => a - b) : null, 'key');
    }
});
element.addEventListener('pointerleave', () => data && light(-1));
