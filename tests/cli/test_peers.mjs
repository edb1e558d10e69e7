// test_peers.mjs - the parts of `make bench-peers`: the arithmetic of its table, and a whole run on the shipped model
// where llama.cpp cannot be had. It proves no speed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { bestPeer, csv, median, printTable, printVerdicts, ratio, verdicts } from '../../bench/peers/table.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
let passed = 0, failed = 0;
function check(name, test) {
    try {
        test();
        passed++;
    } catch (error) {
        failed++;
        console.log(`  FAILED ${name}: ${error.message.slice(0, 2000)}`);
    }
}

const row = { file: 'qwen2.5-0.5b-q4_0', what: 'decode', threads: 2, context: 0, unit: 'tok/s', ours: [120, 130, 110],
    peer: [80, 100, 90], bench: [99, 101], share: 0.9 };

check('median', () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.ok(Number.isNaN(median([])) && Number.isNaN(median(undefined)));
});
check('the best peer setting counts', () => {
    assert.equal(bestPeer(row), 100);
    assert.equal(ratio(row), 1.2);
    assert.equal(ratio({ ...row, bench: [] }), 120 / 90);
    assert.equal(ratio({ ...row, unit: 'ms', ours: [50], peer: [100], bench: [] }), 2);
    assert.ok(Number.isNaN(ratio({ ...row, peer: [], bench: [] })));
});
check('the goals of a row', () => {
    assert.deepEqual(verdicts(row, [row]).map(v => [v.goal, v.passed]), [[1.3, false], [0.85, true]]);
    assert.deepEqual(verdicts({ ...row, threads: 1 }, [row]), []);
    assert.deepEqual(verdicts({ ...row, what: 'prompt', ours: [200] }, [row]).map(v => v.passed), [true]);
    const far = { ...row, context: 1024, ours: [90] }, near = { ...row, context: 128, ours: [100] };
    assert.deepEqual(verdicts(far, [far, near]).map(v => [v.goal, v.passed]), [[0.85, true]]);
    assert.deepEqual(verdicts({ ...row, what: 'start, warm', unit: 'ms', ours: [151] }, []).map(v => v.passed), [false]);
    assert.equal(verdicts({ ...row, peer: [], bench: [] }, [row])[0].known, false);
});
check('what is said', () => {
    assert.match(printTable([row]), /\| qwen2.5-0.5b-q4_0 \| decode \|\s+2 \| tok\/s \| 120.0 \| 110.0-130.0 \|/);
    assert.match(printVerdicts([row]), /^done when: 1 of 2 pass\n.*SHORT: 1.20 x peer, wanted 1.30\n.*pass: 0.90 of the memory/);
    assert.match(printVerdicts([{ ...row, peer: [], bench: [] }]), /1 of 1 pass, 1 without a figure\n.*no figure for "x peer"/);
});
check('the CSV', () => {
    const about = { date: '2026-01-02T03:04', commit: 'abc', machine: 'a "fast" one, 2 cores', flags: 'avx2',
        engines: { ours: 'nigh', peer: 'llama.cpp', bench: 'llama-bench' } };
    const lines = csv([row, { ...row, peer: [], bench: [], context: undefined, ours: [1] }], about).split('\n');
    assert.equal(lines.length, 6);
    assert.match(lines[0], /^date,commit,machine,flags,engine,file,what,cpu,threads,context,count,unit,median,low,high,rounds,/);
    assert.ok(lines[1].startsWith('2026-01-02T03:04,abc,"a ""fast"" one, 2 cores",avx2,nigh,qwen2.5-0.5b-q4_0,decode,,2,0,,tok/s,'));
    assert.ok(lines[1].endsWith('120.000,110.000,130.000,120.000 130.000 110.000,1.200,0.900,'));
});

// A whole run without llama.cpp: npm is pointed at a place where nothing answers.
const out = fs.mkdtempSync(path.join(os.tmpdir(), 'nigh-peers-'));
const run = spawnSync(process.execPath, [path.join(root, 'bench/peers/peers.mjs'), path.join(root, 'models/nigh-stories.gguf')], {
    encoding: 'utf8', env: { ...process.env, NIGH: process.env.NIGH ?? path.join(root, 'build/nigh'), NIGH_SHORT: '1',
        NIGH_BENCH_OUT: out, NIGH_BENCH_WHAT: 'tokens,start', NIGH_BENCH_WRAP: '', NIGH_LIMITS: path.join(out, 'none'),
        LLAMA_BENCH: '', npm_config_registry: 'http://127.0.0.1:9/', npm_config_fetch_retries: '0', npm_config_cache: out } });
check('it ends well', () => assert.equal(run.status, 0, run.stderr));
check('it says that llama.cpp is not there', () =>
    assert.match(run.stderr, /without llama.cpp: node-llama-cpp [0-9.]+ is not installed, so these are our figures alone/));
check('it says that the limits are not known', () => assert.match(run.stderr, /limits are not measured: there is no /));
for (const what of ['prompt 64', 'decode 16', 'decode 8 behind 16', 'decode 8 behind 128', 'start, warm', 'peak memory'])
    check(`the table has ${what}`, () =>
        assert.match(run.stdout, new RegExp(`\\| nigh-stories \\| ${what} +\\|.*\\| +[0-9.]+ \\| +[0-9.]+-[0-9.]+ \\| +- \\|`)));
check('the CSV is written', () => {
    const lines = fs.readFileSync(path.join(out, 'peers.csv'), 'utf8').trim().split('\n');
    assert.equal(lines.length, 9);
    assert.equal(lines.filter(line => /,decode,.*,q8_0$/.test(line)).length, 2);
    for (const line of lines.slice(1)) assert.match(line, /,nigh,nigh-stories,/);
});
fs.rmSync(out, { recursive: true, force: true });

console.log(`test_peers: ${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
