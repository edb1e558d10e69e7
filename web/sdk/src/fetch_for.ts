// fetch_for.ts - a `fetch` that answers OpenAI's routes from a Nigh, so that its client runs against the tab:
//     new OpenAI({ apiKey: 'none', baseURL: 'http://tab.invalid/v1', fetch: fetchFor(nigh), dangerouslyAllowBrowser: true })
// Nothing is sent; addresses other than the routes below are refused with 404.
import type { Answer } from './answer.js';
import { newId } from './backend.js';
import type { Nigh } from './index.js';
import { NighError, asError } from './status.js';
import type { AskOptions, Completion, Message, Receipt } from './types.js';

interface Body {
  model?: string;
  prompt?: string | string[];
  messages?: { role: string; content: string | { type: string; text?: string }[] | null }[];
  input?: string | string[];
  stream?: boolean;
  stream_options?: { include_usage?: boolean } | null;
  encoding_format?: string;
  n?: number;
  [name: string]: unknown;
}

const json = (body: unknown, status = 200): Response =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', 'x-request-id': newId('req-') } });

const TYPES: Record<number, string> = { 401: 'authentication_error', 429: 'rate_limit_error' };
function errorBody(e: NighError): { error: Record<string, string | null> } {
  const type = TYPES[e.http] ?? (e.http >= 500 && e.http !== 501 ? 'server_error' : 'invalid_request_error');
  const code = e.code === 'ERANGE' ? 'context_length_exceeded' : e.code === 'ENOENT' ? 'model_not_found' : null;
  return { error: { message: e.message, type, param: null, code } };
}
const errorReply = (e: NighError): Response => json(errorBody(e), e.code === 'ERANGE' ? 400 : e.http);

function number(b: Body, ...names: string[]): number | undefined {
  for (const n of names) if (b[n] !== undefined && b[n] !== null) return b[n] as number;
  return undefined;
}

function optionsOf(b: Body, signal?: AbortSignal | null): AskOptions {
  if (number(b, 'n') !== undefined && b.n !== 1) throw new NighError('ENOSUP', 'n is 1 here');
  return {
    maxTokens: number(b, 'max_completion_tokens', 'max_tokens') ?? (b.messages ? 512 : 16),
    temperature: number(b, 'temperature') ?? 1, topP: number(b, 'top_p') ?? 1, topK: number(b, 'top_k'),
    minP: number(b, 'min_p'), repeatPenalty: number(b, 'repeat_penalty'), seed: number(b, 'seed'),
    stop: (b.stop as string | string[] | null) ?? undefined, signal: signal ?? undefined,
  };
}

function messagesOf(b: Body): Message[] {
  if (!Array.isArray(b.messages) || !b.messages.length) throw new NighError('EINVAL', 'messages wants at least one message');
  return b.messages.map((m) => {
    const content = typeof m.content === 'string' ? m.content : (m.content ?? []).map((p) => p.text ?? '').join('');
    return { role: (m.role === 'developer' ? 'system' : m.role) as Message['role'], content };
  });
}

const wireReceipt = (r: Receipt): object => ({
  id: r.id, place: r.place, model: r.model, model_sha256: r.modelSha256, bytes_out: r.bytesOut, ms: r.ms,
});
const usageOf = (c: Completion): object => ({
  prompt_tokens: c.usage.promptTokens, completion_tokens: c.usage.completionTokens,
  total_tokens: c.usage.promptTokens + c.usage.completionTokens,
  prompt_tokens_details: { cached_tokens: c.usage.cachedTokens }, completion_tokens_details: { reasoning_tokens: 0 },
});

