// frames.ts - what comes piece by piece is shown once a frame. A node's answer comes in bursts: shown letter by letter, each
// with its own layout, a burst would hold the page up.

/** ask() has `run` called before the next frame, now() at once. */
export function everyFrame(run: () => void): { ask(): void; now(): void } {
  let asked = 0;
  const now = (): void => {
    cancelAnimationFrame(asked);
    asked = 0;
    run();
  };
  return { now, ask: () => { asked ||= requestAnimationFrame(now); } };
}
