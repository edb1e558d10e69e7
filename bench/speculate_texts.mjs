// speculate_texts.mjs - makes the pairs of texts for bench_speculate from two plain texts: how an answer may repeat its
// source, and how it may not.
//
//     node bench/speculate_texts.mjs FOLDER BOOK.txt OTHER.txt     prints the files, SOURCE ANSWER after SOURCE ANSWER
import { readFileSync, writeFileSync, mkdirSync } from 'node:fs';

const [folder, book, other] = process.argv.slice(2);
const prose = (path) => readFileSync(path, 'utf8').replace(/\r/g, '').split(/\n\s*\n/)
  .map((p) => p.replace(/\s+/g, ' ').trim()).filter((p) => p.length > 200);
const some = (paragraphs, from, words) => paragraphs.slice(from).join(' ').split(' ').slice(0, words);
const a = prose(book), b = prose(other);
const source = some(a, 20, 380), fresh = some(b, 20, 380);
const sentences = source.join(' ').match(/[^.!?]+[.!?]+["'”’]?/g).map((s) => s.trim());

// An editor's hand: of every 18 words one is replaced, of every 45 one goes, of every 60 one comes.
const edited = source.flatMap((w, i) => (i % 45 === 44 ? [] : i % 60 === 59 ? [w, fresh[i]] : i % 18 === 17 ? [fresh[i]] : [w]));
const light = source.map((w, i) => (i % 60 === 59 ? fresh[i] : w));
// Sentences that are taken out: every third one.
const extract = sentences.filter((_, i) => i % 3 === 1).map((s) => `- ${s}\n`);
// New prose with quotations: 20 words of one's own, then 30 quoted.
const quoted = [];
for (let i = 0; i + 30 < source.length; i += 60) quoted.push(...fresh.slice(i, i + 20), `"${source.slice(i, i + 30).join(' ')}"`);

const cases = { light: light.join(' '), edited: edited.join(' '), extract: extract.join(''), quoted: quoted.join(' '),
  onward: some(a, 20, 900).slice(380).join(' '), unrelated: fresh.join(' ') };
mkdirSync(folder, { recursive: true });
writeFileSync(`${folder}/source.txt`, `${source.join(' ')}\n\nRewritten:\n\n`);
for (const [name, text] of Object.entries(cases)) {
  writeFileSync(`${folder}/${name}`, text);
  console.log(`${folder}/source.txt ${folder}/${name}`);
}
