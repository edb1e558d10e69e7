// placement.tsx - which feature runs where, and why; may this leave; what became of each answer.
import { useEffect, useRef, useState } from 'preact/hooks';
import { size } from './models';
import { wordsOf } from './places';
import { Refused, decide, leaving, ledger, offline, placement, where, type Decision, type Entry, type Feature, type Judged, type Ledger,
  type Placement as State, type Target, type Where } from './policy';

const EVERY_MS = 2500, SHOWN = 25;
const inRegion = (region: string): string => (region === 'not-stated' ? 'region not stated' : region === 'here' ? 'here' : region);
const placeOf = (t: { tier: string; region: string }): string => (t.tier === 'device' ? 'this device' : `${t.tier}, ${inRegion(t.region)}`);
const percent = (part: number, whole: number): number => (whole ? Math.round((100 * part) / whole) : 0);
const sent = (bytes: number): string => (bytes < 10000 ? `${bytes} bytes` : size(bytes));
const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** Why a place would be asked, or why not: the rules in the words of the policy's own page. */
function Why({ d }: { d: Decision }) {
  const rank = (t: Judged): number => (d.order.includes(t.target) ? d.order.indexOf(t.target) : 99);
  const named = d.targets.filter((t) => !t.refused_by.some((r) => r.rule === 'place')).sort((a, b) => rank(a) - rank(b));
  return (
    <ol class="why">
      {named.map((t) => (
        <li key={t.target}>
          <b>{t.target}</b> ({placeOf(t)}): {t.usable ? (d.order[0] === t.target ? 'asked first.' : `asked as number ${d.order.indexOf(t.target) + 1}.`)
            : `not now: ${t.refused_by.map((r) => r.text).join('; ')}.`}{t.cost_usd ? ` At most ${t.cost_usd.toFixed(6)} USD.` : ''}
        </li>
      ))}
      {d.redact.length > 0 && <li class="soft">Before anything leaves: {d.redact.map((r) => (r === 'pii' ? 'personal data' : r)).join(' and ')} replaced.</li>}
      {d.degrade.length > 0 && <li class="soft">When no place is left: {d.degrade.map((s) => s.step).join(', then ')}.</li>}
    </ol>
  );
}

function Card({ f, tiers }: { f: Feature; tiers: Map<string, string> }) {
  const [open, setOpen] = useState(false), [d, setD] = useState<Decision | null>(null), [said, say] = useState('');
  const sum = Object.values(f.on).reduce((s, n) => s + n, 0);
  const toggled = (e: Event): void => {
    setOpen((e.currentTarget as HTMLDetailsElement).open);
    decide(f.feature, '', '').then(setD, (x) => say(wordsOf(x)));
  };
  return (
    <li class="feature">
      <h3>{f.feature} <span class="class">{f.class}</span></h3>
      <div class="share" role="img" aria-label={sum ? Object.entries(f.on).map(([t, n]) => `${t} ${percent(n, sum)} %`).join(', ') : 'no answers yet'}>
        {Object.entries(f.on).filter(([, n]) => n > 0).map(([t, n]) => <span key={t} class={tiers.get(t)} style={{ flexGrow: n }} />)}
      </div>
      <p>
        {sum ? Object.entries(f.on).filter(([, n]) => n > 0).map(([t, n]) => `${t} ${percent(n, sum)} %`).join(' · ') : 'No answers yet'}
        {f.answers > 0 && ` · ${count(f.answers, 'answer')}`}{f.degraded > 0 && `, ${f.degraded} degraded`}{f.errors > 0 && ` · ${count(f.errors, 'error')}`}
      </p>
      <details onToggle={toggled}>
        <summary>Where would it run now, and why?</summary>
        {open && (d ? <Why d={d} /> : <p class="note">{said || 'Asking…'}</p>)}
      </details>
    </li>
  );
}

const healthOf = (t: Target): string => (t.tier === 'device' ? (t.here ? 'here' : 'its model is not here')
  : t.health === 'open' ? 'reachable as far as is known'
  : t.health === 'closed' ? `left alone for ${Math.ceil(t.closed_ms / 1000)} s` : 'one request tries it');

