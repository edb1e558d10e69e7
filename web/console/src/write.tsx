// write.tsx - the sheet: the model goes on from the text in the box. The text is the browser's own (contenteditable):
// what the model writes is a span of it, and all of it can be edited.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Answer, Nigh } from 'nigh';
import { everyFrame } from './frames';
import { adviceOf, at, codeOf, inWords, key, setKey, wordsOf, type Place } from './places';
import { Receipt, lineOf, type Line } from './receipt';

const BEGIN = 'Once upon a time, there was a little girl who lived near the sea. One morning she found';
const READY: Line = { text: 'Ready. Nothing has left this device.' };

const editable = (() => {
  const probe = document.createElement('div'); // browsers without "plaintext-only" get plain editing
  try {
    probe.contentEditable = 'plaintext-only';
    return 'plaintext-only' as const;
  } catch {
    return true;
  }
})();

function caretToEnd(e: HTMLElement): void {
  const range = document.createRange();
  range.selectNodeContents(e);
  range.collapse(false);
  getSelection()?.removeAllRanges();
  getSelection()?.addRange(range);
}

export function Write({ place, onModel, refresh }: { place: Place; onModel: (n: Nigh | null) => void; refresh: number }) {
  const text = useRef<HTMLDivElement>(null), keyBox = useRef<HTMLInputElement>(null), stopButton = useRef<HTMLButtonElement>(null);
  const running = useRef<{ answer: Answer | null; stopped: boolean } | null>(null), made = useRef<HTMLSpanElement | null>(null);
  const [line, say] = useState<Line>(READY), [writing, setWriting] = useState(false), [wantsKey, setWantsKey] = useState(false);
  const [length, setLength] = useState('120'), [temperature, setTemperature] = useState('0.7'), [seed, setSeed] = useState('');
  const [canTakeBack, setCanTakeBack] = useState(false);

  const failed = (e: unknown): void => {
    if (codeOf(e) === 'EAUTH') {
      setWantsKey(true);
      say({ bad: true, text: key() ? 'This node does not know that key.' : 'This node wants a key before it answers.' });
      setTimeout(() => keyBox.current?.focus());
    } else say({ bad: true, text: `That did not work: ${wordsOf(e)}.${adviceOf(e, place)}` });
  };

  useEffect(() => {
    let gone = false;
    onModel(null);
    at(place).then(
      (n) => {
        if (gone) return;
        onModel(n);
        setWantsKey(false);
        say((l) => (l.parts ? l : READY));
      },
      (e) => { if (!gone) failed(e); },
    );
    return () => { gone = true; };
  }, [place, refresh]);

  useEffect(() => {
    const t = text.current!;
    t.textContent = BEGIN;
    t.focus();
    caretToEnd(t);
    return () => running.current?.answer?.cancel();
  }, []);
  useEffect(() => { if (writing) stopButton.current?.focus(); }, [writing]);

  async function run(): Promise<void> {
    if (running.current) return;
    const mine = (running.current = { answer: null as Answer | null, stopped: false });
    const begun = performance.now(), span = document.createElement('span'), prompt = text.current!.textContent ?? '';
    let tokens = 0, first = 0, last = 0, nigh: Nigh | null = null, waiting = '';
    const paint = everyFrame(() => {
      span.append(waiting);
      waiting = '';
      const low = span.getBoundingClientRect().bottom - innerHeight;
      if (low > -24) scrollBy(0, low + 48);
    });
    span.className = 'made';
    text.current!.append(span);
    made.current = span;
    setWriting(true);
    say({ text: 'Writing…' });
    try {
      nigh = await at(place);
      if (mine.stopped) throw new DOMException('', 'AbortError');
      const given = seed.trim() === '' ? undefined : Number(seed);
      mine.answer = nigh.complete(prompt, { maxTokens: Number(length), temperature: Number(temperature), seed: given });
      for await (const piece of mine.answer) {
        if (mine.stopped) break; // all may have arrived already, but not all was shown
        last = performance.now();
        first ||= last;
        tokens++;
        waiting += piece;
        paint.ask();
      }
      if (mine.stopped) throw new DOMException('', 'AbortError');
      const { receipt: r } = await mine.answer;
      say(lineOf({ ...r, where: inWords[place], sha256: r.modelSha256 }));
    } catch (e) {
      if (!mine.stopped) failed(e);
      else if (nigh && first) {
        const ms = performance.now() - begun, tokensPerSecond = tokens > 1 ? ((tokens - 1) / (last - first)) * 1000 : 0;
        say(lineOf({ where: inWords[place], sha256: nigh.model.sha256, bytesOut: 0, ms, firstMs: first - begun, tokensPerSecond, stopped: true }));
      } else say({ text: 'Stopped.' });
    }
    running.current = null;
    if (!mine.stopped) paint.now(); // who stopped it wants what was there then
    waiting = '';
    if (!span.textContent) span.remove();
    setWriting(false);
    setCanTakeBack(span.isConnected);
    if (!wantsKey) {
      setTimeout(() => {
        if (document.activeElement && document.activeElement !== document.body && document.activeElement !== stopButton.current) return;
        text.current?.focus();
        if (text.current) caretToEnd(text.current);
      });
    }
  }

  const stop = (): void => {
    if (!running.current) return;
    running.current.stopped = true;
    running.current.answer?.cancel();
  };

  useEffect(() => {
    const pressed = (e: KeyboardEvent): void => {
      if (e.key === 'Escape' && running.current) {
        e.preventDefault();
        stop();
      }
      if (e.key === 'Enter' && (e.ctrlKey || e.metaKey) && !(e.target as HTMLElement).closest('#chat')) {
        e.preventDefault();
        void run();
      }
    };
    document.addEventListener('keydown', pressed);
    return () => document.removeEventListener('keydown', pressed);
  });

  const submit = (e: Event): void => {
    e.preventDefault();
    const given = keyBox.current?.value.trim();
    if (wantsKey && given) {
      setKey(given);
      keyBox.current!.value = '';
      at(place).then((n) => { onModel(n); setWantsKey(false); say(READY); }, failed);
    } else void run();
  };
  const takeBack = (): void => {
    made.current?.remove();
    setCanTakeBack(false);
    text.current!.focus();
    caretToEnd(text.current!);
  };
  const clear = (): void => {
    text.current!.replaceChildren();
    setCanTakeBack(false);
    text.current!.focus();
  };
  const paste = (e: ClipboardEvent): void => {
    if (editable !== true) return;
    e.preventDefault();
    document.execCommand('insertText', false, e.clipboardData?.getData('text/plain') ?? '');
  };

  const value = (e: Event): string => (e.currentTarget as HTMLInputElement).value;
  return (
    <form id="form" autocomplete="off" onSubmit={submit}>
      <h2 class="unseen">Completion</h2>
      <div id="paper" class={writing ? 'writing' : ''}>
        <div id="text" ref={text} role="textbox" aria-multiline="true" aria-labelledby="text-label" aria-describedby="hint" spellcheck={false}
          tabIndex={0} aria-busy={writing} contentEditable={writing ? false : editable} onPaste={paste} />
        <p id="text-label" class="unseen">Your text. The model continues it.</p>
      </div>
      <Receipt id="receipt" line={line} />
      <div id="keyrow" hidden={!wantsKey}>
        <label for="key">This node wants a key</label>
        <input id="key" ref={keyBox} type="password" autocomplete="off" spellcheck={false} placeholder="nigh-…" />
        <button type="submit">Use it</button>
      </div>
      <div id="actions">
        <button id="run" type="submit" class="main" hidden={writing}>Continue <kbd>Ctrl</kbd><kbd>Enter</kbd></button>
        <button id="stop" ref={stopButton} type="button" hidden={!writing} onClick={stop}>Stop <kbd>Esc</kbd></button>
        <button id="back" type="button" disabled={writing || !canTakeBack} onClick={takeBack}>Take back</button>
        <button id="clear" type="button" disabled={writing} onClick={clear}>Clear</button>
      </div>
      <fieldset>
        <legend class="unseen">How the text is continued</legend>
        <div class="control">
          <label for="length">Length</label>
          <input id="length" type="range" min="10" max="400" step="10" value={length} onInput={(e) => setLength(value(e))} />
          <output for="length" id="length-value">{length} tokens</output>
        </div>
        <div class="control">
          <label for="temperature">Temperature</label>
          <input id="temperature" type="range" min="0" max="1.5" step="0.1" value={temperature} onInput={(e) => setTemperature(value(e))} />
          <output for="temperature" id="temperature-value">{Number(temperature) === 0 ? '0, always the likeliest' : temperature}</output>
        </div>
        <div class="control">
          <label for="seed">Seed</label>
          <input id="seed" type="number" inputMode="numeric" step="1" min="0" max="9007199254740991" placeholder="random" value={seed}
            onInput={(e) => setSeed(value(e))} />
          <output for="seed" id="seed-value">{seed === '' ? 'a new one each time' : 'same seed, same text'}</output>
        </div>
      </fieldset>
      <p id="hint" class="hint">
        Type a beginning, then press <span class="keys">Ctrl and Enter</span><span class="touch">Continue</span>. The coloured part is the
        model's; you can edit all of it.
      </p>
    </form>
  );
}
