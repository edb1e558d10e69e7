// models.tsx - what is kept where: models of this browser and of this device, their sizes, and how they would run here.
import { useEffect, useRef, useState } from 'preact/hooks';
import { explain, models, nodeModels, probe, remove, storage, type About, type DeviceProbe, type StorageState, type StoredModel } from 'nigh';
import { closeTab, codeOf, keep, key, wordsOf } from './places';

export const size = (bytes: number): string => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB`
  : `${(bytes / 1e9).toFixed(2)} GB`);
const short = (parameters: number): string => (parameters < 1e9 ? `${(parameters / 1e6).toFixed(1)} M` : `${(parameters / 1e9).toFixed(1)} B`);

/** What a tier is: one checkpoint, and how many bits it keeps of a weight. */
const tier = (m: About): string => `${short(m.parameters)} parameters${m.bytes > 0 && m.parameters > 0
  ? ` at ${((8 * m.bytes) / m.parameters).toFixed(1)} bits` : ''}`;

export function Models() {
  const [kept, setKept] = useState<StoredModel[]>([]), [room, setRoom] = useState<StorageState | null>(null);
  const [there, setThere] = useState<About[] | null>(null), [device, setDevice] = useState<DeviceProbe | null>(null);
  const [said, say] = useState(''), [busy, setBusy] = useState(false), title = useRef<HTMLHeadingElement>(null);
  const look = async (): Promise<void> => {
    setKept(await models());
    setRoom(await storage());
  };
  useEffect(() => {
    void look();
    nodeModels({ key: key() }).then(setThere, (e) => { setThere([]); if (codeOf(e) !== 'EIO') say(`The node does not tell its models: ${wordsOf(e)}.`); });
    probe({ files: `${location.origin}/sdk/` }).then(setDevice, () => {});
  }, []);

  const act = (work: () => Promise<string>) => async (): Promise<void> => {
    setBusy(true);
    try {
      say(await work());
    } catch (e) {
      say(`That did not work: ${wordsOf(e)}.`);
    }
    await look();
    setBusy(false);
    title.current?.focus(); // the button that was pressed is gone
  };
  const fetchIt = (m: About): (() => Promise<void>) => act(async () => ((await keep(m.name))
    ? `${m.name} is kept in this browser.` : `${m.name} works here, but the browser has no room to keep it.`));
  const drop = (m: StoredModel): (() => Promise<void>) => act(async () => {
    await closeTab();
    return `${m.name} is deleted: ${size(await remove(m.sha256))} are free again.`;
  });
  const persist = act(async () => ((await navigator.storage.persist())
    ? 'The browser promised to keep the models.' : 'The browser did not promise to keep them: it may clear them when the disk is full.'));

  const used = room && room.quotaBytes ? Math.max(0.5, (room.usedBytes / room.quotaBytes) * 100) : 0;
  return (
    <div class="page" id="models">
      <section aria-labelledby="kept-title">
        <h2 id="kept-title" ref={title} tabIndex={-1}>In this browser</h2>
        {kept.length === 0 ? <p class="note">Nothing is kept here yet. A model that this tab loads stays, and works without a network.</p> : (
          <ul class="cards">
            {kept.map((m) => (
              <li key={m.sha256}>
                <h3>{m.name}</h3>
                <p>{size(m.storedBytes)}
                  {m.complete ? '' : ` of ${size(m.bytes)}: a download that goes on where it stopped`}{m.encrypted ? ', encrypted' : ''}</p>
                <dl>
                  <dt>SHA-256</dt><dd><code>{m.sha256.slice(0, 16)}…</code></dd>
                  <dt>Signed by</dt><dd>{m.signedBy ? <code>{m.signedBy.slice(0, 16)}…</code> : 'nobody'}</dd>
                </dl>
                <button type="button" class="delete" disabled={busy} onClick={() => void drop(m)()} aria-label={`Delete ${m.name}`}>Delete</button>
              </li>
            ))}
          </ul>
        )}
        {room?.available && (
          <div class="room">
            <p>{size(room.usedBytes)} of {size(room.quotaBytes)} that the browser gives
              {room.persisted ? '; it promised to keep them.' : '; it may clear them when the disk is full.'}</p>
            <meter min={0} max={100} value={used} aria-label="Room that is used" />
            {!room.persisted && <button type="button" id="persist" disabled={busy} onClick={() => void persist()}>Ask it to keep them</button>}
          </div>
        )}
        {room && !room.available && <p class="note">This browser has no storage for models: they are fetched each time.</p>}
      </section>
      <section aria-labelledby="there-title">
        <h2 id="there-title">On this device</h2>
        {there === null && <p class="note">Asking the node…</p>}
        {there?.length === 0 && <p class="note">No node answers. What is kept in this browser works without one.</p>}
        {there && there.length > 0 && (
          <ul class="cards">
            {there.map((m) => {
              const v = device && m.bytes > 0 ? explain(device, m) : null;
              return (
                <li key={m.sha256}>
                  <h3>{m.name}</h3>
                  <p>{m.bytes > 0 ? `${size(m.bytes)}, ` : ''}gives {m.gives}</p>
                  <dl>
                    <dt>Tier</dt><dd>{tier(m)}</dd>
                    <dt>Context</dt><dd>{m.contextTokens} tokens</dd>
                    <dt>SHA-256</dt><dd><code>{m.sha256.slice(0, 16)}…</code></dd>
                    <dt>Family</dt><dd>{m.architecture}</dd>
                  </dl>
                  {v && <p class={`verdict ${v.grade}`}>In this tab: {v.text}</p>}
                  {kept.some((k) => k.sha256 === m.sha256 && k.complete) ? <p>Also kept in this browser.</p> : v?.grade !== 'not' && (
                    <button type="button" class="fetch" disabled={busy} onClick={() => void fetchIt(m)()} aria-label={`Keep ${m.name} in this browser`}>
                      Keep it in this browser</button>
                  )}
                </li>
              );
            })}
          </ul>
        )}
      </section>
      <p id="models-said" role="status" aria-live="polite">{said}</p>
    </div>
  );
}
