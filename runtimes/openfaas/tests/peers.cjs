// The real Express, by name from the npm registry into a folder of the user's cache: what the Node templates stand on.
'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const { createRequire } = require('module');
const os = require('os');
const path = require('path');

const PACKAGES = {
  4: ['express@4.22.3', 'body-parser@1.20.9'],
  5: ['express@5.3.0', 'body-parser@2.4.0'],
};

// On a slow line, in milliseconds.
const INSTALL_LIMIT_MS = 600_000;

/** `require` for the packages beside Express `major`; installed at first use. */
function express(major) {
  const cache = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache');
  const folder = path.join(cache, 'tidegate', 'openfaas', PACKAGES[major].join('-').replaceAll('@', '-'));
  const done = path.join(folder, '.installed');
  if (!fs.existsSync(done)) {
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, 'package.json'), '{"private": true}\n');
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel', 'error', ...PACKAGES[major]], {
      cwd: folder, timeout: INSTALL_LIMIT_MS, stdio: ['ignore', 'ignore', 'inherit'],
    });
    // Written last, so that an installation cut short is made anew.
    fs.writeFileSync(done, '');
  }
  return createRequire(path.join(folder, 'package.json'));
}

module.exports = { express };
