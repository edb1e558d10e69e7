// receipt.tsx - one line of truth below an answer: where, by what, what left, how long.
import type { ComponentChild } from 'preact';

export interface Line {
  bad?: boolean;
  text?: string;
  parts?: ComponentChild[];
  title?: string;
}

export interface Facts {
  where: string;
  sha256: string;
  bytesOut: number;
  ms: number;
  firstMs: number;
  tokensPerSecond: number;
  stopped?: boolean;
  restarts?: number;
}

export function lineOf(f: Facts): Line {
  const parts: ComponentChild[] = [
    f.where,
    <>model <code title={`SHA-256 ${f.sha256}\nfirst token after ${Math.round(f.firstMs)} ms`}>{f.sha256.slice(0, 12)}</code></>,
    `${f.bytesOut} bytes sent`, `${Math.round(f.ms)} ms`,
  ];
  if (f.tokensPerSecond > 0) parts.push(`${Math.round(f.tokensPerSecond)} tokens/s`);
  if (f.restarts) parts.push(`repeated ${f.restarts} times`);
  if (f.stopped) parts.push('stopped');
  return { parts, title: `Sent to another place to be answered: ${f.bytesOut === 0 ? 'nothing.' : `${f.bytesOut} bytes.`}` };
}

export function Receipt({ id, line }: { id: string; line: Line }) {
  return (
    <p id={id} class={line.bad ? 'receipt bad' : 'receipt'} role="status" aria-live="polite" title={line.title ?? ''}>
      {line.parts ? line.parts.map((p, i) => <>{i ? ' · ' : ''}<span>{p}</span></>) : line.text}
    </p>
  );
}