function Targets({ all }: { all: Target[] }) {
  return (
    <ul class="cards targets">
      {all.map((t) => (
        <li key={t.target}>
          <h3><span class={`dot ${t.tier}`} aria-hidden="true" />{t.target}</h3>
          <p>{placeOf(t)}, {t.model}</p>
          <dl>
            <dt>State</dt><dd class={t.health === 'closed' || (t.tier === 'device' && !t.here) ? 'bad' : ''}>{healthOf(t)}</dd>
            <dt>Answers</dt><dd>{t.answers}{t.first_ms.ewma > 0 && `, the first text after ${Math.round(t.first_ms.ewma)} ms`}</dd>
            {t.tier !== 'device' && <><dt>Sent there</dt><dd>{sent(t.bytes_out)}</dd></>}
            {t.last_error && <><dt>Last failure</dt><dd>{t.last_error}</dd></>}
          </dl>
        </li>
      ))}
    </ul>
  );
}

function Question({ state }: { state: State }) {
  const [d, setD] = useState<Decision | null>(null), [said, say] = useState(''), form = useRef<HTMLFormElement>(null);
  const classes = [...new Set(state.features.map((f) => f.class))];
  const askIt = (e: Event): void => {
    e.preventDefault();
    const of = new FormData(form.current!), text = (name: string): string => String(of.get(name) ?? '');
    say('');
    decide(text('feature'), text('class'), text('words')).then(setD, (x) => { setD(null); say(wordsOf(x)); });
  };
  const a = d && leaving(d);
  return (
    <section aria-labelledby="leave-title" id="leave">
      <h2 id="leave-title">Can this leave?</h2>
      <form ref={form} onSubmit={askIt}>
        <label>Feature <select name="feature" id="leave-feature">{state.features.map((f) => <option key={f.feature}>{f.feature}</option>)}</select></label>
        <label>Class <select name="class" id="leave-class">
          <option value="">as the feature says</option>{classes.map((c) => <option key={c}>{c}</option>)}</select></label>
        <label class="wide" for="leave-words">Text
          <textarea name="words" id="leave-words" rows={2} placeholder="What somebody would write. It is not run and not kept." />
        </label>
        <button class="main" id="leave-ask">Can this leave?</button>
      </form>
      <div id="leave-said" role="status" aria-live="polite">
        {said && <p class="bad">{said}</p>}
        {d && a && (
          <>
            <p class={a.may.length ? 'verdict may' : 'verdict well'}>
              {a.may.length === 0 ? <><b>No.</b> As {d.class}, {d.feature || 'an unknown feature'} reaches no place outside this device.</>
                : <><b>Yes{d.redact.length ? ', redacted' : ''}.</b> As {d.class}, {d.feature} may reach{' '}
                  {a.may.map((t) => `${t.target} (${placeOf(t)})`).join(' or ')}
                  {a.now ? '.' : ', though not now.'}</>}
            </p>
            {a.never.length > 0 && (
              <ul class="why">{a.never.map((t) => (
                <li key={t.target}><b>{t.target}</b> ({placeOf(t)}): never, {t.refused_by.map((r) => r.text).join('; ')}.</li>
              ))}</ul>
            )}
          </>
        )}
      </div>
    </section>
  );
}

const became = (r: Entry): string => (r.outcome === 'error' ? `error: ${r.rule || 'no rule named'}`
  : r.outcome === 'queued' ? 'queued' : r.degraded || 'answered');
const last = (r: Entry): string => { const h = r.hops.at(-1); return h ? `${h.target} (${placeOf(h)})` : 'nowhere'; };
const left = (r: Entry): number => r.hops.reduce((s, h) => s + (h.tier === 'device' ? 0 : h.bytes_out), 0);
const QUESTIONS = [['where', 'Where did it go?'], ['who', 'Who can read it?'], ['kept', 'How long is it kept?'],
  ['leave', 'May it leave the region?']] as const;

