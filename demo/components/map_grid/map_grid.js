// Keep the address a link to what is seen, and read the pixel under the pointer in every model of a row.
const read = new WeakMap(); // the numbers of each cell, unpacked when first needed
// What the browser alone knows of a row, by its dataset: it stays through a redraw and stands in the link.
let pinned = null; // {of, x, y}, x and y from 0 to 1: what stays marked when the pointer leaves
const sliders = new Map(); // {left, right, at}: two models, and where between them the seam is, in percent

const rowOf = (of) => [...element.querySelectorAll('.cvx-row')].find((row) => row.dataset.of === of);

function recall() {
    pinned = null;
    sliders.clear();
    for (const [key, value] of new URLSearchParams(location.search)) {
        const at = key.indexOf('.'), [kind, of, said] = [key.slice(0, at), key.slice(at + 1), value.split(',')];
        const numbers = said.map(Number);
        if (kind === 'pixel' && numbers.length === 2 && numbers.every((one) => one >= 0 && one <= 1)) pinned = { of, x: numbers[0], y: numbers[1] };
        if (kind === 'slide' && said.length === 3 && numbers[2] >= 0 && numbers[2] <= 100) sliders.set(of, { left: said[0], right: said[1], at: numbers[2] });
    }
}
recall();
addEventListener('popstate', recall);

function note(quietly) {
    const base = element.querySelector('[data-link]')?.dataset.link, more = new URLSearchParams();
    if (base === undefined) return;
    for (const [of, { left, right, at }] of sliders) if (rowOf(of)) more.set(`slide.${of}`, [left, right, at].join());
    if (pinned && rowOf(pinned.of)) more.set(`pixel.${pinned.of}`, [pinned.x, pinned.y].map((one) => Number(one.toFixed(4))).join());
    cvx.say('compare', [base, more.toString()].filter(Boolean).join('&'), quietly);
}

watch('value', () => {
    note(false);
    requestAnimationFrame(() => {
        settle();
        for (const row of element.querySelectorAll('.cvx-row')) if (sliders.has(row.dataset.of)) openSlider(row);
    });
});

const say = (value) => (value === 0 ? '0' : String(Number(value.toPrecision(3)))).replace('-', '\u2212');

function valuesOf(cell) {
    if (!read.has(cell)) read.set(cell, cvx.floats(cell.dataset.values));
    return read.get(cell);
}

function mark(row, x, y) {
    for (const cell of row.querySelectorAll('.cvx-cell[data-values]')) {
        const side = Number(cell.dataset.side), limit = Number(cell.dataset.limit);
        const [column, line] = [x, y].map((at) => Math.min(side - 1, Math.max(0, Math.floor(at * side))));
        const value = valuesOf(cell)[line * side + column];
        const share = limit > 0 ? `, ${Math.round((100 * value) / limit)} % of the scale`.replace('-', '\u2212') : '';
        cell.querySelector('.cvx-at').textContent = `pixel (${column}, ${line}): ${say(value)}${share}`;
        for (const well of cell.querySelectorAll('.cvx-well')) {
            const dot = well.querySelector('.cvx-dot') || well.appendChild(document.createElement('i'));
            dot.className = 'cvx-dot';
            dot.style.cssText = `left:${(100 * column) / side}%;top:${(100 * line) / side}%;width:${100 / side}%;height:${100 / side}%`;
        }
    }
}

function clear(row) {
    for (const dot of row.querySelectorAll('.cvx-dot')) dot.remove();
    for (const place of row.querySelectorAll('.cvx-at, .cvx-read')) place.textContent = '';
}

function settle() {
    for (const row of element.querySelectorAll('.cvx-row')) clear(row);
    const row = pinned && rowOf(pinned.of);
    if (row) mark(row, pinned.x, pinned.y);
}

function place(event) {
    const well = event.target.closest?.('.cvx-well');
    if (!well) return null;
    const box = well.getBoundingClientRect();
    return { row: well.closest('.cvx-row'), x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

let near = null;
element.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'touch') return;
    const at = place(event);
    if (at) {
        if (near && near !== at.row) settle();
        mark(at.row, at.x, at.y);
    } else if (near) settle();
    near = at?.row || null;
});
element.addEventListener('pointerleave', () => { near = null; settle(); });

element.addEventListener('click', (event) => {
    const at = place(event);
    if (!at) return;
    const side = Number(event.target.closest('.cvx-cell').dataset.side) || 1;
    const [x, y] = [at.x, at.y].map((one) => (Math.min(side - 1, Math.max(0, Math.floor(one * side))) + 0.5) / side);
    pinned = { of: at.row.dataset.of, x, y };
    settle();
    note(true);
});

element.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && pinned) { pinned = null; settle(); note(true); return; }
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const well = event.target.closest('.cvx-well[tabindex]');
    if (!step || !well) return;
    event.preventDefault();
    const row = well.closest('.cvx-row'), { of } = row.dataset, side = Number(well.closest('.cvx-cell').dataset.side);
    const from = pinned?.of === of ? pinned : { x: 0.5, y: 0.5 };
    const [x, y] = [from.x, from.y].map((at, i) => {
        const pixel = Math.floor(at * side) + (pinned?.of === of ? step[i] : 0);
        return (Math.min(side - 1, Math.max(0, pixel)) + 0.5) / side;
    });
    pinned = { of, x, y };
    settle();
    note(true);
    const said = [...row.querySelectorAll('.cvx-cell[data-values]')];
    row.querySelector('.cvx-read').textContent = said.map((cell) => `${cell.getAttribute('aria-label')} ${cell.querySelector('.cvx-at').textContent}`).join('; ') + ` (${row.dataset.unit})`;
});

// Save a row: the file comes as an answer and is never stored by the server.
async function save(button) {
    button.disabled = true;
    const found = await server.save({ kept: button.closest('[data-kept]').dataset.kept, kind: button.dataset.save });
    button.disabled = false;
    if (found.error) {
        button.closest('header').querySelector('.cvx-read').textContent = found.error;
        button.title = found.error;
        return;
    }
    const bytes = Uint8Array.from(atob(found.content), (char) => char.charCodeAt(0)), link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([bytes], { type: found.type }));
    link.download = found.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-save]');
    if (button) save(button);
});
