// The page of a run. What changes is fetched anew every few seconds while it runs; its progress is
// written in as it is told. Its log: the newest lines at once, older ones when asked for, a text
// found by the server.
// At most two thousand lines are in the page. Each piece is a <span> that knows where it begins, so
// that whole pieces can be dropped at either end and asked for again.
import { showProgress } from "./progress.mjs";

const LOOK_PAUSE = 3000; // Milliseconds between two looks at steps and tasks.
const LOG_PAUSE = 1000; // Logs are written once a second.
const MOST = 2000;
const PIECE = 500;
const NEAR = 30; // Pixels from the end that count as being there.

const place = document.querySelector("[data-log]");
if (place) show(place);
followRun();

// Do something now, or as soon as the pause since the last time is over; never not at all.
function paced(pause, work) {
  let last = 0;
  let timer = 0;
  return (isUrgent = false) => {
    if (timer && !isUrgent) return;
    clearTimeout(timer);
    const wait = isUrgent ? 0 : Math.max(0, last + pause - Date.now());
    timer = setTimeout(() => {
      timer = 0;
      last = Date.now();
      work();
    }, wait);
  };
}

function followRun() {
  const own = () => document.querySelector("#run[data-live]");
  const look = paced(LOOK_PAUSE, () => own()?.dispatchEvent(new CustomEvent("look")));
  // "live" also comes when the connection is back, or the tab: then something was missed.
  document.addEventListener("live", (event) => {
    if (event.target.id === "run") look();
  });
  document.addEventListener("millpond:event", ({ detail }) => {
    const run = own();
    if (run?.dataset.live !== `${detail.project} ${detail.topic}`) return;
    if (detail.event !== "progress") look(true);
    else if (!document.hidden) showProgress(run, detail.facts);
  });
}