function Book({ features, tick }: { features: string[]; tick: number }) {
  const [book, setBook] = useState<Ledger | null>(null), [said, say] = useState(''), [feature, setFeature] = useState('');
  const [chosen, choose] = useState(''), [four, setFour] = useState<Where | null>(null);
  useEffect(() => {
    ledger(feature, SHOWN).then((l) => { setBook(l); say(''); },
      (e) => say(e instanceof Refused && e.status === 404 ? 'This node keeps no ledger.' : wordsOf(e)));
  }, [feature, tick]);
  const show = (id: string): void => {
    choose(id);
    setFour(null);
    where(id).then(setFour, (e) => say(wordsOf(e)));
  };
  return (
    <section aria-labelledby="book-title" id="book">
      <h2 id="book-title">What became of each answer</h2>
      <p class="row">
        <label>Feature <select id="book-feature" value={feature} onChange={(e) => setFeature(e.currentTarget.value)}>
          <option value="">all</option>{features.map((f) => <option key={f}>{f}</option>)}</select></label>
        {book && book.totals.length > 0 && (
          <span>{book.totals.map((t) => `${t.target || 'nowhere'}: ${count(t.answers, 'answer')}, ${sent(t.bytes_out)} sent`).join(' · ')}</span>
        )}
      </p>
      {said ? <p class="note">{said}</p> : !book ? <p class="note">Reading…</p> : book.records.length === 0 ? <p class="note">No answers yet.</p> : (
        <div class="scroll">
          {/* The roles stand here because a phone lays the rows out as cards, and then the browser takes it for no table. */}
          <table role="table" aria-labelledby="book-title">
            <thead role="rowgroup">
              <tr role="row">{['When', 'Feature', 'Where', 'Sent', 'What'].map((h) => <th key={h} role="columnheader" scope="col">{h}</th>)}</tr>
            </thead>
            <tbody role="rowgroup">
              {book.records.map((r) => (
                <tr key={r.id} role="row" class={chosen === r.id ? 'on' : ''}>
                  <td role="cell">
                    <button type="button" class="plain" aria-expanded={chosen === r.id} aria-controls="four" title={r.id} onClick={() => show(r.id)}>
                      {new Date(r.at_ms).toLocaleTimeString()}</button>
                  </td>
                  <td role="cell">{r.feature || 'a model'} <span class="class">{r.class}</span></td>
                  <td role="cell">{last(r)}</td>
                  <td role="cell"><span class="narrow">sent: </span>{sent(left(r))}{r.redacted > 0 && `, ${r.redacted} redacted`}</td>
                  <td role="cell" class={r.outcome === 'error' ? 'bad' : ''}>{became(r)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <div id="four" role="status" aria-live="polite">
        {chosen && four && <p class="note">Receipt <code>{chosen}</code></p>}
        {chosen && four && <dl class="four">{QUESTIONS.map(([k, q]) => <><dt>{q}</dt><dd id={`four-${k}`}>{four[k]}</dd></>)}</dl>}
      </div>
    </section>
  );
}

export function Placement() {
  const [state, setState] = useState<State | null>(null), [said, say] = useState('Asking the node…'), [tick, setTick] = useState(0);
  const look = (): void => void placement().then((s) => { setState(s); say(''); }, (e) => {
    setState(null);
    say(e instanceof Refused && e.code === 'no_policy' ? 'none' : wordsOf(e));
  });
  useEffect(() => {
    const again = (): void => { if (!document.hidden) { look(); setTick((n) => n + 1); } };
    again();
    const timer = setInterval(again, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  if (!state)
    return (
      <div class="page" id="placement"><section>
        <h2>Placement</h2>
        {said !== 'none' ? <p class="note">{said}</p> : (
          <p>This node has no policy, so every request is answered by its own models. Start it with <code>nigh serve --policy features.json</code>.</p>
        )}
      </section></div>
    );
  const tiers = new Map(state.targets.map((t) => [t.target, t.tier as string]));
  const cut = (): void => void offline(!state.offline).then(look, (e) => say(wordsOf(e)));
  return (
    <div class="page" id="placement">
      <section aria-labelledby="features-title">
        <h2 id="features-title">Features <span class="soft">policy version {state.policy_version}</span></h2>
        <ul class="cards">{state.features.map((f) => <Card key={f.feature} f={f} tiers={tiers} />)}</ul>
      </section>
      <section aria-labelledby="targets-title">
        <h2 id="targets-title">Targets</h2>
        <p class="row">
          <button type="button" id="cut" aria-pressed={state.offline} onClick={cut}>{state.offline ? 'Give the network back' : 'Cut the network'}</button>
          <span role="status">{state.offline ? 'The node acts as if it had no network.' : 'The node may use its network.'}</span>
        </p>
        {said && <p class="bad">{said}</p>}
        <Targets all={state.targets} />
      </section>
      <Question state={state} />
      <Book features={state.features.map((f) => f.feature)} tick={tick} />
    </div>
  );
}
