// Calls function/handler.js with standard input, as OpenFaaS's template @LANGUAGE@ does: a process a call.
'use strict';

const exported = require('./function/handler');

const handler = typeof exported === 'function' ? exported : exported.default;

const pieces = [];
process.stdin.on('data', (piece) => pieces.push(piece));
process.stdin.on('end', () => call(Buffer.concat(pieces).toString()));

/** A failure is told on standard error, and the process ends well all the same. */
async function call(input) {
  try {
    const result = handler(input, tell);
    if (result instanceof Promise) {
      tell(undefined, await result);
    }
  } catch (failure) {
    tell(failure);
  }
}

function tell(failure, result) {
  if (failure) {
    console.error(failure);
  } else if (result) {
    const json = Array.isArray(result) || result.constructor === Object;
    process.stdout.write(json ? `${JSON.stringify(result)}\n` : result);
  }
}
