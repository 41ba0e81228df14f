// The pages that Express shows where no handler answers.
'use strict';

const { Reply } = require('./reply.cjs');

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** The page of a failure: with its trace, unless the environment says `production`. */
function errorPage(request, failure, reply = null) {
  const status = statusOf(failure, reply?.status);
  let text = process.env.NODE_ENV === 'production' ? undefined : failure.stack || failure.toString?.();
  text ||= require('http').STATUS_CODES[status];
  return page(status, String(text));
}

/** The page of a path and method that lead nowhere. */
function notFound({ method, path }) {
  return page(404, `Cannot ${method} ${encodeURI(path).replace(/%25([0-9a-f]{2})/gi, '%$1')}`);
}

/** The failure's own status where it is an error's, else that of the answer so far where it is, else 500. */
function statusOf(failure, before) {
  for (const status of [failure?.status, failure?.statusCode, before]) {
    if (typeof status === 'number' && status >= 400 && status < 600) {
      return status;
    }
  }
  return 500;
}

function page(status, text) {
  const shown = text.replace(/[&<>"']/g, (mark) => ESCAPES[mark]).replaceAll('\n', '<br>').replaceAll('  ', ' &nbsp;');
  const reply = new Reply(false);
  reply.status = status;
  reply.put('Content-Security-Policy', "default-src 'none'");
  reply.put('X-Content-Type-Options', 'nosniff');
  reply.put('Content-Type', 'text/html; charset=utf-8');
  reply.body = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n<body>\n'
    + `<pre>${shown}</pre>\n</body>\n</html>\n`;
  reply.put('Content-Length', String(Buffer.byteLength(reply.body)));
  return reply;
}

module.exports = { errorPage, notFound };
