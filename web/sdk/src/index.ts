// index.ts - the door of the SDK: open() gives a Nigh, which answers from this tab or from a node.
import { Answer } from './answer.js';
import { messagesOf, settingsOf, type Backend } from './backend.js';
import { NodeBackend } from './node.js';
import { NighError, asError } from './status.js';
import { Store, storageState } from './store.js';
import { TabBackend } from './tab.js';
import type { About, AskOptions, Asking, Message, OpenOptions, Receipt, StorageState, StoredModel, Vectors } from './types.js';

export { Answer } from './answer.js';
export { languageModel } from './language_model.js';
export { fetchFor } from './fetch_for.js';
export { goOffline } from './offline.js';
export { explain, probe } from './probe.js';
export type { DeviceProbe, Verdict } from './probe.js';
export { NighError, STATUS, type StatusName } from './status.js';
export type * from './types.js';

const ALL = 64;

export class Nigh {
  readonly #b: Backend;
  /** Why this place was chosen, in words. */
  readonly reason: string;

  /** @internal */
  constructor(b: Backend, reason: string) {
    this.#b = b;
    this.reason = reason;
  }

  get place(): Receipt['place'] {
    return this.#b.place;
  }
  get model(): About {
    return this.#b.about;
  }

  /** Continues a text. Throws EINVAL at once for options that are none. */
  complete(prompt: string, o: AskOptions = {}): Answer {
    if (typeof prompt !== 'string') throw new NighError('EINVAL', 'prompt wants a text');
    return this.#ask({ kind: 'complete', prompt }, o);
  }

  /** The next message of a conversation. */
  chat(messages: Message[], o: AskOptions = {}): Answer {
    return this.#ask({ kind: 'chat', messages: messagesOf(messages) }, o);
  }

  #ask(work: Parameters<Backend['ask']>[0], o: AskOptions): Answer {
    const settings = settingsOf(o);
    let stop = (): void => {};
    const answer = new Answer(() => stop());
    if (o.signal?.aborted) answer.cancel();
    else {
      stop = this.#b.ask(work, settings, o.priority ?? 'normal', answer);
      const abort = (): void => answer.cancel();
      o.signal?.addEventListener('abort', abort);
      const forget = (): void => o.signal?.removeEventListener('abort', abort);
      answer.then(forget, forget);
    }
    return answer;
  }

  /** One vector for each text, of length 1: the nearer two texts, the larger their scalar product. */
  async embed(text: string | string[], o: Asking = {}): Promise<Vectors> {
    const texts = Array.isArray(text) ? text : [text];
    if (!texts.length || texts.some((t) => typeof t !== 'string')) throw new NighError('EINVAL', 'embed wants a text or several');
    if (o.signal?.aborted) throw new NighError('ECANCEL');
    let sum: Vectors | null = null;
    for (let at = 0; at < texts.length; at += ALL) {
      const part = await this.#b.embed(texts.slice(at, at + ALL), o.priority ?? 'normal', o.signal);
      if (!sum) sum = part;
      else {
        sum.vectors.push(...part.vectors);
        sum.usage.promptTokens += part.usage.promptTokens;
        sum.receipt = { ...part.receipt, ms: sum.receipt.ms + part.receipt.ms, bytesOut: sum.receipt.bytesOut + part.receipt.bytesOut };
      }
    }
    return sum!;
  }

  /** Tokens that a text takes. */
  count(text: string): Promise<number> {
    return this.#b.count(text);
  }

  /** Ends it: what is open fails with ECANCEL. */
  close(): void {
    this.#b.close();
  }

  /** @internal for tests */
  get backend(): Backend {
    return this.#b;
  }
}

const filesHere = (): string => new URL('./', import.meta.url).href;

function optionsOf(o: OpenOptions): OpenOptions & { base: string; files: string } {
  const page = (globalThis as { location?: { origin: string } }).location?.origin;
  const base = o.base ?? (page && page !== 'null' ? page : 'http://127.0.0.1:6444');
  return { ...o, base: new URL(base, page).href, files: new URL(o.files ?? filesHere(), page ?? base).href };
}

type Options = ReturnType<typeof optionsOf>;

