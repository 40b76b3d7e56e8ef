"use strict";
// The live page of a run: new events are added as they come. Without this script the page is complete, too.
const main = document.querySelector("main[data-live]");
if (main) {
  const log = document.getElementById("log");
  const state = document.getElementById("state");
  document.getElementById("reload").remove();
  const source = new EventSource(`/runs/${main.dataset.run}/events?since=${main.dataset.since}`);
  source.addEventListener("line", (event) => {
    const item = document.createElement("li");
    item.textContent = JSON.parse(event.data).text;
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
    log.append(item);
    while (log.children.length > 500) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  source.addEventListener("state", (event) => {
    const name = JSON.parse(event.data).state;
    if (state.textContent === name) return;
    state.textContent = name;
    state.className = `badge ${name}`;
  });
  source.addEventListener("end", () => {
    source.close();
    location.replace(location.pathname);
  });
  addEventListener("pagehide", () => source.close());
  log.scrollTop = log.scrollHeight;
}
