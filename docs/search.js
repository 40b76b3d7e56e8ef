// The search of the site looks for each word of a query, "how" and "I" included. So the words that every question
// has are left out before a query reaches the search's worker.
const QUESTION_WORDS = new Set(
  ("a about after all am an and any are as at be before by can did do does for from get has have how i if in into is it its " +
    "me mean my need of on one or our own should so some tell than that the their them then there these they this to use used " +
    "was we were what when where which who whom why will with without would you your").split(" "),
);

function withoutQuestionWords(query) {
  const words = query.replace(/[?!.,;]+/g, " ").replace(/['’]s\b/g, "").split(/\s+/).filter(Boolean);
  const left = words.filter((word) => !QUESTION_WORDS.has(word.toLowerCase()));
  return (left.length ? left : words).join(" ");
}

if (typeof Worker !== "undefined") {
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, ...rest) {
    const isQuery = message && message.type === 2 && typeof message.data === "string";
    return post.call(this, isQuery ? { ...message, data: withoutQuestionWords(message.data) } : message, ...rest);
  };
}
