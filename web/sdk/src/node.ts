// node.ts - the backend that asks a running `nigh serve` over HTTP.
import type { Answer } from './answer.js';
import { isLoopback, newId, type Backend, type Settings, type Work } from './backend.js';
import { NighError, asError, nameOfHttp } from './status.js';
import type { About, Priority, Receipt, Vectors } from './types.js';

interface NodeOptions {
  base: string;
  key?: string;
  model?: string;
  signal?: AbortSignal;
}

interface WireReceipt {
  id: string;
  model: string;
  model_sha256: string;
  bytes_out: number;
  ms?: number;
}

interface Event {
  choices?: { text?: string; delta?: { content?: string }; finish_reason?: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number; prompt_tokens_details?: { cached_tokens: number } } | null;
  nigh_receipt?: WireReceipt;
  error?: { message: string; code?: string };
}

const CODES: Record<string, 'ERANGE' | 'ENOENT' | 'ECANCEL'> = {
  context_length_exceeded: 'ERANGE',
  model_not_found: 'ENOENT',
};

async function refusal(reply: Response): Promise<NighError> {
  const body = (await reply.json().catch(() => null)) as { error?: { message?: string; code?: string } } | null;
  const code = CODES[body?.error?.code ?? ''] ?? nameOfHttp(reply.status);
  return new NighError(code, body?.error?.message ?? `the node answered ${reply.status}`);
}

