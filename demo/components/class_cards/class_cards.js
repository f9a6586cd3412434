// Keep the address a link to the class that is seen.
watch('value', () => {
    const link = element.querySelector('[data-link]')?.dataset.link;
    if (link !== undefined) cvx.say('classes', link);
});
