// Passkeys: make one in the profile, sign in with one from the page of signing in.

const bytesOf = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

const textOf = (buffer) =>
  btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");

const WORDS = {
  AbortError: "It was cancelled.",
  ConstraintError: "This device cannot keep passkeys that are used without a name.",
  InvalidStateError: "This device holds a passkey of yours for this server already.",
  NotAllowedError: "It was cancelled or took too long, or there is no passkey for this server.",
  NotSupportedError: "This device offers no passkey of a kind that can be used here.",
  SecurityError: "The browser does not use passkeys at this address.",
};

// Send JSON to a page of ours; faults come back as words.
async function send(path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "HX-Request": "true" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The server cannot be reached. Try again.");
  }
  const to = answer.headers.get("HX-Redirect");
  if (to) {
    window.location.assign(to);
    return new Promise(() => {}); // The next page is on its way.
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  throw new Error([told.detail ?? "This did not work.", told.next_step].filter(Boolean).join(" "));
}

const withBytes = (list) => (list ?? []).map((one) => ({ ...one, id: bytesOf(one.id) }));

async function make(name) {
  const options = await send("/profile/passkeys/options", { name });
  const made = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytesOf(options.challenge),
      user: { ...options.user, id: bytesOf(options.user.id) },
      excludeCredentials: withBytes(options.excludeCredentials),
    },
  });
  await send("/profile/passkeys", { name, credential: written(made, "attestationObject") });
}

async function signIn(next) {
  const options = await send("/sign-in/passkey/options", {});
  const signed = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: bytesOf(options.challenge),
      allowCredentials: withBytes(options.allowCredentials),
    },
  });
  const credential = written(signed, "authenticatorData", "signature", "userHandle");
  await send("/sign-in/passkey", { next, credential });
}

function written(made, ...names) {
  const response = { clientDataJSON: textOf(made.response.clientDataJSON) };
  for (const name of names) {
    if (made.response[name]) response[name] = textOf(made.response[name]);
  }
  return { id: made.id, rawId: textOf(made.rawId), type: made.type, response };
}

async function attempt(form, act) {
  const told = form.querySelector("[data-told]");
  const button = form.querySelector("button");
  told.hidden = true;
  button.disabled = true;
  try {
    await act();
  } catch (fault) {
    told.textContent = WORDS[fault.name] ?? fault.message;
    told.hidden = false;
    button.focus();
  } finally {
    button.disabled = false;
  }
}

const isNumber = /^[\d.]+$|^\[/.test(location.hostname);
const isOffered = window.isSecureContext && "PublicKeyCredential" in window && !isNumber;

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.hidden = !isOffered;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.elements.name?.value.trim();
    attempt(form, () => (name === undefined ? signIn(form.dataset.next) : make(name)));
  });
}
for (const hint of document.querySelectorAll("[data-passkey-local]")) {
  if (isNumber && /^(127\.|\[::1\])/.test(location.hostname)) {
    const there = new URL(location.href);
    there.hostname = "localhost";
    hint.querySelector("a").href = there.href;
    hint.hidden = false;
  }
}
