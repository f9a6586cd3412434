// A cell of the matrix chooses two models; a picture goes to the tab Compare.
const say = () => {
    const link = element.querySelector('[data-link]')?.dataset.link;
    if (link !== undefined) cvx.say('agreement', link);
};
watch('value', say);

element.addEventListener('click', (event) => {
    const cell = event.target.closest('button[data-first]');
    if (cell) trigger('pair', { first: cell.dataset.first, second: cell.dataset.second });
    const picture = event.target.closest('button[data-row]');
    if (picture) {
        const models = JSON.parse(picture.dataset.models);
        trigger('look', { dataset: picture.dataset.of, row: Number(picture.dataset.row), models });
    }
});
