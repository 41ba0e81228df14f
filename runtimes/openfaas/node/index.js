// Calls function/handler.js as OpenFaaS's template @LANGUAGE@ does: an entry for Tidegate's host, and a program by itself.
'use strict';

const { open } = require('./tidegate-openfaas/template.cjs');

const answer = open('@LANGUAGE@', require('./function/handler'));

exports.handler = async (event) => {
  const reply = await answer({
    method: event.method,
    path: event.rawPath,
    query: event.queryString,
    pairs: event.headers.raw(),
    body: event.body,
  });
  return { statusCode: reply.status, headers: reply.pairs(), body: reply.body };
};

if (require.main === module) {
  require('./tidegate-openfaas/serve.cjs').listen(answer);
}
