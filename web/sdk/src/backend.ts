// backend.ts - what a place that answers must be able to do, and what both places share.
import { NighError } from './status.js';
import type { Answer } from './answer.js';
import type { About, AskOptions, Message, Priority, Receipt, Vectors } from './types.js';

/** A request in the words of the HTTP API, which the engine's options share. */
export interface Settings {
  max_tokens: number;
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  repeat_penalty: number;
  seed: number;
  stop: string[];
}

export type Work = { kind: 'complete'; prompt: string } | { kind: 'chat'; messages: Message[] };

export interface Backend {
  readonly about: About;
  readonly place: Receipt['place'];
  /** Writes into the answer until it ends; gives what stops it. */
  ask(work: Work, settings: Settings, priority: Priority, answer: Answer): () => void;
  embed(texts: string[], priority: Priority, signal?: AbortSignal): Promise<Vectors>;
  /** Tokens of a text. */
  count(text: string): Promise<number>;
  close(): void;
}

const SEED_MAX = Number.MAX_SAFE_INTEGER;
const newSeed = (): number => {
  const [a, b] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [number, number];
  return (a & 0x1fffff) * 2 ** 32 + b;
};

function number(o: AskOptions, name: keyof AskOptions, low: number, high: number, otherwise: number): number {
  const v = o[name] ?? otherwise;
  if (typeof v !== 'number' || !(v >= low && v <= high))
    throw new NighError('EINVAL', `${name} must be a number from ${low} to ${high}`);
  return v;
}

export function settingsOf(o: AskOptions): Settings {
  const stop = o.stop === undefined ? [] : Array.isArray(o.stop) ? o.stop : [o.stop];
  if (stop.length > 16 || stop.some((s) => typeof s !== 'string' || !s))
    throw new NighError('EINVAL', 'stop wants a string or up to 16 of them, none empty');
  return {
    max_tokens: Math.floor(number(o, 'maxTokens', 1, 1 << 20, 128)),
    temperature: number(o, 'temperature', 0, 2, 0.7),
    top_p: number(o, 'topP', 0, 1, 0.95),
    top_k: Math.floor(number(o, 'topK', 0, 1 << 20, 0)),
    min_p: number(o, 'minP', 0, 1, 0),
    repeat_penalty: number(o, 'repeatPenalty', 0, 10, 0),
    seed: Math.floor(number(o, 'seed', 0, SEED_MAX, newSeed())),
    stop,
  };
}

export function messagesOf(messages: Message[]): Message[] {
  if (!Array.isArray(messages) || !messages.length) throw new NighError('EINVAL', 'messages wants at least one message');
  return messages.map((m) => {
    if (!m || typeof m.content !== 'string' || !['system', 'user', 'assistant'].includes(m.role))
      throw new NighError('EINVAL', 'a message has a role (system, user or assistant) and a content, which is text');
    return { role: m.role, content: m.content };
  });
}

export const newId = (prefix: string): string =>
  prefix + [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, '0')).join('');

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;
export const isLoopback = (base: string): boolean => LOOPBACK.test(new URL(base).hostname);
