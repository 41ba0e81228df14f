// Queries and forms: `a=1&b[c][]=2`.
//
// Names nest by brackets: `[name]` is a member, `[3]` a place of an array, `[]` one more item. Which shape a name has once it
// has come in several is decided by the rules below, which are those of Express's own parser; a name too deep keeps its rest
// as the name of the last member.
'use strict';

const OWN = Object.prototype.hasOwnProperty;

/** Without nesting: every name as it stands, an array where it came more than once. */
function parseFlat(text) {
  return require('querystring').parse(text);
}

/**
 * With nesting.
 *
 * `parameters`: how many are read; `depth`: brackets a name may have; `arrays`: from this place on an array is an object;
 * `strict`: a RangeError for names that are too deep; `latin`: percent escapes are of Latin-1.
 */
function parseForm(text, options) {
  if (text === '') {
    return {};
  }
  const flat = Object.create(null);
  for (const part of text.replace(/%5B/gi, '[').replace(/%5D/gi, ']').split('&', options.parameters)) {
    const [name, value] = halves(part, options.latin);
    flat[name] = OWN.call(flat, name) ? [].concat(flat[name], value) : value;
  }
  let whole = {};
  for (const name of Object.keys(flat)) {
    if (name !== '') {
      whole = merge(whole, nested(segments(name, options), flat[name], options));
    }
  }
  return compact(whole);
}

/** Name and value of `name=value`; an equals sign within brackets is the name's. */
function halves(part, latin) {
  const bracket = part.indexOf(']=');
  const at = bracket < 0 ? part.indexOf('=') : bracket + 1;
  return at < 0 ? [decode(part, latin), ''] : [decode(part.slice(0, at), latin), decode(part.slice(at + 1), latin)];
}

function decode(text, latin) {
  const spaced = text.replaceAll('+', ' ');
  if (latin) {
    return spaced.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

/** `a[b][]` as `a`, `[b]`, `[]`. */
function segments(name, { depth, strict }) {
  const found = [];
  let open = name.indexOf('[');
  if (open !== 0) {
    found.push(open < 0 ? name : name.slice(0, open));
  }
  let level = 0;
  for (; open >= 0 && level < depth; level += 1) {
    const close = closing(name, open);
    if (close < 0) {
      break;
    }
    found.push(name.slice(open, close + 1));
    open = name.indexOf('[', close + 1);
  }
  if (open >= 0) {
    if (strict && level === depth) {
      throw new RangeError(`a name has more than ${depth} brackets`);
    }
    found.push(`[${name.slice(open)}]`);
  }
  return found;
}

/** Where the bracket at `open` is closed, or -1. */
function closing(name, open) {
  let level = 0;
  for (let at = open; at < name.length; at += 1) {
    if (name[at] === '[') {
      level += 1;
    } else if (name[at] === ']') {
      level -= 1;
      if (level === 0) {
        return at;
      }
    }
  }
  return -1;
}

/** A value below the names of `chain`. */
function nested(chain, value, { arrays }) {
  let made = value;
  for (const part of chain.reverse()) {
    if (part === '[]') {
      made = [].concat(made);
      continue;
    }
    const bracketed = part.startsWith('[') && part.endsWith(']');
    const name = bracketed ? part.slice(1, -1) : part;
    const place = Number.parseInt(name, 10);
    if (bracketed && String(place) === name && place >= 0 && place < arrays) {
      const array = [];
      array[place] = made;
      made = array;
    } else {
      made = name === '__proto__' ? {} : { [name]: made };
    }
  }
  return made;
}

function merge(target, source) {
  if (!source) {
    return target;
  }
  if (typeof source !== 'object') {
    if (Array.isArray(target)) {
      target.push(source);
      return target;
    }
    return [target, source];
  }
  if (target === null || typeof target !== 'object') {
    return [target].concat(source);
  }
  if (Array.isArray(target) && Array.isArray(source)) {
    source.forEach((item, at) => {
      if (!OWN.call(target, at)) {
        target[at] = item;
      } else if (isObject(target[at]) && isObject(item)) {
        target[at] = merge(target[at], item);
      } else {
        target.push(item);
      }
    });
    return target;
  }
  const into = Array.isArray(target) ? { ...target } : target;
  for (const key of Object.keys(source)) {
    into[key] = OWN.call(into, key) ? merge(into[key], source[key]) : source[key];
  }
  return into;
}

function isObject(value) {
  return value !== null && typeof value === 'object';
}

/** Arrays without the places that nothing came for. */
function compact(value) {
  if (Array.isArray(value)) {
    return value.filter((item) => item !== undefined).map(compact);
  }
  if (isObject(value)) {
    for (const key of Object.keys(value)) {
      value[key] = compact(value[key]);
    }
  }
  return value;
}

module.exports = { parseForm, parseFlat };
