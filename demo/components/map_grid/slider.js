// Two models' maps of a row under one slider; what it shows stands in `sliders`, so that a redraw opens it again.
function openSlider(row) {
    closeSlider(row);
    const cells = [...row.querySelectorAll('.cvx-cell[data-values]')], names = cells.map((cell) => cell.getAttribute('aria-label'));
    const button = row.querySelector('[data-slide]'), state = sliders.get(row.dataset.of);
    if (!button || names.length < 2) return;
    if (!names.includes(state.left)) state.left = names.find((name) => name !== state.right);
    if (!names.includes(state.right)) state.right = names.find((name) => name !== state.left);
    button.setAttribute('aria-expanded', 'true');
    const make = (tag, more) => Object.assign(document.createElement(tag), more);
    const panel = make('div', { className: 'cvx-slider cvx-card' }), stack = make('div', { className: 'cvx-over' });
    const images = [0, 1].map((k) => make('img', { className: `cvx-pixels${k ? ' cvx-above' : ''}`, draggable: false }));
    const selects = ['left', 'right'].map((which) => {
        const select = make('select', { ariaLabel: `model on the ${which}` });
        select.append(...names.map((name) => make('option', { value: name, textContent: name, selected: name === state[which] })));
        return select;
    });
    const range = make('input', { type: 'range', min: '0', max: '100', value: String(state.at), ariaLabel: 'how much of the left model is shown, %' });
    const line = make('i', { className: 'cvx-seam' });
    const show = () => {
        Object.assign(state, { left: selects[0].value, right: selects[1].value, at: Number(range.value) });
        [state.left, state.right].forEach((name, k) => {
            const map = cells[names.indexOf(name)].querySelector('figure:nth-of-type(2) img');
            images[k].src = map.src;
            images[k].alt = map.alt;
        });
        images[1].style.clipPath = `inset(0 0 0 ${range.value}%)`;
        line.style.left = `${range.value}%`;
    };
    for (const control of [...selects, range]) {
        control.addEventListener('input', show);
        control.addEventListener('change', () => note(true));
    }
    const said = row.dataset.scale === 'each' ? 'Each map is on its own scale, so their colors cannot be compared; choose the scale “One for the row”.' : 'Both maps are on one scale.';
    const head = make('div', { className: 'cvx-sides' });
    head.append(...selects);
    stack.append(...images, line);
    panel.append(head, stack, range, make('p', { className: 'cvx-small', textContent: said }));
    row.querySelector('header').after(panel);
    show();
}

function closeSlider(row) {
    row.querySelector('.cvx-slider')?.remove();
    row.querySelector('[data-slide]')?.setAttribute('aria-expanded', 'false');
}

element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-slide]');
    if (!button) return;
    const row = button.closest('.cvx-row'), { of } = row.dataset;
    if (sliders.delete(of)) closeSlider(row);
    else {
        const names = [...row.querySelectorAll('.cvx-cell[data-values]')].map((cell) => cell.getAttribute('aria-label'));
        sliders.set(of, { left: names[0], right: names[1], at: 50 });
        openSlider(row);
    }
    note(true);
});
