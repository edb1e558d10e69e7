// unicode_tables.mjs - writes src/base/unicode_tables.h from what Node's own Unicode data says (\p{...}, toLowerCase,
// normalize). Nothing is copied from anywhere; a newer Node gives newer tables.
//   usage: node tools/unicode_tables.mjs > src/base/unicode_tables.h
const CATEGORIES = ['Cn', 'Lu', 'Ll', 'Lt', 'Lm', 'Lo', 'Mn', 'Mc', 'Me', 'Nd', 'Nl', 'No', 'Pc', 'Pd', 'Ps',
  'Pe', 'Pi', 'Pf', 'Po', 'Sm', 'Sc', 'Sk', 'So', 'Zs', 'Zl', 'Zp', 'Cc', 'Cf', 'Cs', 'Co'];
const UPPER_FIRST = 30; // a run Lu Ll Lu Ll ... that begins with Lu
const LIMIT = 0x110000;

const tests = CATEGORIES.map((name) => new RegExp(`^\\p{${name}}$`, 'u'));
const category = new Uint8Array(LIMIT);
for (let c = 0; c < LIMIT; c++) category[c] = tests.findIndex((t) => t.test(String.fromCodePoint(c)));

// Runs of one category; the many Lu Ll Lu Ll of alphabets in pairs are one run.
function categoryRuns() {
  const runs = [];
  for (let c = 0; c < LIMIT;) {
    let end = c;
    while (end < LIMIT && category[end] === category[c]) end++;
    let pairs = c;
    while (pairs + 1 < LIMIT && category[pairs] === 1 && category[pairs + 1] === 2) pairs += 2;
    if (end === c + 1 && pairs >= c + 4) { runs.push(c * 32 + UPPER_FIRST); c = pairs; continue; }
    runs.push(c * 32 + category[c]);
    c = end;
  }
  return runs;
}

// first, last, step, difference: letters first, first + step, ... last become themselves + difference.
function lowerRuns() {
  const pairs = [];
  for (let c = 0; c < LIMIT; c++) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    const letters = [...String.fromCodePoint(c).toLowerCase()];
    if (letters[0].codePointAt(0) !== c) pairs.push([c, letters[0].codePointAt(0) - c]);
  }
  const runs = [];
  for (let i = 0; i < pairs.length;) {
    const step = i + 1 < pairs.length && pairs[i + 1][0] - pairs[i][0] === 2 ? 2 : 1;
    let j = i;
    while (j + 1 < pairs.length && pairs[j + 1][0] === pairs[j][0] + step && pairs[j + 1][1] === pairs[i][1]) j++;
    runs.push([pairs[i][0], pairs[j][0], j > i ? step : 1, pairs[i][1]]);
    i = j + 1;
  }
  return runs;
}

// Letters whose canonical decomposition, without its marks, is one other letter; Hangul is computed, not listed.
function bases() {
  const out = [];
  const isMark = (letter) => /^\p{M}$/u.test(letter);
  for (let c = 0; c < LIMIT; c++) {
    if ((c >= 0xd800 && c <= 0xdfff) || (c >= 0xac00 && c <= 0xd7a3)) continue;
    const text = String.fromCodePoint(c), parts = text.normalize('NFD');
    if (parts === text || isMark(text)) continue;
    const rest = [...parts].filter((letter) => !isMark(letter));
    if (rest.length === 1) out.push(c, rest[0].codePointAt(0));
  }
  return out;
}

function rows(values) {
  const lines = [];
  let line = '   ';
  for (const v of values) {
    const word = ` ${v},`;
    if (line.length + word.length > 116) { lines.push(line); line = '   '; }
    line += word;
  }
  return [...lines, line].join('\n');
}

const hex = (v) => `0x${v.toString(16)}`;
const lower = lowerRuns();
const version = process.versions.unicode;
console.log(`/* unicode_tables.h - made by tools/unicode_tables.mjs from Unicode ${version}; not written by hand. */
#ifndef NIGH_UNICODE_TABLES_H
#define NIGH_UNICODE_TABLES_H

#include <stdint.h>

/* First letter of a run * 32 + its category (nigh_category; 30: Lu and Ll in turn), rising. */
static const uint32_t category_runs[] = {
${rows(categoryRuns().map(hex))}
};

/* First letter, last letter, step, difference to the lower-case letter. */
static const struct { uint32_t first, last; int32_t step, difference; } lower_runs[] = {
${rows(lower.map((r) => `{${hex(r[0])},${hex(r[1])},${r[2]},${r[3]}}`))}
};

/* Pairs: a letter, and the letter that its canonical decomposition is without marks; rising. */
static const uint32_t base_pairs[] = {
${rows(bases().map(hex))}
};

#endif`);
