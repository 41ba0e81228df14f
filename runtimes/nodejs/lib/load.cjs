// Loading a function: its module, and which kind of callable it offers.
'use strict';

const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');
const { createRequire } = require('module');

/** The names that are looked for where the settings name none, in this order. */
const NAMES = ['default', 'handler', 'handle', 'app', 'fetch'];

const EXPECTED = '`export default { fetch(request) }`, `export default async (request) => new Response()`, '
  + '`exports.handler = async (event, context)` or an `app`';

/** The file is fine JavaScript, but offers nothing that can be called. */
class LoadError extends Error {}

/** A loaded function: `kind` is `event`, `fetch` or `node`; `call` what to call. */
class Loaded {
  constructor(kind, call) {
    this.kind = kind;
    this.call = call;
  }
}

/** Imports the entry of `config` and answers what it offers. Throws LoadError, or whatever the user's module threw. */
async function load(config) {
  const named = config.handler || null;
  let entry = config.entry;
  let name = named;
  const colon = named === null ? -1 : named.lastIndexOf(':');
  if (colon >= 0) {
    name = named.slice(colon + 1) || null;
    entry = beside(config.entry, named.slice(0, colon));
  }
  process.argv.splice(1, process.argv.length - 1, entry);
  const module = await importFile(entry);
  const found = name === null ? pick(module, entry) : pickNamed(module, name, entry);
  return classify(found.value, found.name, found.owner, entry);
}

function beside(entry, module) {
  const folder = path.dirname(entry);
  for (const ending of ['', '.js', '.mjs', '.cjs', '.ts', '.mts', '.cts', '/index.js', '/index.mjs', '/index.ts']) {
    const file = path.join(folder, module + ending);
    if (fs.existsSync(file) && fs.statSync(file).isFile()) {
      return file;
    }
  }
  throw new LoadError(`there is no module ${JSON.stringify(module)} beside ${entry}, which the handler setting names`);
}

async function importFile(file) {
  const ending = path.extname(file);
  if (['.ts', '.mts', '.cts'].includes(ending) && !process.features.typescript) {
    throw new LoadError(`${path.basename(file)} is TypeScript, which Node ${process.versions.node} does not read; `
      + 'install Node 22.18 or later, or deploy it with a package.json so that the build makes JavaScript of it');
  }
  if (!['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts'].includes(ending)) {
    throw new LoadError(`entry ${file} is not a JavaScript file, expected a name that ends in .js, .mjs, .cjs or .ts`);
  }
  if (isCommon(file, ending)) {
    return { common: createRequire(file)(file) };
  }
  return { names: await import(pathToFileURL(file).href) };
}

/** Whether the file is CommonJS. Asked here because `require` starts 5 ms sooner than `import`, and works without it. */
function isCommon(file, ending) {
  if (ending === '.cjs' || ending === '.cts') {
    return true;
  }
  if (ending === '.mjs' || ending === '.mts') {
    return false;
  }
  const type = packageType(path.dirname(file));
  if (type !== undefined) {
    return type !== 'module';
  }
  // As later versions of Node do: what has the syntax of a module is one.
  return !/^\s*(?:import\s*(?:[\w$*{'"]|\/\*)|export\s*(?:[*{]|default\b|const\b|let\b|var\b|async\b|function\b|class\b))/m
    .test(fs.readFileSync(file, 'utf8'));
}

/** The `type` of the nearest package.json. */
function packageType(folder) {
  for (let at = folder; ; at = path.dirname(at)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(at, 'package.json'), 'utf8')).type;
    } catch (error) {
      if (error instanceof SyntaxError) {
        throw new LoadError(`${path.join(at, 'package.json')} is not valid JSON: ${error.message}`);
      }
    }
    if (at === path.dirname(at)) {
      return undefined;
    }
  }
}

/** The objects on which names are looked for: what the file exports, then what its default export holds. */
function owners(module) {
  if ('common' in module) {
    const { common } = module;
    return common !== null && (typeof common === 'object' || typeof common === 'function')
      ? [{ ...(common.__esModule ? {} : { default: common }), __proto__: common }] : [];
  }
  const { names } = module;
  const inner = names.default;
  return inner !== null && typeof inner === 'object' ? [names, inner] : [names];
}

function pick(module, entry) {
  for (const owner of owners(module)) {
    for (const name of NAMES) {
      const value = owner[name];
      if (isUsable(value)) {
        return { value, name, owner };
      }
    }
  }
  throw new LoadError(`${entry} exports nothing that can be called, expected ${EXPECTED}${suggest(module)}`);
}

function pickNamed(module, name, entry) {
  for (const owner of owners(module)) {
    let holder = owner;
    let value = owner;
    for (const part of name.split('.')) {
      holder = value;
      value = value?.[part];
    }
    if (value !== undefined && value !== null) {
      if (!isUsable(value)) {
        throw new LoadError(`\`${name}\` in ${entry} is a ${typeof value}, expected a function or an app`);
      }
      return { value, name: name.split('.').pop(), owner: holder };
    }
  }
  throw new LoadError(`${entry} has no export \`${name}\`${suggest(module)}`);
}

function isUsable(value) {
  return typeof value === 'function' || (value !== null && typeof value === 'object'
    && ['fetch', 'callback', 'routing'].some((name) => typeof value[name] === 'function'));
}

function suggest(module) {
  const there = [...new Set(owners(module).flatMap((owner) => {
    const names = [];
    // eslint-disable-next-line guard-for-in
    for (const name in owner) {
      if (typeof owner[name] === 'function' && !['default', 'module.exports'].includes(name)) {
        names.push(name);
      }
    }
    return names;
  }))].slice(0, 5);
  return there.length > 0 ? `; it has ${there.map((name) => `\`${name}\``).join(', ')}, which the handler setting may name` : '';
}

/**
 * Which kind it is.
 *
 * An object is one by its methods. A function is Node's own listener where its two first parameters are called so, or
 * where it is an app of a known kind; the name under which it was found says the rest.
 */
async function classify(value, name, owner, entry) {
  if (typeof value.fetch === 'function' && !isApp(value)) {
    return new Loaded('fetch', value.fetch.bind(value));
  }
  if (typeof value.callback === 'function') {
    return new Loaded('node', value.callback());
  }
  if (typeof value.routing === 'function' && typeof value.ready === 'function') {
    await value.ready();
    return new Loaded('node', (req, res) => value.routing(req, res));
  }
  if (typeof value !== 'function') {
    throw new LoadError(`\`${name}\` in ${entry} is an object without \`fetch\`, expected ${EXPECTED}`);
  }
  if (/^class\b/.test(Function.prototype.toString.call(value))) {
    throw new LoadError(`\`${name}\` in ${entry} is a class, expected a function`);
  }
  const [first, second] = parameters(value);
  if (isApp(value) || (/^_?req(uest)?$/i.test(first ?? '') && /^_?res(p|ponse)?$/i.test(second ?? ''))) {
    return new Loaded('node', value);
  }
  if (name === 'app') {
    throw new LoadError(`\`app\` in ${entry} is a function without (req, res), expected an express, koa, fastify or fetch app`);
  }
  const call = owner === null ? value : value.bind(owner);
  const isFetch = name === 'fetch' || (name === 'default' && !/^_?(e|ev|evt|event)$/i.test(first ?? ''));
  return new Loaded(isFetch ? 'fetch' : 'event', isFetch ? (request, _env, context) => call(request, context) : call);
}

