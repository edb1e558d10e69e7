// chat.tsx - a conversation with the same model, beside the sheet.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Answer, Message, Nigh } from 'nigh';
import { everyFrame } from './frames';
import { adviceOf, at, codeOf, inWords, wordsOf, type Place } from './places';
import { Receipt, lineOf, type Line } from './receipt';

const WRITING = 'Writing…';

export function Chat({ place, nigh }: { place: Place; nigh: Nigh | null }) {
  const [messages, setMessages] = useState<Message[]>([]), [line, say] = useState<Line>({ text: '' });
  const [said, setSaid] = useState(''), [answer, setAnswer] = useState<Answer | null>(null);
  const log = useRef<HTMLOListElement>(null), writing = line.text === WRITING; // also while the model is opened
  useEffect(() => { log.current?.scrollTo(0, log.current.scrollHeight); }, [messages]);
  useEffect(() => () => answer?.cancel(), [answer]);

  async function send(e: Event): Promise<void> {
    e.preventDefault();
    if (writing || !said.trim()) return;
    const asked: Message[] = [...messages, { role: 'user', content: said.trim() }];
    let text = '', failed = false;
    const paint = everyFrame(() => setMessages([...asked, { role: 'assistant', content: text }]));
    setMessages([...asked, { role: 'assistant', content: '' }]);
    setSaid('');
    say({ text: WRITING });
    try {
      const a = (await at(place)).chat(asked, { maxTokens: 160, temperature: 0.7 });
      setAnswer(a);
      for await (const piece of a) {
        text += piece;
        paint.ask();
      }
      const { receipt: r } = await a;
      say(lineOf({ ...r, where: inWords[place], sha256: r.modelSha256 }));
    } catch (error) {
      failed = true;
      if (codeOf(error) === 'ECANCEL') say({ text: 'Stopped.' });
      else say({ bad: true, text: `That did not work: ${wordsOf(error)}.${adviceOf(error, place)}` });
    }
    if (failed && !text) setMessages(asked);
    else paint.now();
    setAnswer(null);
  }

  const keys = (e: KeyboardEvent): void => {
    if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) void send(e);
    if (e.key === 'Escape') answer?.cancel();
  };
  return (
    <section id="chat" aria-labelledby="chat-title">
      <h2 id="chat-title">Chat</h2>
      {nigh && !nigh.model.chatTemplate && (
        <p class="note">{nigh.model.name} learnt no conversations: it goes on from what was said, as a story would.</p>
      )}
      {/* Read out when an answer is whole, not letter by letter. */}
      <ol id="log" ref={log} tabIndex={0} aria-label="Messages" aria-live="polite" aria-relevant="additions text" aria-busy={writing}>
        {messages.map((m, i) => (
          <li key={i} class={m.role}><span class="unseen">{m.role === 'user' ? 'You: ' : 'Model: '}</span>{m.content || (writing ? '…' : '(nothing)')}</li>
        ))}
      </ol>
      <Receipt id="chat-receipt" line={line} />
      <form onSubmit={(e) => void send(e)}>
        <label for="say" class="unseen">Your message</label>
        <textarea id="say" rows={2} placeholder="Say something… (Enter sends)" value={said} onKeyDown={keys}
          onInput={(e) => setSaid((e.currentTarget as HTMLTextAreaElement).value)} />
        {answer
          ? <button id="chat-stop" type="button" onClick={() => answer.cancel()}>Stop</button>
          : <button id="send" type="submit" class="main">Send</button>}
        <button id="forget" type="button" disabled={!messages.length || writing} onClick={() => { setMessages([]); say({ text: '' }); }}>New</button>
      </form>
    </section>
  );
}