/** Names become addresses of the node's manifests; without a name the node is asked, or the SDK's own model is taken. */
async function manifestsOf(o: Options): Promise<string[]> {
  const names = o.model === undefined ? [] : Array.isArray(o.model) ? o.model : [o.model];
  if (!names.length) {
    const remembered = `nigh:first:${o.base}`;
    try {
      names.push((await NodeBackend.open(o as { base: string })).about.name);
      globalThis.localStorage?.setItem(remembered, names[0]!);
    } catch (e) {
      if (asError(e).code === 'EAUTH') throw e;
      const last = globalThis.localStorage?.getItem(remembered);
      if (!last) return [new URL('model/nigh-stories.manifest.json', o.files).href];
      names.push(last);
    }
  }
  return names.map((n) => {
    const isAddress = /\.json$/.test(n) || /^https?:/.test(n);
    return isAddress ? new URL(n, o.base).href : new URL(`/nigh/models/${encodeURIComponent(n)}/manifest`, o.base).href;
  });
}

async function openTab(o: Options): Promise<Backend> {
  if (typeof Worker === 'undefined') throw new NighError('ENOSUP', 'there are no workers here');
  void navigator.storage?.persist?.().catch(() => false); // asked for; whether it was granted shows storage()
  const threads = Math.min(o.threads ?? Math.min(navigator.hardwareConcurrency || 1, 4), globalThis.crossOriginIsolated ? 16 : 1);
  return TabBackend.open({
    files: o.files, manifests: await manifestsOf(o), key: o.key, publicKeys: o.publicKeys, encrypt: o.encrypt ?? false,
    context: o.context ?? 0, threads, signal: o.signal, onprogress: o.onprogress,
  });
}

const openNode = (o: Options): Promise<Backend> =>
  NodeBackend.open({ base: o.base, key: o.key, model: Array.isArray(o.model) ? o.model[0] : o.model, signal: o.signal });

const ENOUGH = 15; // tokens a second: faster than most people read

/** Tokens a second, from a few that are thrown away. */
async function speedOf(b: Backend): Promise<number> {
  if (b.about.gives !== 'text') return Infinity;
  const answer = new Answer(), settings = settingsOf({ maxTokens: 12, temperature: 0 });
  b.ask({ kind: 'complete', prompt: 'The' }, settings, 'now', answer);
  return (await answer).receipt.tokensPerSecond || Infinity;
}

/** The tab when it is fast enough, measured now; else the node, if there is one that is faster. */
async function openAuto(o: Options): Promise<Nigh> {
  let tab: Backend;
  try {
    tab = await openTab(o);
  } catch (e) {
    const why = asError(e);
    if (why.code === 'ECANCEL' || why.code === 'EAUTH') throw e;
    const node = await openNode(o).catch((other) => {
      throw asError(other).code === 'ECANCEL' ? other : new NighError(why.code, `${why.message}; and the node: ${asError(other).message}`);
    });
    return new Nigh(node, `the node: this tab cannot (${why.message})`);
  }
  const speed = await speedOf(tab), said = `${Math.round(speed)} tokens/s, measured now`;
  if (speed >= ENOUGH) return new Nigh(tab, `this tab: the nearest place, and fast enough (${said})`);
  try {
    const node = await openNode(o), there = await speedOf(node);
    if (there > speed) {
      tab.close();
      return new Nigh(node, `the node: ${Math.round(there)} tokens/s, this tab only ${said}`);
    }
    return new Nigh(tab, `this tab: slow (${said}), but the node is no faster`);
  } catch (e) {
    return new Nigh(tab, `this tab: slow (${said}), but there is no node to ask instead (${asError(e).message})`);
  }
}

/** Fails: EIO (nothing reaches the model), EDATA or EAUTH (it is not what its manifest says), ENOMEM, ENOSUP, ECANCEL. */
export async function open(options: OpenOptions = {}): Promise<Nigh> {
  const o = optionsOf(options);
  if (o.backend === 'tab') return new Nigh(await openTab(o), 'this tab: it was asked for');
  if (o.backend === 'node') return new Nigh(await openNode(o), 'the node: it was asked for');
  return openAuto(o);
}

/** Models of a node. */
export const nodeModels = (o: { base?: string; key?: string } = {}): Promise<About[]> => NodeBackend.list({ base: optionsOf(o).base, key: o.key });

/** Models that are kept in this browser. */
export async function models(): Promise<StoredModel[]> {
  return (await (await Store.open())?.list()) ?? [];
}

/** Deletes a kept model by name or hash. Gives the bytes that became free. */
export async function remove(model: string): Promise<number> {
  return (await (await Store.open())?.remove(model)) ?? 0;
}

/** How much room there is, and whether the browser promised not to clear it. */
export const storage = (): Promise<StorageState> => storageState();
