// Sending an answer: at once, or as it is made.
'use strict';

const { piece, streamFields } = require('./answers.cjs');

/** Sends an Answer; gives back a promise where it streams. */
function answerInto(x, answer) {
  if (!answer.streams) {
    x.respond(answer.status, answer.fields, answer.body);
    return undefined;
  }
  return stream(x, answer);
}

async function stream(x, { status, fields, body }) {
  const source = typeof body[Symbol.asyncIterator] === 'function' ? body[Symbol.asyncIterator]()
    : typeof body.next === 'function' ? body : body[Symbol.iterator]();
  let done = false;
  try {
    // The head waits for the first piece: a failure until then is a clean 500.
    let first = true;
    for (;;) {
      const item = await source.next();
      if (item.done) {
        done = true;
        break;
      }
      const bytes = piece(await item.value);
      if (first) {
        x.start(status, streamFields(fields, item.value));
        first = false;
      }
      await x.write(bytes);
    }
    if (first) {
      x.start(status, fields);
    }
    x.finish();
  } finally {
    if (!done) {
      try {
        await source.return?.();
      } catch {
        // What made the answer fail is what is told.
      }
    }
  }
}

module.exports = { answerInto };
