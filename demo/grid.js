// Keep the address a link to what is seen.
watch('value', () => {
    const link = element.querySelector('[data-link]')?.dataset.link;
    if (link !== undefined) cvx.say('compare', link);
});
