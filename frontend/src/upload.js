// Upload files and folders to a dataset: tus for each file, three at a time, then one version.
import { Upload } from "tus-js-client";
import { fromInput, fromTransfer } from "./upload-choosing.mjs";
import { forgetPlaces, keepPlace, knownPlace } from "./upload-places.mjs";

const AT_ONCE = 3;
const SMALL = 4 << 20; // Up to here a file goes in the request that begins its upload.
const PIECE = 64 << 20;
const SHOWN = 200;
const SILENCE = 20000; // Milliseconds without a byte after which a line counts as broken.
const PAUSES = [0, 1000, 2000, 5000, ...Array(600).fill(10000)];
const ARCHIVE = /\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$/i;
const TABLE = /\.(csv|tsv|parquet|jsonl)$/i;
const NAME = /^[a-z0-9][a-z0-9._-]{0,79}$/;

const card = document.getElementById("upload");
const find = (name) => card.querySelector(`[data-${name}]`);
const { api, pages, newest } = card.dataset;
const endpoint = `${api}/uploads`;
const batch = Math.random().toString(36).slice(2, 12);
const items = new Map(); // By path.
const speed = []; // [time, bytes] of the last while.
let isPaused = false;
let isMaking = false;
let isLeaving = false;
let drawing = 0;

// Choosing ------------------------------------------------------------------------------------

function add(chosen) {
  chosen.sort((one, other) => (one.path < other.path ? -1 : 1));
  for (const { path, file } of chosen) {
    let own = path;
    let known = items.get(own);
    if (known && isSame(known.file, file)) {
      if (known.state === "failed") again(known, file);
      continue;
    }
    for (let number = 2; known; number += 1) {
      own = path.replace(/(\.[^./]*)?$/, ` (${number})$1`);
      known = items.get(own);
    }
    items.set(own, { path: own, file, size: file.size, sent: 0, state: "waiting", why: "" });
  }
  const fault = tooMuch();
  if (fault) show(fault, "");
  else hide();
  if (items.size && find("name").value === "") find("name").value = suggestName();
  find("state").hidden = !items.size;
  offer();
  lookForName().catch(() => {}); // It is asked again before the version is made.
  pump();
}

const isSame = (one, other) => one.size === other.size && one.lastModified === other.lastModified;

function tooMuch() {
  const { filesMost, bytesMost, fileBytesMost } = card.dataset;
  if (items.size > Number(filesMost)) return `A version holds at most ${filesMost} files; leave some out.`;
  if (total() > Number(bytesMost)) return `A version holds at most ${sizeText(bytesMost)}; leave some files out.`;
  for (const item of items.values()) {
    if (item.size > Number(fileBytesMost)) return `${item.path} is larger than ${sizeText(fileBytesMost)}.`;
  }
  return "";
}

// The one folder that every path lies in, if there is one.
function outerFolder() {
  const tops = new Set();
  for (const path of items.keys()) tops.add(path.includes("/") ? path.split("/", 1)[0] : "");
  return tops.size === 1 ? [...tops][0] : "";
}

function suggestName() {
  const first = items.keys().next().value;
  const text = outerFolder() || first.split("/").pop().replace(/\..*$/, "");
  const plain = text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/ß/g, "ss");
  return plain.replace(/[^a-z0-9_-]+/g, "-").replace(/^[-_]+|[-_]+$/g, "").slice(0, 80) || "data";
}

function offer() {
  const paths = [...items.keys()];
  const outer = outerFolder();
  const strip = find("strip");
  if (outer && strip.hidden) strip.querySelector("input").checked = mode() !== "add";
  strip.hidden = !outer;
  strip.querySelector("code").textContent = `${outer}/`;
  find("unpack").hidden = !(paths.length === 1 && ARCHIVE.test(paths[0]));
  const endings = new Set(paths.map((path) => path.toLowerCase().match(TABLE)?.[1] ?? ""));
  find("table").hidden = endings.size !== 1 || endings.has("");
  find("options").hidden = strip.hidden && find("unpack").hidden && find("table").hidden;
}

// A name that is there already: these files become its next version only where that is meant.
async function lookForName() {
  const name = nameGiven();
  if (newest || !NAME.test(name)) return null;
  const found = await fetch(`${api}/datasets/${encodeURIComponent(name)}`);
  const there = found.ok ? await found.json() : null;
  if (name !== nameGiven()) return there;
  const text = there ? `${name} is there already: make these files its version ${there.newest + 1}` : "";
  const words = find("next").querySelector("span");
  if (words.textContent !== text) {
    find("next").querySelector("input").checked = false;
    words.textContent = text;
  }
  find("next").hidden = !there;
  return there;
}

