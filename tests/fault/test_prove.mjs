// test_prove.mjs - `nigh prove`: what a feature sends by its ledger is what a counter outside its network sees, to the byte.
// Needs Linux, root, `ip` (iproute2) and a kernel that makes veth pairs; without them one case says so.
//   NIGH_PROVE=1000 node tests/fault/test_prove.mjs       NIGH_SEED=N for the same requests again
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { anyModel, check, equal, folder, main, program, skip, test } from '../node/node.mjs';

const COUNT = Number(process.env.NIGH_PROVE ?? 100), SEED = Number(process.env.NIGH_SEED ?? 1 + (Date.now() % 1e9));
const OUTSIDE = `10.213.${process.pid % 200}.1`;
const model = anyModel(), home = folder('prove-test'), policy = path.join(home, 'features.json');
const provider = await startProvider({ host: '0.0.0.0' });
const cloud = (api) => ({ tier: 'cloud', model: 'any', api, url: `http://${OUTSIDE}:${provider.port}/v1`, region: 'DE',
    retention: 'none', trains: false, cost: { in: 1, out: 1 } });
writeFileSync(policy, JSON.stringify({
    version: 1,
    classes: { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] },
        personal: { level: 1, may_cross: ['device', 'cloud:redacted'], redact: ['pii', 'secrets'] },
        secret: { level: 2, may_cross: ['device'] } },
    targets: { here: { tier: 'device', model: path.basename(model ?? 'none', '.gguf') }, chat: cloud('openai-chat'),
        responses: cloud('openai-responses'), messages: cloud('anthropic') },
    features: { near: { class: 'secret', place: ['here', 'chat'], degrade: ['error'] },
        chat: { class: 'public', place: ['chat'], degrade: ['error'] },
        responses: { class: 'public', place: ['responses'], degrade: ['error'] },
        messages: { class: 'personal', place: ['messages'], degrade: ['error'] } },
}));

// The provider runs in this process, so the program must not hold it up.
const prove = (words) => new Promise((done) => {
    const child = spawn(program, ['prove', policy, ...words, model, '--outside', OUTSIDE, '--json', '--allow-private',
        `${OUTSIDE}:${provider.port}`]);
    let out = '', err = '';
    child.stdout.on('data', (d) => { out += d; });
    child.stderr.on('data', (d) => { err += d; });
    child.on('close', (code) => done({ code, err, seen: code === 0 || code === 6 ? JSON.parse(out) : null }));
});

async function ran(words) {
    if (!model) skip('no model is here: neither the reference data nor models/nigh-stories.gguf');
    const made = await prove(words);
    if (made.code === 10) skip(made.err.trim());
    check([0, 6].includes(made.code), `exit code ${made.code}: ${made.err}`);
    return made.seen;
}

test('a feature that may not leave sends nothing', async () => {
    const seen = await ran(['near', '--requests', '3']);
    equal([seen.answered, seen.line_bytes_out, seen.packets_out, seen.calls_away, seen.agrees], [3, 0, 0, 0, true]);
});

for (const feature of ['chat', 'responses', 'messages'])
    test(`${feature}: the ledger and the packets agree to the byte`, async () => {
        const count = feature === 'chat' ? COUNT : Math.min(COUNT, 20);
        const seen = await ran([feature, '--requests', String(count), '--seed', String(SEED)]);
        const differ = Math.abs(seen.line_bytes_out - seen.ledger_bytes_out) + Math.abs(seen.line_bytes_in - seen.ledger_bytes_in);
        console.log(`  figure prove feature=${feature} requests=${count} answered=${seen.answered} line_out=${seen.line_bytes_out} ` +
            `line_in=${seen.line_bytes_in} packets_out=${seen.packets_out} differ=${differ + seen.missed}`);
        equal([seen.answered, seen.calls_away, seen.records, seen.missed, seen.agrees], [count, count, count, 0, true]);
        check(seen.ledger_bytes_out > count * 100, `only ${seen.ledger_bytes_out} bytes left`);
        equal([seen.line_bytes_out, seen.line_bytes_in], [seen.ledger_bytes_out, seen.ledger_bytes_in],
            `bytes of the line and of the ledger (seed ${SEED})`);
    });

test('without root there is a sentence', () => {
    if (!model) skip('no model is here: neither the reference data nor models/nigh-stories.gguf');
    if (process.getuid() !== 0) skip('only root can stop being root');
    const copy = path.join(home, 'nigh'), weights = path.join(home, 'any.gguf');
    copyFileSync(program, copy);
    copyFileSync(model, weights);
    chmodSync(home, 0o755);
    const made = spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', copy, 'prove', policy, 'near', weights],
        { encoding: 'utf8' });
    if (made.error) skip('there is no setpriv');
    equal(made.status, 10, `exit code: ${made.stderr}`);
    check(/only root may/.test(made.stderr), made.stderr);
});

await main('test_prove');
