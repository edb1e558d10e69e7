// wire.ts - the messages between pages and the worker that owns the engine.
//
//   page of the leader --postMessage--> worker <--BroadcastChannel--> pages of the followers
//
// A request stays in the table of the page that made it until its end has come. The engine may die at any time, and a
// message may be lost with it or come late, so nothing stands on a message that comes only once:
//
//     epoch   names an engine; it begins with the time, so that of two the younger is known. Every beat tells it: who
//             did not hear of a new engine learns within a beat, and sends again what is open.
//     run     numbers every sending of a request. An engine drops what is for another epoch; a page drops what another
//             run says. The same seed gives the same bytes, so a page drops as many characters of a new run as it had
//             from those before, and its caller notices nothing.
import type { Settings, Work } from './backend.js';
import type { StatusName } from './status.js';
import type { About, Priority, Progress } from './types.js';

export interface InitMessage {
  t: 'init';
  epoch: string;
  channel: string;
  files: string;
  manifests: string[];
  key?: string;
  publicKeys?: string[];
  encrypt: boolean;
  context: number;
  threads: number;
}

export type JobBody = Work | { kind: 'embed'; texts: string[] } | { kind: 'count'; text: string };

export interface JobMessage {
  t: 'job';
  /** The epoch of the engine that it is for. */
  to: string;
  run: number;
  from: string;
  id: number;
  body: JobBody;
  settings?: Settings;
  priority: Priority;
}

export type ToEngine =
  | InitMessage
  | JobMessage
  | { t: 'cancel'; from: string; id: number }
  | { t: 'who'; from: string }
  | { t: 'probe'; files: string };

export interface Result {
  finish: 'stop' | 'length';
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  /** Time of the engine for the tokens after the first. */
  writeMs: number;
  vectors?: Float32Array[];
}

export type FromEngine =
  | { t: 'up'; epoch: string; about: About | null }
  | { t: 'progress'; epoch: string; p: Progress }
  | { t: 'fatal'; epoch: string; code: StatusName; text: string }
  | { t: 'beat'; epoch: string; silentMs: number; ready: boolean }
  | { t: 'began'; run: number; to: string; id: number }
  | { t: 'text'; run: number; to: string; id: number; text: string }
  | { t: 'done'; run: number; to: string; id: number; result: Result }
  | { t: 'fail'; run: number; to: string; id: number; code: StatusName; text: string };

/** Held by a living worker; who gets it knows that the worker is gone. */
export const aliveLock = (channel: string, epoch: string): string => `${channel}:alive:${epoch}`;
export const BEAT_MS = 300;