const nameGiven = () => find("name").value.trim();
const mode = () => card.querySelector("input[name=mode]:checked")?.value ?? "replace";
const isOn = (name) => !find(name).hidden && find(name).querySelector("input").checked;

// Sending -------------------------------------------------------------------------------------

const inState = (state) => [...items.values()].filter((item) => item.state === state);

function pump() {
  if (!isPaused && !tooMuch()) {
    let room = AT_ONCE - inState("sending").length;
    for (const item of items.values()) {
      if (room <= 0) break;
      if (item.state !== "waiting") continue;
      send(item);
      room -= 1;
    }
  }
  draw();
  if (items.size && [...items.values()].every((item) => item.state === "done")) makeVersion();
}

function send(item) {
  item.state = "sending";
  item.why = "";
  item.upload ??= new Upload(item.file, {
    endpoint,
    uploadUrl: knownPlace(endpoint, item),
    chunkSize: PIECE,
    retryDelays: PAUSES,
    uploadDataDuringCreation: item.size <= SMALL,
    storeFingerprintForResuming: false,
    metadata: { filename: item.path.split("/").pop(), relativePath: item.path, batch },
    onUploadUrlAvailable: () => keepPlace(endpoint, item, item.upload.url),
    onAfterResponse: (_, response) => {
      item.digest = digestIn(response.getHeader("Repr-Digest")) ?? item.digest;
    },
    onProgress: (sent) => {
      item.sent = sent;
      item.isLate = false;
      item.heardAt = Date.now();
      draw();
    },
    onShouldRetry: (fault) => {
      const status = fault.originalResponse?.getStatus() ?? 0;
      const isPassing = !status || status >= 500 || status === 409 || status === 423 || status === 429;
      item.isLate = isPassing;
      draw();
      return isPassing;
    },
    onSuccess: () => settle(item),
    onError: (fault) => fail(item, faultText(fault)),
  });
  item.heardAt = Date.now();
  item.upload.start();
}

// A line may die without a word: what is silent for long is asked anew where it stands.
function wake(silence) {
  for (const item of inState("sending")) {
    const isSent = item.size && item.sent === item.size;
    if (isSent || Date.now() - item.heardAt < silence) continue;
    item.isLate = true;
    item.heardAt = Date.now();
    item.upload.abort();
    item.upload.start();
  }
}

// The bytes are there; the server may still be joining them.
async function settle(item) {
  try {
    for (let wait = 500; !item.digest; wait = Math.min(wait * 2, 5000)) {
      const answer = await fetch(new URL(item.upload.url, location.href));
      if (!answer.ok) throw new Error(await problemText(answer));
      item.digest = (await answer.json()).digest;
      if (!item.digest) await new Promise((done) => setTimeout(done, wait));
    }
    item.state = "done";
    item.sent = item.size;
    pump();
  } catch (fault) {
    fail(item, fault.message);
  }
}

function fail(item, why) {
  item.state = "failed";
  item.why = why;
  pump();
}

function again(item, file) {
  item.upload = undefined; // What failed for good begins anew, or where the server stands.
  if (file) item.file = file;
  item.state = "waiting";
  item.sent = 0;
}

