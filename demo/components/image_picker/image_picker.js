// Strips of samples: a click, a change or an arrow key becomes one event with {dataset, action, value}.
const tell = (control, value) => {
    const dataset = control.closest('[data-dataset]').dataset.dataset;
    trigger('pick', { dataset, action: control.dataset.action, value });
};

element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-action]');
    if (!button) return;
    if (button.dataset.action === 'image') {
        for (const other of button.parentElement.children) other.setAttribute('aria-pressed', other === button);
    }
    tell(button, button.dataset.value);
});

element.addEventListener('change', (event) => {
    if (event.target.matches('select[data-action]')) tell(event.target, event.target.value);
});

element.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const strip = event.target.closest('.cvx-thumbs');
    if (!step || !strip) return;
    event.preventDefault();
    const buttons = [...strip.children];
    const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
    next.focus();
    next.click();
});