/** Yields the JSON of each event; throws what an event reports, and when the stream breaks off before its end. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Event> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let waiting = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new NighError('EIO', 'the answer broke off');
      waiting += value;
      for (let end; (end = waiting.indexOf('\n\n')) >= 0; waiting = waiting.slice(end + 2)) {
        const event = waiting.slice(0, end);
        if (!event.startsWith('data: ')) continue;
        if (event === 'data: [DONE]') return;
        const data = JSON.parse(event.slice(6)) as Event;
        if (data.error) throw new NighError(CODES[data.error.code ?? ''] ?? 'EIO', data.error.message);
        yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function receiptOf(r: WireReceipt | null, node: NodeBackend, sent: number, t: { ms: number; firstMs: number; tokens: number }): Receipt {
  const write = t.ms - t.firstMs;
  return {
    id: r?.id ?? newId('rcpt-'),
    place: node.place,
    where: node.where,
    model: r?.model ?? node.about.name,
    modelSha256: r?.model_sha256 ?? node.about.sha256,
    bytesOut: (r?.bytes_out ?? 0) + (node.place === 'device' ? 0 : sent),
    ms: Math.round(r?.ms ?? t.ms),
    firstMs: Math.round(t.firstMs),
    tokens: t.tokens,
    tokensPerSecond: t.tokens > 1 && write > 0 ? ((t.tokens - 1) / write) * 1000 : 0,
    seed: null,
    at: new Date().toISOString(),
    restarts: 0,
  };
}

export class NodeBackend implements Backend {
  about!: About;
  readonly place: Receipt['place'];
  readonly where: string;
  #o: NodeOptions;

  private constructor(o: NodeOptions) {
    this.#o = o;
    this.place = isLoopback(o.base) ? 'device' : 'node';
    this.where = this.place === 'device' ? 'this device' : new URL(o.base).host;
  }

  /** Fails: EIO (nobody answers), EAUTH (it wants a key), ENOENT (no such model). */
  static async open(o: NodeOptions): Promise<NodeBackend> {
    const b = new NodeBackend(o);
    const list = await b.models();
    const one = o.model ? list.find((m) => m.name === o.model) : list[0];
    if (!one) throw new NighError('ENOENT', `the node has no model ${o.model ?? ''}`.trim());
    b.about = one;
    return b;
  }

  static list(o: NodeOptions): Promise<About[]> {
    return new NodeBackend(o).models();
  }

  async models(): Promise<About[]> {
    const reply = await this.#fetch('/v1/models', undefined, this.#o.signal);
    const body = (await reply.json()) as { data: { id: string; nigh?: Record<string, never> }[] };
    return body.data.filter((m) => m.nigh).map((m) => {     // the others are features of the node's policy
      const n = m.nigh as unknown as {
        sha256: string; architecture: string; parameters: number; context_tokens: number; embedding_size: number;
        gives: 'text' | 'vectors'; chat_template: boolean; bytes?: number;
      };
      return {
        name: m.id, sha256: n.sha256, architecture: n.architecture, parameters: n.parameters,
        contextTokens: n.context_tokens, embeddingSize: n.embedding_size, gives: n.gives, chatTemplate: n.chat_template,
        bytes: n.bytes ?? 0,
      };
    });
  }

  async #fetch(path: string, body?: string, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (this.#o.key) headers.authorization = `Bearer ${this.#o.key}`;
    for (let attempt = 0; ; attempt++) {
      let reply: Response;
      try {
        reply = await fetch(new URL(path, this.#o.base), { method: body === undefined ? 'GET' : 'POST', headers, body, signal });
      } catch (e) {
        if (signal?.aborted) throw new NighError('ECANCEL');
        throw new NighError('EIO', `the node cannot be reached: ${(e as Error).message}`);
      }
      if (reply.ok) return reply;
      const wait = Number(reply.headers.get('retry-after-ms') ?? NaN);
      if (attempt >= 4 || !(wait >= 0) || reply.headers.get('x-should-retry') === 'false') throw await refusal(reply);
      await new Promise((done) => setTimeout(done, Math.min(wait, 5000)));
      if (signal?.aborted) throw new NighError('ECANCEL');
    }
  }

  ask(work: Work, s: Settings, _priority: Priority, answer: Answer): () => void {
    const stop = new AbortController();
    void this.#ask(work, s, answer, stop.signal).catch((e) => answer.fail(stop.signal.aborted ? new NighError('ECANCEL') : e));
    return () => stop.abort();
  }

  async #ask(work: Work, s: Settings, answer: Answer, signal: AbortSignal): Promise<void> {
    const begun = performance.now();
    const given = work.kind === 'chat' ? { messages: work.messages } : { prompt: work.prompt };
    const body = JSON.stringify({
      model: this.about.name, ...given, ...s, stop: s.stop.length ? s.stop : undefined, stream: true,
      stream_options: { include_usage: true },
    });
    const reply = await this.#fetch(work.kind === 'chat' ? '/v1/chat/completions' : '/v1/completions', body, signal);
    let text = '', finish: 'stop' | 'length' = 'stop', first = 0, receipt: WireReceipt | null = null;
    let usage: NonNullable<Event['usage']> = { prompt_tokens: 0, completion_tokens: 0 };
    for await (const e of events(reply.body!)) {
      if (signal.aborted) throw new NighError('ECANCEL');
      const c = e.choices?.[0], piece = c?.text ?? c?.delta?.content ?? '';
      if (piece) first ||= performance.now();
      text += piece;
      answer.push(piece);
      if (c?.finish_reason) finish = c.finish_reason === 'length' ? 'length' : 'stop';
      if (e.usage) usage = e.usage;
      if (e.nigh_receipt) receipt = e.nigh_receipt;
    }
    const ms = performance.now() - begun;
    const times = { ms, firstMs: (first || performance.now()) - begun, tokens: usage.completion_tokens };
    answer.finish({
      text, finish,
      usage: {
        promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens,
        cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
      },
      receipt: { ...receiptOf(receipt, this, body.length, times), seed: s.temperature > 0 ? s.seed : null },
    });
  }

  async embed(texts: string[], _priority: Priority, signal?: AbortSignal): Promise<Vectors> {
    const begun = performance.now();
    const body = JSON.stringify({ model: this.about.name, input: texts, encoding_format: 'base64' });
    try {
      const reply = (await (await this.#fetch('/v1/embeddings', body, signal)).json()) as {
        data: { embedding: string }[]; usage: { prompt_tokens: number }; nigh_receipt: WireReceipt;
      };
      const ms = performance.now() - begun, times = { ms, firstMs: ms, tokens: 0 };
      const vectors = reply.data.map((d) => unit(new Float32Array(Uint8Array.from(atob(d.embedding), (c) => c.charCodeAt(0)).buffer)));
      return { vectors, usage: { promptTokens: reply.usage.prompt_tokens }, receipt: receiptOf(reply.nigh_receipt, this, body.length, times) };
    } catch (e) {
      throw signal?.aborted ? new NighError('ECANCEL') : asError(e);
    }
  }

  /** The node has no route for it; one token of an answer tells. */
  async count(text: string): Promise<number> {
    const body = JSON.stringify({ model: this.about.name, prompt: text, max_tokens: 1, temperature: 0 });
    return ((await (await this.#fetch('/v1/completions', body)).json()) as { usage: { prompt_tokens: number } }).usage.prompt_tokens;
  }

  close(): void {}
}

/** Scales a vector to length 1, in place. */
export function unit(v: Float32Array): Float32Array {
  let sum = 0;
  for (const x of v) sum += x * x;
  const by = sum > 0 ? 1 / Math.sqrt(sum) : 0;
  for (let i = 0; i < v.length; i++) v[i]! *= by;
  return v;
}
