// The console: continues the text in the box with the node that served this page, and shows the receipt of each answer.
// Talks to /v1/completions only, as any client would. Keeps nothing but a key, and that only for this tab.

const $ = (id) => document.getElementById(id);
const text = $("text"), receipt = $("receipt"), paper = $("paper");
let running = null;      // the AbortController of the answer that is being written
let lastMade = null;     // the span it was written into
let models = [];

function say(message, bad = false) {
  receipt.title = "";
  receipt.classList.toggle("bad", bad);
  receipt.replaceChildren(message);
}

function headers() {
  const key = sessionStorage.getItem("nigh-key");
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

// ---- what the node has ----

async function askModels() {
  const reply = await fetch("/v1/models", { headers: headers() });
  if (reply.status === 401) { wantKey(); return; }
  if (!reply.ok) throw new Error(`the node answered ${reply.status}`);
  $("keyrow").hidden = true;
  models = (await reply.json()).data.filter((m) => m.nigh.gives === "text");
  $("model").replaceChildren(...models.map((m) => new Option(m.id, m.id)));
  $("model").hidden = models.length < 2;
  $("model-name").textContent = models.length === 1 ? models[0].id : models.length ? "" : "no model that writes";
}

function wantKey() {
  $("keyrow").hidden = false;
  say("This node wants a key before it answers.", true);
  $("key").focus();
}

// ---- the text ----

function caretToEnd() {
  const range = document.createRange();
  range.selectNodeContents(text);
  range.collapse(false);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

function setWriting(on) {
  paper.classList.toggle("writing", on);
  text.setAttribute("aria-busy", String(on));
  text.setAttribute("contenteditable", on ? "false" : editable);
  $("run").hidden = on;
  $("stop").hidden = !on;
  $("clear").disabled = on;
  $("back").disabled = on || !lastMade?.isConnected || !lastMade.textContent;
  if (on) $("stop").focus();
}

const editable = (() => {      // browsers without "plaintext-only" get plain editing
  const probe = document.createElement("div");
  try { probe.contentEditable = "plaintext-only"; return "plaintext-only"; } catch { return "true"; }
})();
text.setAttribute("contenteditable", editable);
text.addEventListener("paste", (event) => {
  if (editable !== "true") return;
  event.preventDefault();
  document.execCommand("insertText", false, event.clipboardData.getData("text/plain"));
});

// ---- an answer ----

// Yields the JSON of each event; throws what an event reports, and when the stream breaks off before its end.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the answer broke off");
    waiting += value;
    for (let end; (end = waiting.indexOf("\n\n")) >= 0; waiting = waiting.slice(end + 2)) {
      const event = waiting.slice(0, end);
      if (!event.startsWith("data: ")) continue;
      if (event === "data: [DONE]") return;
      const data = JSON.parse(event.slice(6));
      if (data.error) throw new Error(data.error.message);
      yield data;
    }
  }
}

function request() {
  const seed = $("seed").value.trim();
  return JSON.stringify({
    model: $("model").value || undefined, prompt: text.textContent, stream: true, stream_options: { include_usage: true },
    max_tokens: Number($("length").value), temperature: Number($("temperature").value), top_p: 0.95,
    seed: seed === "" ? undefined : Number(seed),
  });
}

function showReceipt(r, usage, firstMs, writeMs, stopped) {
  const parts = ["on this device", ["model ", r.model_sha256.slice(0, 12)], `${r.bytes_out} bytes left`];
  if (r.ms !== undefined) parts.push(`${r.ms} ms`);
  if (usage > 1 && writeMs > 0) parts.push(`${Math.round((usage - 1) / writeMs * 1000)} tokens/s`);
  if (stopped) parts.push("stopped");
  receipt.classList.remove("bad");
  receipt.replaceChildren();
  parts.forEach((part, i) => {
    const span = document.createElement("span");    // kept on one line
    if (Array.isArray(part)) {
      const code = document.createElement("code");
      code.textContent = part[1];
      code.title = `SHA-256 ${r.model_sha256}\nfirst token after ${Math.round(firstMs)} ms`;
      span.append(part[0], code);
    } else span.append(part);
    receipt.append(i ? " · " : "", span);
  });
  receipt.title = "Sent to another place to be answered: " + (r.bytes_out === 0 ? "nothing." : `${r.bytes_out} bytes.`);
}

