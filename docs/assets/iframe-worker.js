// Pages that are opened as files may not start workers. There, the search of the theme runs in a hidden frame instead.
"use strict";

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.waiting = []; // messages, until the script has run
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!doctype html>";
      this.frame.addEventListener("load", () => this.start(address), { once: true });
      document.body.append(this.frame);
    }

    start(address) {
      const inner = this.frame.contentWindow;
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inner.document.createElement("script");
      script.src = new URL(address, location);
      script.onload = () => {
        this.run = (data) => inner.dispatchEvent(new inner.MessageEvent("message", { data }));
        this.waiting.splice(0).forEach(this.run);
      };
      inner.document.head.append(script);
    }

    postMessage(data) {
      if (this.run) this.run(data);
      else this.waiting.push(data);
    }
  };
}
