// One stream of server-sent events over many places; what was missed is asked for on return.
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;
const MOST = 60; // Places that the server follows in one stream; the first ones given count.

export class Stream {
  constructor(hear) {
    this.hear = hear;
    this.places = "";
    this.number = "";
    this.wait = FIRST_WAIT;
    this.source = null;
    this.timer = 0;
  }

  want(places) {
    const text = [...new Set(places)].slice(0, MOST).sort().join("\n");
    if (text === this.places) return;
    this.places = text;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    if (!this.places) return;
    const query = new URLSearchParams();
    for (const place of this.places.split("\n")) query.append("place", place);
    if (this.number) query.set("after", this.number);
    const source = new EventSource(`/live?${query}`);
    this.source = source;
    source.onopen = () => {
      this.wait = FIRST_WAIT;
      this.hear({ kind: "open" });
    };
    source.onmessage = (event) => {
      if (event.lastEventId) this.number = event.lastEventId;
      this.hear({ kind: "event", ...JSON.parse(event.data) });
    };
    source.onerror = () => {
      // A browser gives up on some errors; we never do, and we ask with the last number.
      source.close();
      if (this.source !== source) return;
      this.hear({ kind: "lost" });
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    };
  }
}