/** Whether a function is an application that takes requests by itself. */
function isApp(value) {
  return typeof value === 'function' && typeof value.use === 'function'
    && (typeof value.handle === 'function' || typeof value.listen === 'function');
}

/** The names of the first two parameters, as far as they are plain names. */
function parameters(call) {
  const text = Function.prototype.toString.call(call);
  const found = /^(?:async\s*)?(?:function\b\s*\*?\s*[\w$]*\s*)?(?:[\w$]+\s*)?\(\s*([\w$]+)?\s*(?:,\s*([\w$]+))?/.exec(text)
    ?? /^(?:async\s+)?([\w$]+)\s*=>/.exec(text);
  return found === null ? [] : [found[1], found[2]];
}

/** What went wrong while a function was loaded: one line with file and line, and the trace. */
function explain(failure, config) {
  const { trace } = require('./answers.cjs');
  if (failure instanceof LoadError) {
    return { error: failure.message, trace: '' };
  }
  let text = failure === undefined ? 'undefined was thrown' : trace(failure);
  let place = placeOf(text);
  if (failure instanceof SyntaxError && place === null) {
    const checked = check(config.entry);
    if (checked !== null) {
      text = checked;
      place = placeOf(text);
    }
  }
  let message = failure instanceof Error || failure?.message !== undefined
    ? `${failure.name ?? 'Error'}: ${String(failure.message).split('\n', 1)[0]}` : String(failure).split('\n', 1)[0];
  const missing = /Cannot find (?:package|module) '([^'./][^']*)'/.exec(message);
  if (missing !== null) {
    const name = missing[1].startsWith('@') ? missing[1].split('/', 2).join('/') : missing[1].split('/', 1)[0];
    message += `; add ${JSON.stringify(name)} to the dependencies in package.json`;
  }
  return { error: place === null ? message : `${place}: ${message}`, trace: text };
}

/** `file:line` of the first place that a stack names outside of Node and of this host. */
function placeOf(text) {
  const found = /^(?:file:\/\/)?(\/[^\n:]+:\d+)(?::\d+)?$/m.exec(text) ?? /\(?(?:file:\/\/)?(\/[^\s():]+:\d+)(?::\d+)?\)?/.exec(text)
    ?? /imported from (\/[^\s]+)/.exec(text) ?? /Require stack:\n- ([^\n]+)/.exec(text);
  return found === null ? null : found[1].replace(/^\/function\//, '');
}

/** A module's syntax error does not say where it is, unless Node itself reports it. */
function check(file) {
  const { spawnSync } = require('child_process');
  const done = spawnSync(process.execPath, ['--check', file], { encoding: 'utf8', timeout: 5000, env: {} });
  return done.status !== 0 && done.stderr ? done.stderr.replace(/\n\nNode\.js v[\s\S]*$/, '') : null;
}

module.exports = { load, explain, Loaded, LoadError };
