// The channel between the server and one host, in two halves.
//
// What the host says goes as datagrams over descriptor 3, whose first byte is the type: ready, failed, idle, a line of log.
// What the server says comes over Node's own channel between processes, descriptor 4: the only way in which plain JavaScript
// can be handed a connected descriptor. A message of it is a line of JSON; a connection is one in Node's form for sockets.
'use strict';

const fs = require('fs');

const CONTROL_FD = 3;

/** The host's end. */
class Control {
  /** Sends one datagram, waiting while the server is behind. Its end is noticed by whoever listens. */
  send(message) {
    try {
      fs.writeSync(CONTROL_FD, message);
    } catch {
      // See above.
    }
  }

  /** Says that all is loaded that does not depend on whose it will be. */
  waiting() {
    this.send('W');
  }

  ready() {
    this.send('R');
  }

  /** Says that the request of this tag runs no longer. */
  idle(tag) {
    this.send(`I${tag}`);
  }

  /** Says that the function could not be started, and why. */
  failed(step, error, trace = '') {
    // A character may take six bytes in JSON, hence the small shares of the 64 KiB.
    this.send(`F${JSON.stringify({ step, error: error.slice(0, 1500), trace: trace.slice(0, 8000) })}`);
  }

  /**
   * Begins to listen: `on.config(config)`, `on.connection(socket)`, `on.cancel(tag)`, `on.drain()`, `on.gone()`.
   *
   * The names by which Node shows its channel to programs are taken away: a function is not the child of anything that it
   * could send messages to.
   */
  listen(on) {
    process.on('message', (message, socket) => {
      if (message === null || typeof message !== 'object') {
        return;
      }
      if (message.connection === true) {
        if (socket) {
          on.connection(socket);
        }
      } else if (typeof message.cancel === 'string') {
        on.cancel(message.cancel);
      } else if (message.drain === true) {
        on.drain();
      } else if (message.config !== undefined) {
        on.config(message.config);
      }
    });
    process.on('disconnect', on.gone);
    for (const name of ['send', 'disconnect']) {
      Object.defineProperty(process, name, { value: undefined, configurable: true, writable: true, enumerable: false });
    }
  }
}

module.exports = { Control };
