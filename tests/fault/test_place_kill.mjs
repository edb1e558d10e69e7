// test_place_kill.mjs - a node that is killed, again and again, while requests are taken into its queue and while they are
// sent: what was acknowledged is never lost, and nothing is sent twice.
//   NIGH_KILLS=200 node tests/fault/test_place_kill.mjs     NIGH_SEED=N for the same moments again
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { startProvider } from '../web/provider.mjs';
import { Node, check, equal, folder, main, random, sleep, test } from '../node/node.mjs';

const KILLS = Number(process.env.NIGH_KILLS ?? 6), SEED = Number(process.env.NIGH_SEED ?? Date.now() % 1e9);
const rand = random(SEED);

const home = folder('kill');
const provider = await startProvider();
const file = path.join(home, 'features.json');
writeFileSync(file, JSON.stringify({
  version: 1,
  classes: { public: { level: 0, may_cross: ['device', 'edge', 'cloud'] } },
  targets: { cloud: { tier: 'cloud', model: 'any?echo=1', url: provider.url, region: 'FR', retention: 'none', trains: false,
    cost: { in: 0, out: 0 } } },
  features: { later: { class: 'public', place: ['cloud'], retention: { prompt: '0', output: '1d' },
    degrade: ['queue:<=1d', 'error'] } },
}));
const start = () => Node.start(['--policy', file, '--allow-private', `127.0.0.1:${provider.port}`], { home });
const acked = new Map(); // id -> words

async function take(n, i) {
  const words = `request ${i}`;
  const r = await n.post('/v1/chat/completions', { model: 'feature/later', messages: [{ role: 'user', content: words }] },
    { 'idempotency-key': `once-${i}` }).catch(() => null);
  const body = r?.status === 202 ? await r.json().catch(() => null) : null;
  if (body) acked.set(body.id, words);
}

test(`${KILLS} kills: nothing lost, nothing twice`, async () => {
  console.log(`  seed ${SEED}`);
  provider.set({ delay: 15 });
  let next = 0;
  for (let k = 0; k < KILLS; k++) {
    const n = await start();
    await n.post('/nigh/offline', { offline: true });
    const taking = Promise.all(Array.from({ length: 6 }, () => take(n, next++)));
    if (rand() < 0.3) await sleep(rand() * 20);
    else {
      await taking;
      await n.post('/nigh/offline', { offline: false });
      await sleep(rand() * 120);
    }
    await n.stop('SIGKILL');
    await taking;
  }
  const n = await start();
  const left = new Map(acked), ends = {}, lost = [];
  for (let i = 0; i < 400 && left.size; i++) {
    for (const [id, words] of [...left]) {
      const r = await fetch(`http://${n.host}/v1/queue/${id}`);
      if (r.status === 404) {
        left.delete(id);
        lost.push(id);
        continue;
      }
      equal(r.status, 200, `${id} (seed ${SEED})`);
      const e = await r.json();
      if (e.status === 'answered') equal(e.response.choices[0].message.content, words);
      if (['answered', 'refused', 'expired'].includes(e.status)) {
        left.delete(id);
        ends[e.status] = (ends[e.status] ?? 0) + 1;
        if (e.status === 'refused') check(/may have arrived/.test(e.error), e.error);
      }
    }
    await sleep(50);
  }
  const sent = new Map();
  for (const s of provider.seen()) {
    const key = s.headers['idempotency-key'];
    sent.set(key, (sent.get(key) ?? 0) + 1);
  }
  console.log(`  ${acked.size} acknowledged, ${JSON.stringify(ends)}, ${provider.seen().length} sent`);
  const twice = [...sent].filter(([, count]) => count > 1);
  console.log(`  figure kills kills=${KILLS} acknowledged=${acked.size} lost=${lost.length + left.size} doubled=${twice.length}`);
  equal(lost, [], `acknowledged and lost (seed ${SEED})`);
  equal(left.size, 0, `requests without an end (seed ${SEED})`);
  equal(twice, [], `sent twice (seed ${SEED})`);
  check((ends.answered ?? 0) > 0, 'nothing was answered');
});

process.on('exit', () => provider.close());
await main('test_place_kill');
