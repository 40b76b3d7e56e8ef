"use strict";
for (const tools of document.querySelectorAll(".tools")) tools.hidden = false;
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-open], button[data-close]");
  if (!button) return;
  const name = button.dataset.open || button.dataset.close;
  for (const part of document.querySelectorAll("details." + name)) part.open = Boolean(button.dataset.open);
});
document.addEventListener("input", (event) => {
  const field = event.target.closest("input[data-filter]");
  if (!field) return;
  const words = field.value.toLowerCase();
  for (const row of document.querySelectorAll("#" + field.dataset.filter + " tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(words);
});
function reveal() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();
