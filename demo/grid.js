// Keep the address a link to what is seen, and read the pixel under the pointer in every model of a row.
const read = new WeakMap(); // the numbers of each cell, unpacked when first needed
let pinned = null; // {row: label, x, y}, x and y from 0 to 1: what stays marked when the pointer leaves, and after a redraw

const rowNamed = (label) => [...element.querySelectorAll('.cvx-row')].find((row) => row.getAttribute('aria-label') === label);

watch('value', () => {
    const link = element.querySelector('[data-link]')?.dataset.link;
    if (link !== undefined) cvx.say('compare', link);
    requestAnimationFrame(settle);
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
    const row = pinned && rowNamed(pinned.row);
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
    pinned = { row: at.row.getAttribute('aria-label'), x: at.x, y: at.y };
    settle();
});

element.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && pinned) { pinned = null; settle(); return; }
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const well = event.target.closest('.cvx-well[tabindex]');
    if (!step || !well) return;
    event.preventDefault();
    const row = well.closest('.cvx-row'), label = row.getAttribute('aria-label'), side = Number(well.closest('.cvx-cell').dataset.side);
    const from = pinned?.row === label ? pinned : { x: 0.5, y: 0.5 };
    const [x, y] = [from.x, from.y].map((at, i) => {
        const pixel = Math.floor(at * side) + (pinned?.row === label ? step[i] : 0);
        return (Math.min(side - 1, Math.max(0, pixel)) + 0.5) / side;
    });
    pinned = { row: label, x, y };
    settle();
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

// Two models' maps of a row under one slider.
function slide(button) {
    const row = button.closest('.cvx-row'), open = row.querySelector('.cvx-slider');
    button.setAttribute('aria-expanded', String(!open));
    if (open) { open.remove(); return; }
    const cells = [...row.querySelectorAll('.cvx-cell[data-values]')], names = cells.map((cell) => cell.getAttribute('aria-label'));
    const make = (tag, more) => Object.assign(document.createElement(tag), more);
    const panel = make('div', { className: 'cvx-slider cvx-card' }), stack = make('div', { className: 'cvx-over' });
    const images = [0, 1].map((k) => make('img', { className: `cvx-pixels${k ? ' cvx-above' : ''}`, draggable: false }));
    const selects = [0, 1].map((k) => {
        const select = make('select', { ariaLabel: k ? 'model on the right' : 'model on the left' });
        select.append(...names.map((name, i) => make('option', { value: String(i), textContent: name, selected: i === k })));
        return select;
    });
    const range = make('input', { type: 'range', min: '0', max: '100', value: '50', ariaLabel: 'how much of the left model is shown, %' });
    const line = make('i', { className: 'cvx-seam' });
    const show = () => {
        selects.forEach((select, k) => {
            const map = cells[Number(select.value)].querySelector('figure:nth-of-type(2) img');
            images[k].src = map.src;
            images[k].alt = map.alt;
        });
        images[1].style.clipPath = `inset(0 0 0 ${range.value}%)`;
        line.style.left = `${range.value}%`;
    };
    for (const control of [...selects, range]) control.addEventListener('input', show);
    const note = row.dataset.scale === 'each' ? 'Each map is on its own scale, so their colors cannot be compared; choose the scale “One for the row”.' : 'Both maps are on one scale.';
    const head = make('div', { className: 'cvx-sides' });
    head.append(...selects);
    stack.append(...images, line);
    panel.append(head, stack, range, make('p', { className: 'cvx-small', textContent: note }));
    row.querySelector('header').after(panel);
    show();
}

element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-slide]');
    if (button) slide(button);
});
