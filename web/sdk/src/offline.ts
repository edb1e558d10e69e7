// offline.ts - asks the service worker (sw.ts) to keep what this page is made of, so that it opens without a network.
import { NighError } from './status.js';

/**
 * Registers the service worker at `url` and gives it everything that this page has loaded from its own origin, and the
 * SDK's files. Resolves when all of it is kept. The script must lie at or above the page, e.g. at /sw.js.
 */
export async function goOffline(url = '/sw.js', files = new URL('./', import.meta.url).href): Promise<number> {
  if (!navigator.serviceWorker) throw new NighError('ENOSUP', 'there are no service workers here');
  await navigator.serviceWorker.register(url);
  const active = (await navigator.serviceWorker.ready).active!;
  const loaded = performance.getEntriesByType('resource').map((e) => e.name);
  const urls = [location.href.split('#')[0]!, ...loaded].filter((u) => u.startsWith(`${location.origin}/`));
  return new Promise((done, failed) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = (e) => {
      const { kept, error } = e.data as { kept: number; error?: string };
      if (error) failed(new NighError('EIO', error));
      else done(kept);
    };
    active.postMessage({ t: 'keep', urls, files }, [port2]);
  });
}
