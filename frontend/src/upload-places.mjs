// Where this browser's uploads stand on the server, so that the same file chosen again goes on.
const START = "millpond-upload:";
const KEPT = 7 * 86400 * 1000;

const keyOf = (endpoint, { path, file }) =>
  `${START}${endpoint}:${file.size}:${file.lastModified}:${path}`;

export function knownPlace(endpoint, item) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(endpoint, item)))?.url;
  } catch {
    return undefined;
  }
}

// A browser that is full, or keeps nothing, only loses the going on after a closed tab.
export function keepPlace(endpoint, item, url) {
  try {
    localStorage.setItem(keyOf(endpoint, item), JSON.stringify({ url, at: Date.now() }));
  } catch {
    // As said above.
  }
}

export function forgetPlaces(endpoint, items) {
  try {
    for (const item of items) localStorage.removeItem(keyOf(endpoint, item));
  } catch {
    // As said above.
  }
}

function forgetOld() {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(START)) continue;
    let at = 0;
    try {
      at = JSON.parse(localStorage.getItem(key)).at;
    } catch {
      // What can't be read is old.
    }
    if (!(at > Date.now() - KEPT)) localStorage.removeItem(key);
  }
}

try {
  forgetOld();
} catch {
  // As said above.
}
