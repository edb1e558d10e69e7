// policy.ts - what a node tells of its policy: features, targets, decisions, the ledger. docs/api.md has the routes.
import { key } from './places';

export interface Target {
  target: string;
  tier: 'device' | 'edge' | 'cloud';
  region: string;
  model: string;
  here: boolean;
  health: 'open' | 'closed' | 'half-open';
  closed_ms: number;
  answers: number;
  bytes_out: number;
  first_ms: { ewma: number; p95: number };
  last_error: string;
}
export interface Feature { feature: string; class: string; answers: number; degraded: number; errors: number; on: Record<string, number> }
export interface Placement { policy_version: number; offline: boolean; targets: Target[]; features: Feature[] }

export interface Judged { target: string; tier: string; region: string; usable: boolean; cost_usd: number | null; refused_by: { rule: string; text: string }[] }
export interface Decision { feature: string; class: string; redact: string[]; order: string[]; targets: Judged[]; degrade: { step: string }[] }

export interface Hop { target: string; tier: string; region: string; ended: string; bytes_out: number; total_ms: number }
export interface Entry {
  id: string;
  at_ms: number;
  feature: string;
  class: string;
  outcome: 'answered' | 'queued' | 'error';
  degraded: string;
  rule: string;
  redacted: number;
  total_ms: number;
  hops: Hop[];
}
export interface Total { target: string; answers: number; bytes_out: number; degraded: number; errors: number; cost_nusd: number }
export interface Ledger { records: Entry[]; totals: Total[] }
export interface Where { where: string; who: string; kept: string; leave: string }

/** code: what the node calls it, such as no_policy; '' when it did not answer at all. */
export class Refused extends Error {
  constructor(message: string, readonly code: string, readonly status: number) {
    super(message);
  }
}

async function ask<T>(path: string, body?: unknown, more: Record<string, string> = {}): Promise<T> {
  const headers: Record<string, string> = { ...more }, k = key();
  if (k) headers['authorization'] = `Bearer ${k}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  let reply: Response;
  try {
    reply = await fetch(path, body === undefined ? { headers } : { method: 'POST', headers, body: JSON.stringify(body) });
  } catch {
    throw new Refused('The node does not answer.', '', 0);
  }
  const said = (await reply.json().catch(() => ({}))) as { error?: { message: string; code: string | null } };
  if (!reply.ok) throw new Refused(said.error?.message ?? `status ${reply.status}`, said.error?.code ?? '', reply.status);
  return said as T;
}

export const placement = (): Promise<Placement> => ask('/nigh/placement');
export const offline = (cut: boolean): Promise<unknown> => ask('/nigh/offline', { offline: cut });
export const ledger = (feature: string, limit: number): Promise<Ledger> =>
  ask(`/nigh/ledger?${new URLSearchParams({ limit: String(limit), ...(feature && { feature }) })}`);
export const where = (id: string): Promise<Where> => ask(`/nigh/where/${encodeURIComponent(id)}`);
export const decide = (feature: string, of: string, text: string): Promise<Decision> => ask('/v1/placement/explain',
  { model: `feature/${feature}`, messages: [{ role: 'user', content: text || '?' }] }, of ? { 'x-data-class': of } : {});

// Rules that no healthier line and no other request would change: those that `nigh check` counts, too.
const HARD = new Set(['place', 'class', 'region', 'tenant', 'retention', 'training', 'quality', 'needs', 'device', 'model', 'expired']);

export interface Answer { may: Judged[]; never: Judged[]; now: boolean }
/** Where this request could go outside this device, and which places it never reaches. now: would one of them be asked, as things are? */
export function leaving(d: Decision): Answer {
  const away = d.targets.filter((t) => t.tier !== 'device');
  const may = away.filter((t) => !t.refused_by.some((r) => HARD.has(r.rule)));
  return { may, never: away.filter((t) => !may.includes(t)), now: may.some((t) => t.usable) };
}