function streamed(answer: Answer, head: object, chat: boolean, usage: boolean): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async start(out) {
      const send = (o: object): void => out.enqueue(encoder.encode(`data: ${JSON.stringify({ ...head, ...o })}\n\n`));
      const choice = (text: string, finish: string | null, role?: string): object[] => [
        chat
          ? { index: 0, delta: finish ? {} : { ...(role ? { role } : {}), content: text }, finish_reason: finish, logprobs: null }
          : { index: 0, text, finish_reason: finish, logprobs: null },
      ];
      try {
        if (chat) send({ choices: choice('', null, 'assistant') });
        for await (const piece of answer) send({ choices: choice(piece, null) });
        const c = await answer;
        send({ choices: choice('', c.finish), nigh_receipt: wireReceipt(c.receipt) });
        if (usage) send({ choices: [], usage: usageOf(c), nigh_receipt: wireReceipt(c.receipt) });
        out.enqueue(encoder.encode('data: [DONE]\n\n'));
        out.close();
      } catch (e) {
        const error = asError(e);
        if (error.code === 'ECANCEL') return out.error(new DOMException(error.message, 'AbortError'));
        out.enqueue(encoder.encode(`data: ${JSON.stringify(errorBody(error))}\n\n`));
        out.close();
      }
    },
    cancel: () => answer.cancel(),
  });
  return new Response(body, { headers: { 'content-type': 'text/event-stream; charset=utf-8', 'x-request-id': newId('req-') } });
}

async function written(nigh: Nigh, b: Body, chat: boolean, signal?: AbortSignal | null): Promise<Response> {
  const o = optionsOf(b, signal), prompt = Array.isArray(b.prompt) ? b.prompt[0] : b.prompt;
  const answer = chat ? nigh.chat(messagesOf(b), o) : nigh.complete(prompt as string, o);
  const head = {
    id: newId(chat ? 'chatcmpl-' : 'cmpl-'), model: nigh.model.name, created: Math.floor(Date.now() / 1000),
    object: chat ? (b.stream ? 'chat.completion.chunk' : 'chat.completion') : 'text_completion',
  };
  if (b.stream) return streamed(answer, head, chat, b.stream_options?.include_usage === true);
  const c = await answer;
  const said = chat ? { message: { role: 'assistant', content: c.text, refusal: null } } : { text: c.text };
  const choices = [{ index: 0, ...said, finish_reason: c.finish, logprobs: null }];
  return json({ ...head, choices, usage: usageOf(c), nigh_receipt: wireReceipt(c.receipt) });
}

async function embedded(nigh: Nigh, b: Body, signal?: AbortSignal | null): Promise<Response> {
  const v = await nigh.embed(b.input as string | string[], { signal: signal ?? undefined });
  const base64 = (f: Float32Array): string => btoa(String.fromCharCode(...new Uint8Array(f.buffer, f.byteOffset, f.byteLength)));
  const data = v.vectors.map((f, index) => ({
    object: 'embedding', index, embedding: b.encoding_format === 'base64' ? base64(f) : [...f],
  }));
  const usage = { prompt_tokens: v.usage.promptTokens, total_tokens: v.usage.promptTokens };
  return json({ object: 'list', data, model: nigh.model.name, usage, nigh_receipt: wireReceipt(v.receipt) });
}

function modelOf(nigh: Nigh): object {
  const m = nigh.model;
  return { id: m.name, object: 'model', created: 0, owned_by: 'nigh', nigh: { sha256: m.sha256, context_tokens: m.contextTokens } };
}

/** Answers /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models; any origin, with or without /v1. */
export function fetchFor(nigh: Nigh): typeof fetch {
  return async (input, init) => {
    const request = input instanceof Request ? input : null, signal = init?.signal ?? request?.signal;
    const path = new URL(request?.url ?? String(input), 'http://tab.invalid').pathname.replace(/^(\/api)?(\/v1)?/, '');
    try {
      if (signal?.aborted) throw new NighError('ECANCEL');
      if (path === '/models') return json({ object: 'list', data: [modelOf(nigh)] });
      if (path === `/models/${encodeURIComponent(nigh.model.name)}`) return json(modelOf(nigh));
      const text = typeof init?.body === 'string' ? init.body : ((await request?.text()) ?? '');
      const body = (text ? JSON.parse(text) : {}) as Body;
      if (body.model && body.model !== nigh.model.name) throw new NighError('ENOENT', `there is no model ${body.model} here`);
      if (path === '/chat/completions') return await written(nigh, body, true, signal);
      if (path === '/completions') return await written(nigh, body, false, signal);
      if (path === '/embeddings') return await embedded(nigh, body, signal);
      return errorReply(new NighError('ENOENT', `${path} is not answered here`));
    } catch (e) {
      const error = e instanceof SyntaxError ? new NighError('EINVAL', 'the body is no JSON') : asError(e);
      if (error.code === 'ECANCEL') throw new DOMException(error.message, 'AbortError');
      return errorReply(error);
    }
  };
}
