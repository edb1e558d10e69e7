// sw.ts - the service worker: serves page, SDK and engine when there is no network, and adds the headers that isolate a
// page where the server sends none. Asks the network first, so that nobody is kept on an old version; what belongs to
// the API (/v1, /nigh, /health, /metrics) it never touches.
export {};
declare const self: {
  skipWaiting(): void;
  clients: { claim(): Promise<void> };
  location: Location;
  addEventListener(type: string, run: (e: never) => void): void;
};
declare const __FILES__: string[];

interface Waits extends Event {
  waitUntil(p: Promise<unknown>): void;
}
interface Fetches extends Waits {
  request: Request;
  respondWith(r: Promise<Response>): void;
}

const CACHE = 'nigh-1', PATIENCE_MS = 2000;
const API = /^\/(v1|api|nigh|health|metrics|models|completions|chat|embeddings)(\/|$)/;

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (e: Waits) => e.waitUntil(self.clients.claim()));

const ISOLATING = ['cross-origin-opener-policy', 'document-isolation-policy'];

/** The same answer with the headers of an isolated page; one that says itself how it is to be isolated is left as it is. */
function isolated(r: Response): Response {
  if (ISOLATING.some((h) => r.headers.has(h)) || r.type === 'opaque' || r.type === 'opaqueredirect') return r;
  const headers = new Headers(r.headers);
  headers.set('cross-origin-opener-policy', 'same-origin');
  headers.set('cross-origin-embedder-policy', 'require-corp');
  return new Response(r.body, { status: r.status, statusText: r.statusText, headers });
}

async function keep(request: Request | string, given?: Response): Promise<Response> {
  const reply = given ?? (await fetch(request, { cache: 'no-cache' }));
  if (reply.ok && reply.type === 'basic') await (await caches.open(CACHE)).put(request, reply.clone());
  return reply;
}

async function answer(request: Request): Promise<Response> {
  const kept = await caches.match(request, { ignoreSearch: request.mode === 'navigate', ignoreVary: true });
  const asked = fetch(request).then(async (r) => {
    if (kept && r.ok) await keep(request, r.clone()).catch(() => {});
    return r;
  });
  if (!kept) return isolated(await asked);
  const late = new Promise<Response>((done) => setTimeout(() => done(kept), PATIENCE_MS));
  const r = await Promise.race([asked.catch(() => kept), late]);
  return isolated(r.status >= 500 ? kept : r);
}

self.addEventListener('fetch', (e: Fetches) => {
  const url = new URL(e.request.url);
  if (e.request.method !== 'GET' || url.origin !== self.location.origin || API.test(url.pathname)) return;
  if (e.request.headers.has('range')) return;
  e.respondWith(answer(e.request));
});

self.addEventListener('message', (e: Waits & { data: { t: string; urls: string[]; files: string }; ports: MessagePort[] }) => {
  if (e.data?.t !== 'keep') return;
  const work = async (): Promise<void> => {
    const files = __FILES__.map((f) => new URL(f, e.data.files).href);
    const urls = [...new Set([...e.data.urls, ...files])].filter((u) => {
      const url = new URL(u);
      return url.origin === self.location.origin && !API.test(url.pathname) && !/\.(gguf|manifest\.json)$/.test(url.pathname);
    });
    const replies = await Promise.all(urls.map((u) => keep(u).catch(() => null)));
    e.ports[0]!.postMessage({ kept: replies.filter((r) => r?.ok).length });
  };
  e.waitUntil(work().catch((error) => e.ports[0]!.postMessage({ kept: 0, error: String(error) })));
});
