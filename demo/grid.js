// Keep the address a link to what is seen.
let arrived = location.search !== '';
watch('value', () => {
    const link = element.querySelector('[data-link]')?.dataset.link;
    if (link === undefined) return;
    if (!arrived) {
        arrived = true; // a plain address stays plain until something is chosen
        return;
    }
    const kept = [...new URLSearchParams(location.search)].filter(([key]) => key.startsWith('__'));
    const query = [new URLSearchParams(kept).toString(), link].filter(Boolean).join('&');
    history.replaceState(history.state, '', location.pathname + (query && '?' + query) + location.hash);
});
