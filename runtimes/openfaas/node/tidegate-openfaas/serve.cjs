// The handler as a program of its own, for deployments that name a process.
'use strict';

const http = require('http');

// Where the watchdog looks for it, unless the environment says otherwise.
const PORT = 3000;

// No limit of a template's is above it unless it was raised so far; a caller is held to its own limits before. In bytes.
const BODY_MAX = 1 << 30;

/** Serves until the process is ended. */
function listen(answer, port = Number(process.env.http_port) || PORT) {
  const server = http.createServer(async (req, res) => {
    const pieces = [];
    let size = 0;
    try {
      for await (const piece of req) {
        size += piece.length;
        if (size > BODY_MAX) {
          req.destroy();
          return;
        }
        pieces.push(piece);
      }
    } catch {
      // Who sent half a body waits for no answer.
      return;
    }
    const at = req.url.indexOf('?');
    const reply = await answer({
      method: req.method,
      path: at < 0 ? req.url : req.url.slice(0, at),
      query: at < 0 ? '' : req.url.slice(at + 1),
      pairs: fields(req),
      body: Buffer.concat(pieces),
    });
    res.statusCode = reply.status;
    for (const [name, value] of reply.pairs()) {
      res.setHeader(name, value);
    }
    res.end(req.method === 'HEAD' ? undefined : reply.body);
  });
  return server.listen(port, '127.0.0.1');
}

function fields({ rawHeaders }) {
  const pairs = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    pairs.push([rawHeaders[at].toLowerCase(), rawHeaders[at + 1]]);
  }
  return pairs;
}

module.exports = { listen };
