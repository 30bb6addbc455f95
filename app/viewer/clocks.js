// Where time comes from: the page's own clock, or a video, in this page or in the one around it. Both have the same face:
// time, playing, rate; play(), pause(), setRate(rate), setLoop(loop), seek(frame); they call `changed` when anything moved.

class OwnClock {
  constructor(times, changed) {
    Object.assign(this, { times, changed, playing: false, loop: false, rate: 1, base: 0, since: 0 });
    this.end = times.length ? times[times.length - 1] + usualStep(times) : 0;
  }
  get time() {
    if (!this.playing) return this.base;
    const time = this.base + ((performance.now() - this.since) / 1000) * this.rate;
    if (time < this.end) return time;
    if (this.loop) {
      Object.assign(this, { base: 0, since: performance.now() });
      return 0;
    }
    this.stopAt(this.end);
    return this.end;
  }
  stopAt(time) {
    Object.assign(this, { base: time, playing: false });
  }
  play() {
    if (this.time >= this.times[this.times.length - 1]) this.base = 0;
    Object.assign(this, { since: performance.now(), playing: true });
    this.changed();
  }
  pause() {
    this.stopAt(this.time);
    this.changed();
  }
  setRate(rate) {
    Object.assign(this, { base: this.time, since: performance.now(), rate });
    this.changed();
  }
  setLoop(loop) {
    this.loop = loop;
  }
  seek(frame) {
    Object.assign(this, { base: this.times[frame], since: performance.now() });
    this.changed();
  }
  detach() {
    this.stopAt(this.base);
  }
}

// Follows a video that says of itself (follow.js): {number, time, shown, playing, rate}. `command` reaches the video.
class VideoClock {
  constructor(times, changed, command) {
    Object.assign(this, { times, changed, command, playing: false, loop: false, rate: 1, reported: 0, number: 0, wanted: null });
  }
  // The frame on screen says its own time; currentTime may lie elsewhere, above all at a variable rate.
  get time() {
    return this.wanted !== null ? this.times[this.wanted] : this.reported;
  }
  hear({ number, time, shown, playing, rate }) {
    this.playing = playing === true;
    if (Number.isFinite(rate)) this.rate = rate;
    const isCurrent = number === this.number; // else from before the video got the last command to seek
    if (this.playing || (isCurrent && Math.abs(time - this.asked) > 1e-3)) this.wanted = null; // others moved it
    if (Number.isFinite(time) && isCurrent) this.reported = Number.isFinite(shown) ? shown : time;
    if (this.wanted !== null && isCurrent && Number.isFinite(shown)) this.insist(shown);
    this.changed();
  }
  // Browsers take a frame's length for that of another where B-frames meet a variable rate, and show one too early.
  insist(shown) {
    if (frameAt(this.times, shown) >= this.wanted || this.tries >= 8) return;
    this.tries++;
    this.ask(this.asked + usualStep(this.times) / 4);
  }
  ask(time) {
    this.number++;
    this.asked = time;
    this.command({ posemamba: "seek", time, number: this.number });
  }
  seek(frame) {
    Object.assign(this, { wanted: frame, tries: 0 });
    this.ask(insideFrame(this.times, frame));
    this.changed();
  }
  play() {
    this.command({ posemamba: "play" });
  }
  pause() {
    this.command({ posemamba: "pause" });
  }
  setLoop(loop) {
    this.loop = loop;
    this.command({ posemamba: "loop", loop });
  }
  setRate(rate) {
    this.command({ posemamba: "rate", rate });
  }
  detach() {}
}

function tellHost(message) {
  if (window.parent !== window) window.parent.postMessage(message, "*"); // holds nothing that is secret
}