function digestIn(header) {
  const text = header?.match(/^sha-256=:(.+):$/)?.[1];
  if (!text) return undefined;
  return [...atob(text)].map((one) => one.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

function faultText(fault) {
  const body = fault.originalResponse?.getBody();
  if (body) {
    try {
      return textOf(JSON.parse(body));
    } catch {
      // As below.
    }
  }
  if (fault.originalRequest && !fault.originalResponse) return "The server cannot be reached.";
  return "The file can't be read; it may have changed. Choose it again.";
}

const textOf = (problem) => [problem.detail, problem.next_step].filter(Boolean).join(" ");

async function problemText(answer) {
  try {
    return textOf(await answer.json());
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

// The version ---------------------------------------------------------------------------------

function bodyOfVersion() {
  const all = [...items.values()];
  const body = {};
  if (isOn("table")) body.kind = "table";
  if (mode() === "add") body.add_to = Number(newest);
  if (isOn("unpack")) return { ...body, archive: all[0].digest };
  const start = isOn("strip") ? outerFolder().length + 1 : 0;
  body.files = all.map(({ path, digest, size }) => ({ path: path.slice(start), digest, size }));
  return body;
}

async function makeVersion() {
  const name = nameGiven();
  if (isMaking) return;
  if (!NAME.test(name)) return showName("All files have come. Give the dataset a name to go on.");
  isMaking = true;
  draw();
  try {
    if ((await lookForName()) && !isOn("next")) {
      const taken = `All files have come, but ${name} is there already. Choose another name, or tick below what is meant.`;
      return showName(taken);
    }
    const answer = await fetch(`${api}/datasets/${encodeURIComponent(name)}/versions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": `${batch}-${Date.now()}` },
      body: JSON.stringify(bodyOfVersion()),
    });
    if (!answer.ok) return await refused(answer);
    const made = await answer.json();
    forgetPlaces(endpoint, items.values());
    isLeaving = true;
    location.assign(`${pages}/${made.dataset}/versions/${made.number}`);
  } catch {
    show("All files have come, but the server cannot be reached to make the version.", "Try again.");
  } finally {
    isMaking = isLeaving;
    draw();
  }
}

async function refused(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Shown by its number.
  }
  const faults = (problem.faults ?? []).map((one) => one.message);
  show(problem.detail ?? `The server answered ${answer.status}.`, problem.next_step ?? "", faults);
}

// Showing -------------------------------------------------------------------------------------

function show(text, next, faults = []) {
  const box = find("fault");
  const title = document.createElement("p");
  title.className = "alert-title mb-1";
  title.textContent = text;
  const list = document.createElement("ul");
  list.className = "mb-1";
  for (const fault of faults) {
    const row = document.createElement("li");
    row.textContent = fault;
    list.append(row);
  }
  const step = document.createElement("p");
  step.className = "mb-0";
  step.textContent = next;
  const inside = document.createElement("div");
  inside.append(title, ...(faults.length ? [list] : []), step);
  box.replaceChildren(inside);
  box.hidden = false;
  box.focus();
}

const hide = () => (find("fault").hidden = true);

function showName(text) {
  const field = find("name");
  field.classList.add("is-invalid");
  field.setAttribute("aria-invalid", "true");
  find("name-fault").textContent = text;
  field.focus();
}

const total = () => [...items.values()].reduce((sum, item) => sum + item.size, 0);

function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = Number(bytes);
  let unit = 0;
  for (; value >= 999.5 && unit < 4; unit += 1) value /= 1000;
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function durationText(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function draw() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    drawNow();
  }, 250);
}

function drawNow() {
  const all = [...items.values()];
  const done = all.filter((item) => item.state === "done").length;
  const failed = inState("failed").length;
  const bytes = total();
  const sent = all.reduce((sum, item) => sum + item.sent, 0);
  const isAll = done === all.length;
  speed.push([Date.now(), sent]);
  while (speed.length > 2 && speed[0][0] < Date.now() - 15000) speed.shift();
  find("progress").max = bytes || 1;
  find("progress").value = bytes ? sent : Number(isAll);
  find("summary").textContent = isMaking
    ? "All files have come. Making the version …"
    : `${done} of ${all.length} files, ${sizeText(sent)} of ${sizeText(bytes)}`;
  find("rest").textContent = restText(sent, bytes, failed, isAll);
  button("pause").hidden = isPaused || isAll;
  button("resume").hidden = !isPaused || isAll;
  button("retry").hidden = isMaking || !(failed || (isAll && all.length));
  button("cancel").disabled = isMaking;
  drawRows(all);
  speak(`${done} of ${all.length} files have come${failed ? `, ${failed} failed` : ""}.`);
}

const button = (name) => card.querySelector(`[data-do=${name}]`);

function restText(sent, bytes, failed, isAll) {
  if (isAll) return "";
  if (isPaused) return "Paused.";
  if (inState("sending").some((item) => item.isLate)) return "The server cannot be reached; the upload goes on when it can …";
  if (failed && !inState("sending").length) return `${failed} failed.`;
  const [start, before] = speed[0];
  const rate = (sent - before) / Math.max(1, Date.now() - start);
  const text = rate > 0 && sent < bytes ? `about ${durationText((bytes - sent) / rate / 1000)} left` : "";
  return failed ? `${text}; ${failed} failed` : text;
}

let spoken = 0;
function speak(text) {
  if (Date.now() - spoken < 8000 && !isMaking) return;
  spoken = Date.now();
  if (find("spoken").textContent !== text) find("spoken").textContent = text;
}

// Failed files first, for they want something; then the others as they came.
function drawRows(all) {
  const first = all.filter((item) => item.state === "failed");
  const shown = [...first, ...all.filter((item) => item.state !== "failed")].slice(0, SHOWN);
  const rows = shown.map((item) => (item.row ??= makeRow(item)));
  shown.forEach(fillRow);
  const place = find("rows");
  const isSameRows = rows.length === place.children.length && rows.every((row, at) => place.children[at] === row);
  if (!isSameRows) place.replaceChildren(...rows);
  find("more").hidden = all.length <= SHOWN;
  find("more").textContent = `And ${all.length - SHOWN} more.`;
}

function makeRow(item) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.className = "fw-normal";
  name.textContent = item.path.replace(/[\u0000-\u001f\u007f]/g, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`);
  const size = document.createElement("td");
  size.className = "text-end text-nowrap";
  size.textContent = sizeText(item.size);
  const state = document.createElement("td");
  const last = document.createElement("td");
  last.className = "text-end";
  const out = document.createElement("button");
  out.type = "button";
  out.className = "btn btn-sm";
  out.textContent = "Leave out";
  out.setAttribute("aria-label", `Leave out ${name.textContent}`);
  out.addEventListener("click", () => leaveOut(item));
  last.append(out);
  row.append(name, size, state, last);
  return row;
}

function fillRow(item) {
  const [, , state, last] = item.row.children;
  const share = item.size ? Math.floor((100 * item.sent) / item.size) : 0;
  const words = { waiting: "waiting", sending: `${share} %`, done: "has come", failed: item.why };
  let text = words[item.state];
  if (item.state === "sending" && item.sent === item.size && item.size > SMALL) text = "being joined …";
  if (item.state === "waiting" && isPaused && item.sent) text = `paused at ${share} %`;
  if (state.textContent !== text) state.textContent = text;
  state.className = item.state === "failed" ? "text-red-state" : "";
  last.firstChild.hidden = isMaking || item.state === "done";
}

// Doing ---------------------------------------------------------------------------------------

function leaveOut(item) {
  item.upload?.abort(true).catch(() => {}); // What is left there expires by itself.
  forgetPlaces(endpoint, [item]);
  items.delete(item.path);
  find("state").hidden = !items.size;
  offer();
  if (!tooMuch()) hide();
  pump();
}

function pause() {
  isPaused = true;
  for (const item of inState("sending")) {
    if (item.sent === item.size && item.size) continue; // It has come; nothing to stop.
    item.upload.abort();
    item.state = "waiting";
  }
  draw();
  button("resume").hidden = false;
  button("resume").focus();
}

function resume() {
  isPaused = false;
  speed.length = 0;
  pump();
  button("pause").hidden = false;
  button("pause").focus();
}

function retry() {
  hide();
  isPaused = false;
  for (const item of inState("failed")) again(item);
  pump();
}

function cancel() {
  if (!window.confirm("Cancel the upload? What has come of these files is given up; no version is made.")) return;
  for (const item of items.values()) {
    if (item.state !== "done") item.upload?.abort(true).catch(() => {});
  }
  forgetPlaces(endpoint, items.values());
  items.clear();
  isPaused = false;
  hide();
  find("state").hidden = true;
  offer();
  draw();
  card.querySelector("[data-choose=files]").focus();
}

const doing = { pause, resume, retry, cancel };
card.addEventListener("click", (event) => {
  const at = event.target.closest("button");
  if (at?.dataset.do) doing[at.dataset.do]();
  if (at?.dataset.choose) card.querySelector(`[data-input=${at.dataset.choose}]`).click();
});
for (const input of card.querySelectorAll("[data-input]")) {
  input.addEventListener("change", () => {
    add(fromInput(input.files));
    input.value = "";
  });
}
find("name").addEventListener("input", () => {
  find("name").classList.remove("is-invalid");
  find("name").removeAttribute("aria-invalid");
});
find("name").addEventListener("change", () => {
  lookForName().catch(() => {}); // The server's word counts when the version is made.
  pump();
});
find("next")?.addEventListener("change", pump);

const zone = find("drop");
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault(); // Else a file dropped beside the zone would replace the page.
  zone.classList.toggle("is-over", zone.contains(event.target));
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("is-over");
});
addEventListener("drop", async (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  zone.classList.remove("is-over");
  try {
    add(await fromTransfer(event.dataTransfer));
  } catch (fault) {
    show(`Something of what was dropped can't be read: ${fault.message}`, "Choose it again.");
  }
});
addEventListener("online", () => wake(0));
addEventListener("offline", () => {
  for (const item of inState("sending")) item.isLate = true;
  draw();
});
setInterval(() => {
  if (isPaused || !inState("sending").length) return;
  wake(SILENCE);
  draw();
}, 2000);
addEventListener("beforeunload", (event) => {
  if (!isLeaving && [...items.values()].some((item) => item.state !== "done" || isMaking)) event.preventDefault();
});
