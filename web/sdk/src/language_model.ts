// language_model.ts - the shape of Chrome's Prompt API (LanguageModel.create, session.prompt, session.promptStreaming),
// over a Nigh. What a small model cannot do (pictures, sound, tools, JSON constraints) is refused as the API says. What it
// counts has two names there, of before and after its renaming (inputUsage, contextUsage); both are answered.
import type { Nigh } from './index.js';
import { NighError } from './status.js';
import type { Message, Sampling } from './types.js';

interface CreateOptions {
  initialPrompts?: Message[];
  temperature?: number;
  topK?: number;
  signal?: AbortSignal;
  monitor?: (m: EventTarget) => void;
}
interface PromptOptions {
  signal?: AbortSignal;
  responseConstraint?: unknown;
}
type Prompt = string | Message[];

const ROOM = 64; // tokens for the answer

const named = (name: string, text: string): DOMException => new DOMException(text, name);

function messagesFrom(prompt: Prompt): Message[] {
  if (typeof prompt === 'string') return [{ role: 'user', content: prompt }];
  if (prompt.some((m) => typeof m.content !== 'string')) throw named('NotSupportedError', 'only text is taken here');
  return prompt.map(({ role, content }) => ({ role, content }));
}

function failure(e: unknown): unknown {
  if (!(e instanceof NighError)) return e;
  if (e.code === 'ECANCEL') return named('AbortError', e.message);
  if (e.code === 'ERANGE') return named('QuotaExceededError', e.message);
  return named(e.code === 'ENOSUP' ? 'NotSupportedError' : e.code === 'EINVAL' ? 'SyntaxError' : 'OperationError', e.message);
}

class Session extends EventTarget {
  #nigh: Nigh;
  #history: Message[];
  #o: CreateOptions;
  #used = 0;
  #gone = new AbortController();
  oncontextoverflow: ((e: Event) => void) | null = null;

  constructor(nigh: Nigh, o: CreateOptions, history: Message[]) {
    super();
    this.#nigh = nigh;
    this.#o = o;
    this.#history = history;
    this.addEventListener('contextoverflow', (e) => this.oncontextoverflow?.(e));
    o.signal?.addEventListener('abort', () => this.destroy());
  }

  get inputUsage(): number {
    return this.#used;
  }
  get inputQuota(): number {
    return this.#nigh.model.contextTokens;
  }
  get contextUsage(): number {
    return this.inputUsage;
  }
  get contextWindow(): number {
    return this.inputQuota;
  }
  get temperature(): number {
    return this.#o.temperature ?? 0.7;
  }
  get topK(): number {
    return this.#o.topK ?? 40;
  }

  promptStreaming(prompt: Prompt, o: PromptOptions = {}): ReadableStream<string> {
    const stop = new AbortController(), session = this;
    const work = async (out: ReadableStreamDefaultController<string>): Promise<void> => {
      try {
        if (session.#gone.signal.aborted) throw named('InvalidStateError', 'the session was destroyed');
        if (o.responseConstraint !== undefined) throw named('NotSupportedError', 'responseConstraint is not supported');
        const asked = await session.#fitting(messagesFrom(prompt));
        const sampling: Sampling = { temperature: session.temperature, topK: session.topK, maxTokens: 512 };
        const answer = session.#nigh.chat(asked, { ...sampling, signal: AbortSignal.any([stop.signal, session.#gone.signal]) });
        for await (const piece of answer) out.enqueue(piece);
        const whole = await answer;
        session.#history = [...asked, { role: 'assistant', content: whole.text }];
        session.#used = whole.usage.promptTokens + whole.usage.completionTokens;
        out.close();
      } catch (e) {
        const error = failure(e);
        out.error(o.signal?.aborted ? o.signal.reason : error);
      }
    };
    o.signal?.addEventListener('abort', () => stop.abort());
    if (o.signal?.aborted) stop.abort();
    return new ReadableStream<string>({ start: (out) => void work(out), cancel: () => stop.abort() });
  }

  /** The history with a new prompt; what was said first, but for the initial prompts, goes when there is no more room. */
  async #fitting(prompt: Message[]): Promise<Message[]> {
    const kept = this.#o.initialPrompts?.length ?? 0;
    let dropped = false;
    for (;;) {
      const all = [...this.#history, ...prompt];
      const used = await this.#nigh.count(all.map((m) => m.content).join('\n\n'));
      if (used + ROOM <= this.inputQuota || this.#history.length <= kept) {
        if (dropped) this.dispatchEvent(new Event('contextoverflow'));
        return all;
      }
      this.#history.splice(kept, 1);
      dropped = true;
    }
  }

  async prompt(prompt: Prompt, o: PromptOptions = {}): Promise<string> {
    let text = '';
    const reader = this.promptStreaming(prompt, o).getReader();
    for (let r; !(r = await reader.read()).done; ) text += r.value;
    return text;
  }

  async append(prompt: Prompt): Promise<void> {
    this.#history = [...this.#history, ...messagesFrom(prompt)];
    this.#used = await this.measureInputUsage([]);
  }

  /** Tokens that the session would hold with this prompt. */
  measureInputUsage(prompt: Prompt): Promise<number> {
    const all = [...this.#history, ...messagesFrom(prompt)];
    return this.#nigh.count(all.map((m) => m.content).join('\n\n'));
  }

  measureContextUsage(prompt: Prompt): Promise<number> {
    return this.measureInputUsage(prompt);
  }

  async clone(o: { signal?: AbortSignal } = {}): Promise<Session> {
    return new Session(this.#nigh, { ...this.#o, signal: o.signal }, [...this.#history]);
  }

  destroy(): void {
    this.#gone.abort();
  }
}

export interface LanguageModelLike {
  availability(): Promise<'available' | 'unavailable'>;
  params(): Promise<{ defaultTopK: number; maxTopK: number; defaultTemperature: number; maxTemperature: number }>;
  create(o?: CreateOptions): Promise<Session>;
}

/** An object to be used in the place of Chrome's `LanguageModel`. */
export function languageModel(nigh: Nigh): LanguageModelLike {
  return {
    availability: async () => (nigh.model.gives === 'text' ? 'available' : 'unavailable'),
    params: async () => ({ defaultTopK: 40, maxTopK: 1024, defaultTemperature: 0.7, maxTemperature: 2 }),
    async create(o: CreateOptions = {}) {
      o.signal?.throwIfAborted();
      const monitor = new EventTarget();
      o.monitor?.(monitor);
      monitor.dispatchEvent(Object.assign(new Event('downloadprogress'), { loaded: 1, total: 1 }));
      return new Session(nigh, o, messagesFrom(o.initialPrompts ?? []));
    },
  };
}