async function refused(reply) {
  if (reply.status === 401) { wantKey(); return; }
  const body = await reply.json().catch(() => null);
  throw new Error(body?.error?.message ?? `the node answered ${reply.status}`);
}

async function run() {
  if (running) return;
  const controller = new AbortController();
  const begun = performance.now();
  const made = document.createElement("span");
  let first = 0, last = 0, tokens = 0, head = null, final = null;
  running = controller;
  made.className = "made";
  const body = request();
  text.append(made);
  lastMade = made;
  setWriting(true);
  say("Writing…");
  try {
    const reply = await fetch("/v1/completions", { method: "POST", headers: headers(), body, signal: controller.signal });
    if (!reply.ok) { await refused(reply); return; }
    head = reply.headers.get("nigh-receipt");
    for await (const event of events(reply.body)) {
      controller.signal.throwIfAborted();       // all may have arrived already, but not all was shown
      const piece = event.choices[0]?.text;
      if (piece) {
        last = performance.now();
        first ||= last;
        tokens++;
        made.append(piece);
        const low = made.getBoundingClientRect().bottom - innerHeight;
        if (low > -24) scrollBy(0, low + 48);
      }
      if (event.nigh_receipt) { final = event.nigh_receipt; tokens = event.usage?.completion_tokens ?? tokens; }
    }
    showReceipt(final, tokens, first - begun, last - first, false);
  } catch (error) {
    if (controller.signal.aborted && head) {
      const sha = /sha256:([0-9a-f]{64})/.exec(head)?.[1] ?? "", out = Number(/out=(\d+)B/.exec(head)?.[1] ?? 0);
      showReceipt({ model_sha256: sha, bytes_out: out, ms: Math.round(performance.now() - begun) }, tokens, first - begun, last - first, true);
    } else say(controller.signal.aborted ? "Stopped." : `That did not work: ${error.message}.`, !controller.signal.aborted);
  } finally {
    running = null;
    if (!made.textContent) made.remove();
    setWriting(false);
    if ($("keyrow").hidden) { text.focus(); caretToEnd(); }
  }
}

// ---- controls ----

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!$("keyrow").hidden && $("key").value) {
    sessionStorage.setItem("nigh-key", $("key").value.trim());
    $("key").value = "";
    await start();
    return;
  }
  run();
});
$("stop").addEventListener("click", () => running?.abort());
$("back").addEventListener("click", () => { lastMade?.remove(); lastMade = null; $("back").disabled = true; text.focus(); caretToEnd(); });
$("clear").addEventListener("click", () => { text.replaceChildren(); lastMade = null; $("back").disabled = true; text.focus(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) { event.preventDefault(); running.abort(); }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
});

function show() {
  $("length-value").textContent = `${$("length").value} tokens`;
  $("temperature-value").textContent = Number($("temperature").value) === 0 ? "0, always the likeliest" : $("temperature").value;
  $("seed-value").textContent = $("seed").value === "" ? "a new one each time" : "same seed, same text";
}
for (const id of ["length", "temperature", "seed"]) $(id).addEventListener("input", show);

async function start() {
  try {
    await askModels();
    if ($("keyrow").hidden && receipt.classList.contains("bad")) say("Ready. Nothing has left this device.");
  } catch (error) {
    say(`This node cannot be reached: ${error.message}.`, true);
  }
}

$("base").textContent = `${location.origin}/v1`;
show();
start();
text.focus();
caretToEnd();
