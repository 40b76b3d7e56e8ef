// Runs the search of the built site as a browser does: node search.js WORKER SHORTENER INDEX QUESTION...
// Prints a JSON list with the pages found for each question, best first.
const fs = require("fs"), vm = require("vm");
const [worker, shortener, index, ...questions] = process.argv.slice(2);
let handle, reply;
const scope = { console, addEventListener: (_, listener) => { handle = listener; }, postMessage: (message) => reply(message) };
scope.self = scope;
vm.runInNewContext(fs.readFileSync(worker, "utf8"), scope);
vm.runInNewContext(fs.readFileSync(shortener, "utf8"), scope);
const ask = (type, data) => new Promise((resolve) => { reply = resolve; handle({ data: { type, data } }); });
(async () => {
  await ask(0, { ...JSON.parse(fs.readFileSync(index, "utf8")), options: { suggest: false } });
  const found = [];
  for (const question of questions) {
    const { data } = await ask(2, scope.withoutQuestionWords(question));
    found.push(data.items.map((item) => item.map((section) => section.location)));
  }
  console.log(JSON.stringify(found));
})();
