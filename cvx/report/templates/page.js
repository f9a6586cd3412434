"use strict";
// The page is complete without this; it adds a player for the film, copy buttons and the place in the contents.
for (const film of document.querySelectorAll("[data-film]")) {
  const player = film.querySelector(".player"), range = player.querySelector("input"), button = player.querySelector("button");
  const reels = [...film.querySelectorAll("[data-reel]")].map((node) => ({ node, ...JSON.parse(node.dataset.reel) }));
  const strips = [...film.querySelectorAll("[data-strip]")];
  const shots = [...film.querySelectorAll("[data-image]")];
  const show = () => {
    for (const { node, epochs, accuracies, strengths } of reels) {
      const at = Math.round((range.value / 1000) * (epochs.length - 1));
      node.style.setProperty("--f", at);
      node.querySelector(".now").textContent = `epoch ${epochs[at]} · ${accuracies[at]} · norm ${strengths[at]}`;
    }
  };
  const choose = (image) => {
    shots.forEach((shot) => shot.setAttribute("aria-pressed", String(shot.dataset.image === image)));
    strips.forEach((strip, i) => strip.style.setProperty("--s", `var(--r${i}s${image})`));
  };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "▶"; button.setAttribute("aria-label", "play"); };
  const play = () => {
    if (+range.value >= 1000) range.value = 0;
    const step = 1000 / Math.max(1, ...reels.map((reel) => reel.epochs.length - 1));
    button.textContent = "❚❚"; button.setAttribute("aria-label", "pause");
    timer = setInterval(() => { range.value = Math.min(1000, +range.value + step); show(); if (+range.value >= 1000) stop(); }, 450);
    show();
  };
  button.addEventListener("click", () => (timer ? stop() : play()));
  range.addEventListener("input", () => { stop(); show(); });
  shots.forEach((shot) => shot.addEventListener("click", () => choose(shot.dataset.image)));
  player.hidden = reels.every((reel) => reel.epochs.length < 2);
}
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
}
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
document.querySelectorAll("section").forEach((section) => seen.observe(section));
