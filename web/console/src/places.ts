// places.ts - the two places that can answer, each opened once; the key of the node, kept for this tab only.
import { NighError, open, type Nigh, type Progress } from 'nigh';

export type Place = 'tab' | 'device';
export const inWords: Record<Place, string> = { tab: 'in this tab', device: 'on this device' };

const files = `${location.origin}/sdk/`;
const opened = new Map<string, Promise<Nigh>>();
const listeners = new Set<(p: Progress | null) => void>();

export const key = (): string | undefined => sessionStorage.getItem('nigh-key') ?? undefined;
export function setKey(text: string): void {
  sessionStorage.setItem('nigh-key', text);
  opened.clear();
}

export const chosenPlace = (): Place => (localStorage.getItem('nigh-place') === 'tab' ? 'tab' : 'device');
export const rememberPlace = (p: Place): void => localStorage.setItem('nigh-place', p);
export const chosenModel = (): string => sessionStorage.getItem('nigh-model') ?? '';
export function chooseModel(name: string): void {
  sessionStorage.setItem('nigh-model', name);
}

/** Progress of a tab that loads its model; null when it is done. */
export function onProgress(run: (p: Progress | null) => void): () => void {
  listeners.add(run);
  return () => listeners.delete(run);
}
const tell = (p: Progress | null): void => listeners.forEach((l) => l(p));

/** What answers at a place. A failure is forgotten, so that the next attempt tries again. */
export function at(place: Place): Promise<Nigh> {
  const name = `${place} ${chosenModel()}`;
  let nigh = opened.get(name);
  if (!nigh) {
    nigh = open({
      backend: place === 'tab' ? 'tab' : 'node', files, key: key(), model: chosenModel() || undefined, onprogress: tell,
    });
    opened.set(name, nigh);
    nigh.then(
      () => tell(null),
      () => {
        opened.delete(name);
        tell(null);
      },
    );
  }
  return nigh;
}

/** Loads a model of the node into this browser, by name. False: it was loaded, but there is no room to keep it. */
export async function keep(model: string): Promise<boolean> {
  let kept = true;
  const heard = (p: Progress): void => {
    kept = p.kept;
    tell(p);
  };
  try {
    (await open({ backend: 'tab', files, key: key(), model, onprogress: heard })).close();
  } finally {
    tell(null);
  }
  return kept;
}

/** Closes the engine of this tab, so that its model can be deleted. */
export async function closeTab(): Promise<void> {
  for (const [name, nigh] of opened) {
    if (!name.startsWith('tab ')) continue;
    opened.delete(name);
    (await nigh.catch(() => null))?.close();
  }
}

export const codeOf = (e: unknown): string => (e instanceof NighError ? e.code : '');
/** What may be tried when a place fails, as a sentence; '' when there is nothing. */
export const adviceOf = (e: unknown, place: Place): string =>
  codeOf(e) === 'EIO' && place === 'device' ? ' This tab can answer instead: the switch is above.' : '';
export const wordsOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

// ---- tasks of the main thread that took longer than 50 ms ----
export const longTasks: { at: number; ms: number }[] = [];
try {
  new PerformanceObserver((list) => {
    for (const e of list.getEntries()) longTasks.push({ at: e.startTime, ms: e.duration });
  }).observe({ type: 'longtask', buffered: true });
} catch {
  // not every browser tells
}
