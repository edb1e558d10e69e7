// device.tsx - what this device is, measured; tokens a second as they come, in both places; tasks that held the page up.
import { useEffect, useState } from 'preact/hooks';
import { probe, type DeviceProbe } from 'nigh';
import { everyFrame } from './frames';
import { at, inWords, longTasks, wordsOf, type Place } from './places';
import { size } from './models';

interface Run { place: Place; rate: number; rates: number[]; firstMs: number; text: string }

const WIDE = 240, HIGH = 56;

/** Tokens a second over the time of one answer. */
function Curve({ run, most }: { run: Run; most: number }) {
  const n = Math.max(run.rates.length - 1, 1);
  const points = run.rates.map((r, i) => `${((i / n) * WIDE).toFixed(1)},${(HIGH - (r / most) * (HIGH - 4)).toFixed(1)}`).join(' ');
  return (
    <figure>
      <figcaption><b>{inWords[run.place]}</b><span>{Math.round(run.rate)} tokens/s, the first after {Math.round(run.firstMs)} ms</span></figcaption>
      <svg viewBox={`0 0 ${WIDE} ${HIGH}`} role="img" aria-label={`Tokens a second ${inWords[run.place]}: ${Math.round(run.rate)} on average`}>
        <polyline points={points} />
      </svg>
    </figure>
  );
}

async function measure(place: Place, show: (r: Run) => void): Promise<void> {
  const nigh = await at(place), begun = performance.now(), times: number[] = [];
  const run: Run = { place, rate: 0, rates: [], firstMs: 0, text: '' };
  const paint = everyFrame(() => show({ ...run, rate: run.rates.at(-1) ?? 0, firstMs: times[0]! - begun }));
  const answer = nigh.complete('Once upon a time', { maxTokens: 160, temperature: 0.7, seed: 1, priority: 'idle' });
  for await (const piece of answer) {
    times.push(performance.now());
    run.text += piece;
    if (times.length % 8 === 0) {
      // Over 32 tokens: what comes over a socket comes in bursts.
      const back = times.slice(-32), span = back.at(-1)! - back[0]!;
      if (span > 2) run.rates = [...run.rates, ((back.length - 1) / span) * 1000];
      paint.ask();
    }
  }
  const { receipt } = await answer;
  paint.now();
  show({ ...run, rate: receipt.tokensPerSecond, firstMs: receipt.firstMs });
}

export function Device() {
  const [p, setProbe] = useState<DeviceProbe | null>(null), [runs, setRuns] = useState<Partial<Record<Place, Run>>>({});
  const [busy, setBusy] = useState(false), [said, say] = useState(''), [tasks, setTasks] = useState([...longTasks]);
  const look = (fresh: boolean): void => void probe({ fresh, files: `${location.origin}/sdk/` }).then(setProbe, (e) => say(wordsOf(e)));
  useEffect(() => {
    look(false);
    const timer = setInterval(() => setTasks([...longTasks]), 1000);
    return () => clearInterval(timer);
  }, []);

  async function race(): Promise<void> {
    setBusy(true);
    setRuns({});
    say('');
    for (const place of ['tab', 'device'] as const)
      await measure(place, (r) => setRuns((all) => ({ ...all, [place]: r }))).catch((e) => say(`${inWords[place]}: ${wordsOf(e)}.`));
    setBusy(false);
  }
  const shown = Object.values(runs), most = Math.max(1, ...shown.flatMap((r) => r.rates));
  const yes = (b: boolean): string => (b ? 'yes' : 'no');
  const longest = Math.max(0, ...tasks.map((t) => t.ms));
  return (
    <div class="page" id="device">
      <section aria-labelledby="probe-title">
        <h2 id="probe-title">This device</h2>
        {!p ? <p class="note">Measuring…</p> : (
          <>
            <dl class="facts" id="probe">
              <dt>Processor</dt><dd>{p.cores} {p.cores === 1 ? 'core' : 'cores'}</dd>
              <dt>Memory</dt><dd>{p.memoryGiB ? `${p.memoryGiB} GiB or more` : 'the browser does not tell'}</dd>
              <dt>Arithmetic</dt><dd>{p.gops ? `${p.gops.toFixed(1)} billion 8-bit operations a second on one thread` : 'could not be measured'}</dd>
              <dt>Weights read</dt><dd>{size(p.bytesPerSecond)} a second</dd>
              <dt>SIMD, relaxed SIMD</dt><dd>{yes(p.simd)}, {yes(p.relaxedSimd)}</dd>
              <dt>Isolated (threads)</dt><dd>{yes(p.isolated)}</dd>
              <dt>Engine</dt><dd><code>{p.engine || 'none'}</code></dd>
              <dt>Storage</dt>
              <dd>{p.storage.available ? `${size(p.storage.quotaBytes)}, ${p.storage.persisted ? 'kept' : 'may be cleared'}` : 'none'}</dd>
              <dt>WebGPU</dt>
              <dd>{p.webgpu.there ? `${p.webgpu.name || 'an adapter'}, ${p.webgpu.works ? 'calculates right' : 'failed its self-test'}` : 'none'}</dd>
            </dl>
            <p class="note">Measured on {new Date(p.at).toLocaleString()} in {p.ms} ms; kept for a week.</p>
            <button type="button" id="again" onClick={() => { setProbe(null); look(true); }}>Measure again</button>
          </>
        )}
      </section>
      <section aria-labelledby="speed-title">
        <h2 id="speed-title">Tokens a second</h2>
        <p class="note">The same story of 160 tokens, written here and by the node, one after the other. Both curves have one scale.</p>
        <div class="curves">{shown.map((r) => <Curve key={r.place} run={r} most={most} />)}</div>
        <button type="button" id="race" class="main" disabled={busy} onClick={() => void race()}>
          {busy ? 'Writing…' : shown.length ? 'Measure both again' : 'Measure both'}
        </button>
        <p id="device-said" role="status" aria-live="polite">{said}</p>
      </section>
      <section aria-labelledby="tasks-title">
        <h2 id="tasks-title">Long tasks of this page</h2>
        <p id="tasks">{tasks.length === 0 ? 'None: nothing held this page up for 50 ms or more.'
          : `${tasks.length} since the page was opened, the longest ${Math.round(longest)} ms.`}</p>
      </section>
    </div>
  );
}
