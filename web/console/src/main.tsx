// main.tsx - the frame: four pages, one switch between the two places, the line of what loads.
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { goOffline, nodeModels, type Nigh, type Progress } from 'nigh';
import './console.css';
import { Chat } from './chat';
import { Device } from './device';
import { Models, size } from './models';
import { at, chooseModel, chosenModel, chosenPlace, codeOf, key, onProgress, rememberPlace, type Place } from './places';
import { Placement } from './placement';
import { Write } from './write';

const PAGES = { write: 'Write', models: 'Models', device: 'Device', placement: 'Placement' } as const;
type Page = keyof typeof PAGES;
const pageNow = (): Page => (location.hash.slice(1) in PAGES ? (location.hash.slice(1) as Page) : 'write');

function Loading({ p }: { p: Progress }) {
  const part = p.total ? p.loaded / p.total : 0;
  const words = p.stage === 'download' ? `Fetching ${p.model}: ${size(p.loaded)} of ${size(p.total)}` : `Opening ${p.model}`;
  return (
    <p id="loading" role="status">
      <label for="progress">{words}{p.kept ? '' : ' (the browser has no room to keep it)'}</label>
      <progress id="progress" max={1} value={part} />
    </p>
  );
}

function Switch({ place, choose }: { place: Place; choose: (p: Place) => void }) {
  const one = (p: Place, label: string) => (
    <label class={place === p ? 'on' : ''}>
      <input type="radio" name="place" value={p} id={`place-${p}`} checked={place === p} onChange={() => choose(p)} />{label}
    </label>
  );
  return <fieldset id="where"><legend class="unseen">Where answers are made</legend>{one('tab', 'This tab')}{one('device', 'This device')}</fieldset>;
}

function App() {
  const [page, setPage] = useState<Page>(pageNow()), [place, setPlace] = useState<Place>(chosenPlace());
  const [nigh, setNigh] = useState<Nigh | null>(null), [progress, setProgress] = useState<Progress | null>(null);
  const [names, setNames] = useState<string[]>([]), [refresh, setRefresh] = useState(0), [note, setNote] = useState('');
  useEffect(() => onProgress(setProgress), []);
  useEffect(() => {
    const turned = (): void => setPage(pageNow());
    addEventListener('hashchange', turned);
    return () => removeEventListener('hashchange', turned);
  }, []);
  useEffect(() => { document.title = page === 'write' ? 'Nigh' : `${PAGES[page]} · Nigh`; }, [page]);
  useEffect(() => {
    // Without a node, and with a model that is kept here, the tab answers.
    if (place === 'device')
      at('device').catch((e) => {
        if (codeOf(e) !== 'EIO') return;
        at('tab').then(() => { setPlace('tab'); setNote('The node does not answer. This tab does.'); }, () => {});
      });
  }, []);
  useEffect(() => {
    if (nigh) nodeModels({ key: key() }).then((all) => setNames(all.filter((m) => m.gives === 'text').map((m) => m.name)), () => {});
  }, [nigh]);
  const choose = (p: Place): void => {
    rememberPlace(p);
    setNote('');
    setPlace(p);
    if (p === 'tab') at('tab').then(() => goOffline('/sw.js', `${location.origin}/sdk/`)).catch(() => {});
  };
  const model = (e: Event): void => {
    chooseModel((e.currentTarget as HTMLSelectElement).value);
    setRefresh((n) => n + 1);
  };

  return (
    <>
      <header>
        <h1><img src="/icon.svg" width="26" height="26" alt="" />Nigh</h1>
        <nav aria-label="Pages">
          {Object.entries(PAGES).map(([id, name]) => <a key={id} href={`#${id}`} aria-current={page === id ? 'page' : undefined}>{name}</a>)}
        </nav>
        <Switch place={place} choose={choose} />
        <p id="which">
          <label class="quiet" for="model">Model</label>
          <select id="model" hidden={names.length < 2} value={chosenModel() || names[0]} onChange={model}>
            {names.map((n) => <option key={n} value={n}>{n}</option>)}
          </select>
          <span id="model-name" hidden={names.length > 1}>{nigh?.model.name ?? ''}</span>
        </p>
      </header>
      {progress && progress.stage !== 'ready' && <Loading p={progress} />}
      {note && <p id="note" role="status">{note}</p>}
      <main>
        <div id="write" hidden={page !== 'write'}>
          <Write place={place} onModel={setNigh} refresh={refresh} />
          <Chat place={place} nigh={nigh} />
        </div>
        {page === 'models' && <Models />}
        {page === 'device' && <Device />}
        {page === 'placement' && <Placement />}
      </main>
      <footer><p>Programs ask the same model at <code id="base">{`${location.origin}/v1`}</code>, as OpenAI's clients do.</p></footer>
    </>
  );
}

render(<App />, document.getElementById('app')!);
