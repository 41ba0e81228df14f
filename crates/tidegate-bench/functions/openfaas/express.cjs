// hello-node behind Express with the body parsers that the template has: what of-watchdog passes calls to, without it.
//
// Two words: the folder with peers.cjs and reference.cjs, and a port of loopback to serve, or `install` to only see that
// the packages are there.
'use strict';

const path = require('node:path');

const [tests, port] = process.argv.slice(2);

if (port === 'install') {
  require(path.join(tests, 'peers.cjs')).express(5);
} else {
  const { reference } = require(path.join(tests, 'reference.cjs'));
  reference(22, require('./hello-node/handler.js')).listen(Number(port), '127.0.0.1');
}
