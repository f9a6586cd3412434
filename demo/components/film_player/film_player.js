// The film: a slider over epochs moves every run's map, and a line on the curve; nothing is asked of the server.
const SPACE = ' ';
let frame = 0, timer = null, data = null, plot = null;
// What the browser alone knows, and the link says: the epoch, if it is not the last, and the metric of the curve.
let asked = {};

function recall() {
    const said = new URLSearchParams(location.search), epoch = said.get('film.epoch');
    asked = { epoch: /^\d{1,6}$/.test(epoch ?? '') ? Number(epoch) : Infinity, metric: said.get('film.metric') };
}
recall();
addEventListener('popstate', recall);

function note(quietly) {
    const base = element.querySelector('[data-link]')?.dataset.link, more = new URLSearchParams();
    if (base === undefined) return;
    const select = element.querySelector('.cvx-metric');
    if (data && frame < data.epochs.length - 1) more.set('film.epoch', data.epochs[frame]);
    if (data && select?.selectedIndex > 0) more.set('film.metric', select.value);
    cvx.say('film', [base, more.toString()].filter(Boolean).join('&'), quietly);
}

function newest(epochs, epoch) {
    let found = 0;
    epochs.forEach((one, i) => { if (one <= epoch) found = i; });
    return found;
}

function show(next) {
    frame = Math.max(0, Math.min(next, data.epochs.length - 1));
    const epoch = data.epochs[frame];
    const slider = element.querySelector('.cvx-player input');
    slider.value = frame;
    slider.setAttribute('aria-valuetext', `epoch ${epoch}`);
    element.querySelector('.cvx-player output').textContent = `epoch ${epoch} of ${data.epochs.at(-1)}`;
    for (const run of data.runs) {
        const card = element.querySelector(`.cvx-reel[data-run="${CSS.escape(run.name)}"]`);
        const own = newest(run.epochs, epoch);
        for (const canvas of card.querySelectorAll('canvas')) paint(canvas, run.sprite, own);
        card.dataset.epoch = run.epochs[own];
        card.querySelector('.cvx-scale').textContent = `scale ends at ${run.limits[own]}`;
        const late = run.epochs[own] === epoch ? '' : ` (its map after epoch ${run.epochs[own]})`;
        card.querySelector('.cvx-facts-line').textContent = run.facts[own] + late;
        card.querySelector('.cvx-zero').textContent = run.zeros[own];
    }
    mark(epoch);
}

function paint(canvas, sprite, place) {
    if (!sprite?.complete) return;
    const { width, height } = canvas;
    canvas.getContext('2d').drawImage(sprite, place * width, 0, width, height, 0, 0, width, height);
}

function mark(epoch) {
    const axis = plot?._fullLayout?.xaxis;
    if (!axis) return;
    let line = plot.querySelector('.cvx-now');
    if (!line) {
        line = document.createElement('i');
        line.className = 'cvx-now';
        plot.append(line);
    }
    const size = plot._fullLayout._size;
    line.style.cssText = `left:${axis._offset + axis.l2p(epoch)}px;top:${size.t}px;height:${size.h}px`;
}

function play(on) {
    clearInterval(timer);
    timer = null;
    const button = element.querySelector('.cvx-play');
    if (!button) return;
    button.textContent = on ? '❚❚' : '▶';
    button.setAttribute('aria-label', on ? 'stop' : 'play');
    if (!on) return;
    if (frame === data.epochs.length - 1) show(0);
    const rate = Number(element.querySelector('.cvx-speed').value);
    timer = setInterval(() => {
        if (!element.isConnected || element.offsetParent === null || frame === data.epochs.length - 1) stop();
        else show(frame + 1);
    }, 1000 / rate);
}

function toggle() {
    if (timer) stop();
    else play(true);
}

function stop() {
    play(false);
    note(true);
}

async function curve() {
    const Plotly = await cvx.charts();
    plot = element.querySelector('.cvx-curve .cvx-plot');
    if (!plot) return;
    const metric = element.querySelector('.cvx-metric').value, colors = cvx.palette();
    const traces = data.runs.map((run, i) => ({
        x: run.curves[metric][0], y: run.curves[metric][1], name: cvx.plain(run.label), mode: 'lines', type: 'scatter',
        line: { color: colors[i % colors.length], dash: cvx.dashes[i % cvx.dashes.length], width: 2 },
        hovertemplate: '%{y:.4g}<extra>%{fullData.name}</extra>',
    }));
    const layout = cvx.layout({
        height: 200, hovermode: 'x unified', dragmode: false,
        xaxis: { title: { text: 'epoch' }, range: [0, data.epochs.at(-1) || 1], fixedrange: true },
        yaxis: { fixedrange: true, tickformat: metric.endsWith('acc1') ? '.0%' : '' },
    });
    await Plotly.react(plot, traces, layout, cvx.config);
    plot.removeAllListeners?.('plotly_click');
    plot.on('plotly_click', (event) => {
        show(newest(data.epochs, event.points[0].x + 1e-9));
        note(true);
    });
    plot.on('plotly_afterplot', () => mark(data.epochs[frame]));
    mark(data.epochs[frame]);
}

function start() {
    const last = data && frame === data.epochs.length - 1, before = asked.epoch ?? (data && data.epochs[frame]);
    play(false);
    data = cvx.data(element);
    if (!data || !data.runs.length) { data = null; note(false); return; }
    const select = element.querySelector('.cvx-metric');
    if ([...select.options].some((one) => one.value === asked.metric)) select.value = asked.metric;
    const keys = [...element.querySelectorAll('.cvx-key')], colors = cvx.palette();
    data.runs.forEach((run, i) => {
        const card = element.querySelector(`.cvx-reel[data-run="${CSS.escape(run.name)}"]`);
        run.sprite = new Image();
        run.sprite.onload = () => show(frame);
        run.sprite.src = card.querySelector('canvas[data-sprite]').dataset.sprite;
        keys[i].style.borderTop = `3px ${['solid', 'dashed', 'dotted', 'double'][i % 4]} ${colors[i % colors.length]}`;
    });
    show(before === null || (last && asked.epoch === null) ? data.epochs.length - 1 : newest(data.epochs, before));
    asked.epoch = null;
    note(false);
    curve();
}

watch('value', start);
start();

element.addEventListener('input', (event) => {
    if (event.target.matches('.cvx-player input')) { play(false); show(Number(event.target.value)); }
});
element.addEventListener('change', (event) => {
    if (event.target.matches('.cvx-metric')) {
        asked.metric = event.target.value;
        note(true);
        curve();
    }
    if (event.target.matches('.cvx-speed') && timer) play(true);
    if (event.target.matches('.cvx-player input')) note(true);
});
element.addEventListener('click', (event) => {
    if (event.target.closest('.cvx-play')) toggle();
});
element.addEventListener('keydown', (event) => {
    if (event.key !== SPACE || event.target.matches('button, select')) return;
    event.preventDefault();
    toggle();
});
