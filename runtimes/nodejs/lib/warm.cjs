// What a process that waits does ahead of time: all that the first call of any function would pay for.
//
// Node loads its own parts when they are first used, and compiles each function when it is first called. So a function of
// ours is loaded here, of both kinds of module, and called once, over a connection that is none. Nothing of it stays but
// the compiled code.
'use strict';

const { EventEmitter } = require('events');
const path = require('path');
const { load } = require('./load.cjs');
const { Server } = require('./server.cjs');
const web = require('./web.cjs');

/** Loads and calls; `serve` makes a server's call of what was loaded. */
async function warm(serve) {
  web.warm();
  require('http');
  const argv = [...process.argv];
  for (const entry of ['warm-up.mjs', 'warm-up.cjs']) {
    const config = { entry: path.join(__dirname, entry), max_body: 1024, concurrency: 1 };
    const { kind, call } = await load(config);
    const server = new Server(null, config);
    server.call = serve(kind, call, config);
    await answer(server);
  }
  process.argv.splice(0, process.argv.length, ...argv);
}

/** One request on a connection that is none. */
function answer(server) {
  const socket = new EventEmitter();
  return new Promise((resolve) => {
    Object.assign(socket, {
      write(text) {
        if (String(text).endsWith('warm')) {
          setImmediate(resolve);
        }
        return true;
      },
      end: resolve,
      destroy: resolve,
      cork() {},
      uncork() {},
      pause() {},
      resume() {},
    });
    server.accept(socket);
    socket.emit('data', Buffer.from('POST /warm?a=b HTTP/1.1\r\nhost: warm\r\ncontent-length: 2\r\n'
      + `x-request-id: ${'0'.repeat(32)}\r\nx-tidegate-deadline-ms: 1000\r\nx-tidegate-path-prefix: /fn/warm\r\n\r\n{}`));
  });
}

module.exports = { warm };