function show(root) {
  const lines = root.querySelector("[data-log-lines]");
  const follow = root.querySelector("[data-log-follow]");
  const older = root.querySelector("[data-log-older]");
  const newest = root.querySelector("[data-log-newest]");
  const state = root.querySelector("[data-log-state]");
  const found = root.querySelector("[data-log-found]");
  const search = root.querySelector("[data-log-search]");
  const wrap = root.querySelector("[data-log-wrap]");
  const beside = root.querySelector("[data-log-beside]");
  let next = root.dataset.next;
  let previous = root.dataset.previous;
  let isAtEnd = true; // Whether what is shown reaches to where the log is written.
  let isComplete = "complete" in root.dataset;
  let busy = null;
  // Whether what all running tasks write comes side by side; else their logs one after the other.
  let isBeside = "beside" in root.dataset;
  search.hidden = false;
  beside.closest("label").hidden = !isBeside;
  scrollDown();

  function scrollDown() {
    lines.scrollTop = lines.scrollHeight;
  }

  function isNear() {
    return lines.scrollHeight - lines.scrollTop - lines.clientHeight < NEAR;
  }

  async function ask(path, query) {
    const wanted = new URLSearchParams(query);
    for (const name of ["step", "partition"]) {
      if (root.dataset[name]) wanted.set(name, root.dataset[name]);
    }
    if (isBeside && !path && !wanted.has("before")) wanted.set("beside", "true");
    const answer = await fetch(`${root.dataset.log}${path}?${wanted}`, {
      headers: { Accept: "application/json" },
    });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  // One request at a time; a server that is away is asked again with the next event.
  async function once(work) {
    if (busy) return;
    busy = work();
    try {
      await busy;
    } catch {
      state.textContent = "The log cannot be read just now.";
    } finally {
      busy = null;
      paint();
    }
  }

  function paint() {
    older.hidden = !previous;
    newest.hidden = isAtEnd;
    const isEmpty = !lines.textContent;
    root.querySelector("[data-log-empty]").hidden = !isEmpty;
    follow.closest("label").hidden = isComplete && isAtEnd;
  }

  function piece(part) {
    const span = document.createElement("span");
    span.textContent = part.text;
    span.dataset.previous = part.previous ?? "";
    return span;
  }

  function count(span) {
    return span.textContent.split("\n").length - 1;
  }

  function trim(isFromTop) {
    let total = [...lines.children].reduce((sum, span) => sum + count(span), 0);
    while (total > MOST && lines.children.length > 1) {
      const span = isFromTop ? lines.firstElementChild : lines.lastElementChild;
      total -= count(span);
      if (isFromTop) {
        previous = span.nextElementSibling.dataset.previous;
      } else {
        next = span.dataset.previous;
        isAtEnd = false;
      }
      span.remove();
    }
  }

  function replace(part) {
    lines.replaceChildren(piece(part));
    previous = part.previous ?? "";
    next = part.next;
  }

  function tell(part) {
    isComplete = part.is_complete;
    state.textContent = part.follows ? `Writing now: ${part.follows}` : "";
  }

  const more = () =>
    once(async () => {
      const isFollowing = isAtEnd && isNear() && follow.checked;
      const part = await ask("", { after: next, lines: PIECE });
      if (part.text) {
        const mark = lines.lastElementChild;
        const bottom = mark.getBoundingClientRect().bottom;
        lines.append(piece(part));
        trim(true);
        lines.scrollTop += mark.getBoundingClientRect().bottom - bottom; // What is read stays put.
      }
      next = part.next;
      isAtEnd = isBeside || part.text === "" || part.follows !== "" || part.is_complete;
      tell(part);
      if (isBeside && part.is_complete) await inOrder();
      if (isFollowing) scrollDown();
      return part;
    });

  const toEnd = () =>
    once(async () => {
      const part = await ask("", isBeside ? { lines: PIECE } : { before: "end", lines: PIECE });
      replace(part);
      tell(part);
      if (isBeside && part.is_complete) await inOrder();
      isAtEnd = true;
      follow.checked = true;
      scrollDown();
    });

  // Once the run has ended its log is shown as it is kept, task by task.
  async function inOrder() {
    isBeside = false;
    beside.closest("label").hidden = true;
    const part = await ask("", { before: "end", lines: PIECE });
    replace(part);
    tell(part);
  }

  // The run has something new. Who has scrolled up reads: nothing moves under their eyes.
  async function hear() {
    if (isComplete || busy || document.hidden || !follow.checked || !isAtEnd) return;
    if (!isNear()) return;
    await more();
    if (!document.querySelector("#run[data-live]") && !isComplete) hearSoon();
  }

  const hearSoon = paced(LOG_PAUSE, hear);
  document.addEventListener("live", (event) => {
    if (event.target.id === "run") hearSoon();
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id === "run" && !event.target.dataset.live) hear();
  });
  lines.addEventListener("scroll", () => {
    if (busy) return;
    if (!isAtEnd) {
      if (isNear()) more();
      return;
    }
    if (isComplete) return;
    if (isNear()) {
      if (state.dataset.isPaused) {
        delete state.dataset.isPaused;
        state.textContent = "";
        hear();
      }
    } else if (follow.checked) {
      state.dataset.isPaused = "yes";
      state.textContent = "Paused while you read. Scroll to the end to follow.";
    }
  });
  follow.addEventListener("change", () => {
    if (follow.checked) toEnd();
  });
  beside.addEventListener("change", async () => {
    // An answer under way belongs to the other way of reading.
    while (busy) await busy.catch(() => {});
    isBeside = beside.checked;
    toEnd();
  });
  wrap.addEventListener("change", () => lines.classList.toggle("is-wrapped", wrap.checked));
  newest.addEventListener("click", toEnd);
  older.addEventListener("click", () =>
    once(async () => {
      const part = await ask("", { before: previous, lines: PIECE });
      const height = lines.scrollHeight;
      lines.prepend(piece(part));
      previous = part.previous ?? "";
      const added = lines.scrollHeight - height;
      trim(false);
      lines.scrollTop = Math.max(added - 0.8 * lines.clientHeight, 0); // The last of what is new.
    }),
  );

  // Search --------------------------------------------------------------------------------------

  search.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = search.querySelector("input").value;
    found.replaceChildren();
    found.hidden = !text;
    if (text) find(text, "", 0);
  });

  async function find(text, after, before) {
    const told = found.querySelector("p") ?? document.createElement("p");
    told.className = "text-secondary small mb-1";
    told.setAttribute("role", "status");
    told.textContent = "Searching …";
    found.prepend(told);
    let answer;
    try {
      answer = await ask("/search", { text, limit: 100, ...(after ? { after } : {}) });
    } catch {
      told.textContent = "The log cannot be searched just now.";
      return;
    }
    const list = found.querySelector("ol") ?? document.createElement("ol");
    list.className = "list-unstyled log-found mb-2";
    list.tabIndex = 0;
    list.setAttribute("aria-label", "Lines found");
    list.append(...answer.items.map(item));
    found.querySelector("[data-more]")?.remove();
    const total = before + answer.items.length;
    told.textContent = `${total || "No"} ${total === 1 ? "line" : "lines"} found${answer.next ? " so far" : ""}.`;
    found.append(list);
    if (!answer.next) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm mb-2";
    button.dataset.more = "";
    button.textContent = "Search on";
    button.addEventListener("click", () => find(text, answer.next, total));
    found.append(button);
  }

  function item(match) {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-link p-0";
    const partition = match.partition < 0 ? "splitting" : match.partition;
    button.textContent = `${match.step}, ${partition}: ${match.text}`;
    button.addEventListener("click", () => goTo(match.at));
    entry.append(button);
    return entry;
  }

  const goTo = (at) =>
    once(async () => {
      isBeside = beside.checked = false;
      const [before, after] = [
        await ask("", { before: at, lines: 100 }),
        await ask("", { after: at, lines: PIECE }),
      ];
      lines.replaceChildren(piece(before), piece(after));
      lines.lastElementChild.dataset.previous = at;
      previous = before.previous ?? "";
      next = after.next;
      isAtEnd = after.is_complete || after.follows !== "";
      isComplete = after.is_complete;
      follow.checked = false;
      state.textContent = "";
      const mark = lines.lastElementChild.getBoundingClientRect().top;
      lines.scrollTop += mark - lines.getBoundingClientRect().top - 40;
      lines.focus({ preventScroll: false });
    });
}
