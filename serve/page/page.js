"use strict";
// One request at a time: its events are drawn as they come; texts are only ever set as text.

const STAGES = { self_align: "By itself", guided: "With the expert's solution in view" };
const SOURCES = {
  own: "Solved by itself",
  rewritten: "Solved again with the expert's solution in view",
  expert: "Not solved: the expert's text stays",
  dropped: "Not solved: nothing is kept",
};
const $ = (id) => document.getElementById(id);
let running = null; // the AbortController of the request under way

$("ask").addEventListener("submit", (event) => { event.preventDefault(); start(); });
$("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); start(); }
  if (event.key === "Escape" && running) stop();
});

async function start() {
  if (running || !isComplete()) return;
  running = new AbortController();
  const { signal } = running;
  prepare();
  try {
    await follow(request(), signal);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else {
      complain(error.message || "The service cannot be reached.");
      say("");
      $("progress").hidden = !$("stages").hasChildNodes();
    }
  } finally {
    running = null;
    $("start").disabled = false;
    if (signal.aborted) $("start").focus();
    $("stop").hidden = true;
    $("progress-title").textContent = "How it went";
  }
}

function stop() {
  if (running) running.abort();
}

function isComplete() {
  complain("");
  for (const [id, name] of [["problem", "a problem"], ["reference", "the reference answer"]]) {
    const isEmpty = !$(id).value.trim();
    $(id).setAttribute("aria-invalid", String(isEmpty));
    if (isEmpty) { complain(`Give ${name}.`); $(id).focus(); return false; }
  }
  // No key has other characters, and fetch would throw as it does without a connection.
  if (!/^[\x21-\x7e]*$/.test($("key").value)) { complain(refusedKey()); return false; }
  return true;
}

function refusedKey() {
  $("key").setAttribute("aria-invalid", "true");
  $("key").focus();
  return "The key is missing or wrong.";
}

function prepare() {
  $("start").disabled = true;
  $("stop").hidden = false;
  $("progress").hidden = false;
  $("progress-title").textContent = "On its way";
  $("outcome").hidden = true;
  $("stages").replaceChildren();
  $("key").removeAttribute("aria-invalid");
  say("Asking…");
}

function request() {
  const expert = $("expert").value.trim();
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const body = { problem: $("problem").value, reference: $("reference").value };
  if (expert) body.expert_solution = expert;
  return { method: "POST", headers, body: JSON.stringify(body) };
}

// Reads the events; a connection that breaks is taken up behind the last event, a few times.
async function follow(options, signal) {
  let lastId = null;
  for (let tries = 0; ; tries += 1) {
    const headers = lastId ? { ...options.headers, "Last-Event-ID": lastId } : options.headers;
    let response;
    try {
      response = await fetch("rewrite/stream?resumable=true", { ...options, headers, signal });
    } catch (error) {
      if (error.name === "AbortError" || !lastId || tries >= 3) {
        throw error.name === "AbortError" ? error : new Error("The service cannot be reached.");
      }
      await new Promise((resolve) => setTimeout(resolve, 500 * (tries + 1)));
      continue;
    }
    if (!response.ok) throw new Error(await reasonOf(response));
    try {
      for await (const event of eventsOf(response.body)) {
        lastId = event.id;
        draw(event.kind, event.data);
        if (event.kind === "result" || event.kind === "error") return;
      }
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    if (tries >= 3) throw new Error("The connection broke off. Try again.");
  }
}

async function reasonOf(response) {
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) return refusedKey();
  if (response.status === 429) {
    const wait_s = response.headers.get("Retry-After");
    return sentence(problem.detail || `too many requests; try again ${wait_s ? `in ${wait_s} s` : "later"}`);
  }
  if (response.status === 503) return "No engine is available just now. Try again in a few seconds.";
  return problem.detail || `The service answered ${response.status}.`;
}

async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const lines = Object.fromEntries(block.split("\n").map((line) => {
        const colon = line.indexOf(": ");
        return [line.slice(0, colon), line.slice(colon + 2)];
      }));
      yield { id: lines.id, kind: lines.event, data: JSON.parse(lines.data) };
    }
  }
}

function draw(kind, data) {
  if (kind === "stage") drawStage(data.stage);
  else if (kind === "attempt") sampleOf(data);
  else if (kind === "tokens") drawText(data);
  else if (kind === "verdict") drawVerdict(data);
  else if (kind === "result") drawResult(data);
  else if (kind === "error") { say(""); complain(explain(data)); }
}

// A thought takes back what was told as an answer before it: it comes again as a part of the thought.
function drawText(data) {
  const text = sampleOf(data).querySelector(".text");
  if (!text.children.length) {
    for (const part of ["thought", "answer"]) {
      text.append(Object.assign(document.createElement("span"), { className: part }));
    }
  }
  const [thought, answer] = text.children;
  if (data.part === "thought") answer.textContent = "";
  (data.part === "thought" ? thought : answer).textContent += data.text;
}

function explain(problem) {
  if (problem.status === 503) return "The engine stopped in the middle. Try again in a few seconds.";
  if (problem.status === 429) return sentence(problem.detail);
  return problem.detail;
}

// A detail such as "the service is full; try again in 3 s" says itself whether the service or a key is at its limit.
function sentence(detail) {
  return `${detail.charAt(0).toUpperCase()}${detail.slice(1)}.`;
}

function drawStage(stage) {
  const item = document.createElement("li");
  const title = document.createElement("h3");
  title.textContent = STAGES[stage] || stage;
  item.append(title);
  item.dataset.stage = stage;
  $("stages").append(item);
  say(`${title.textContent}…`);
}

function sampleOf({ stage, sample_index: index }) {
  const item = $("stages").querySelector(`[data-stage="${CSS.escape(stage)}"]`);
  let sample = item.querySelector(`[data-index="${index}"]`);
  if (!sample) {
    sample = document.createElement("div");
    sample.className = "sample";
    sample.dataset.index = index;
    const verdict = document.createElement("p");
    verdict.className = "verdict";
    verdict.textContent = `Sample ${index + 1}`;
    const text = document.createElement("p");
    text.className = "text";
    sample.append(verdict, text);
    item.append(sample);
  }
  return sample;
}

function drawVerdict(data) {
  const verdict = sampleOf(data).querySelector(".verdict");
  const isCorrect = data.outcome === "correct";
  verdict.className = `verdict ${isCorrect ? "correct" : "other"}`;
  verdict.textContent =
    `Sample ${data.sample_index + 1}: ${isCorrect ? "✓" : "✗"} ${data.outcome.replace("_", " ")}, ${data.reason}`;
}

function drawResult(result) {
  say("Done.");
  $("headline").textContent = SOURCES[result.source] || result.source;
  const { total_s: total } = result.timings;
  const seconds = total.toFixed(total < 1 ? 2 : 1);
  const phi = result.mean_phi === null ? "" : `, φ̄ ${result.mean_phi.toFixed(2)}`;
  const answer = result.answer ? `Answer ${result.answer}; ` : "";
  $("facts").textContent =
    `${answer}${result.attempts.length} samples, ${result.tokens.sampled} tokens, ${seconds} s${phi}.`;
  $("before").textContent = $("expert").value.trim() || "none given";
  $("after").textContent = result.solution || "nothing";
  $("outcome").hidden = false;
  $("outcome").focus();
}

function say(text) { $("status").textContent = text; }
function complain(text) { $("complaint").textContent = text; }
