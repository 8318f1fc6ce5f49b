// Replace a part of the page every two seconds with what its data-live address returns.
"use strict";
for (const part of document.querySelectorAll("[data-live]")) {
  setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch(part.dataset.live, { headers: { Accept: "text/html" } });
    if (answer.ok) part.innerHTML = await answer.text();
  }, 2000);
}
