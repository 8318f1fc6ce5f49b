// Replace a part of the page every two seconds with what its data-live address returns; say so when it cannot be.
"use strict";
const stale = document.querySelector("[data-stale]");
for (const part of document.querySelectorAll("[data-live]")) {
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(part.dataset.live, { headers: { Accept: "text/html" } });
      if (answer.ok) part.innerHTML = await answer.text();
      stale.hidden = answer.ok;
    } catch {
      stale.hidden = false;
    }
  }, 2000);
}
