// Where time comes from: the page's own clock, a video element, or the page around this one. All have the same face:
// time, playing, rate; play(), pause(), setRate(rate), seek(frame); they call `changed` when anything moved.

class OwnClock {
  constructor(times, changed) {
    Object.assign(this, { times, changed, playing: false, rate: 1, base: 0, since: 0 });
    this.end = times.length ? times[times.length - 1] + usualStep(times) : 0;
  }
  get time() {
    if (!this.playing) return this.base;
    const time = this.base + ((performance.now() - this.since) / 1000) * this.rate;
    if (time < this.end) return time;
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
  seek(frame) {
    Object.assign(this, { base: this.times[frame], since: performance.now() });
    this.changed();
  }
  detach() {
    this.stopAt(this.base);
  }
}

class VideoClock {
  constructor(times, changed, video) {
    Object.assign(this, { times, changed, video, shown: null });
    this.heard = () => {
      this.shown = null;
      changed();
    };
    for (const type of VideoClock.EVENTS) video.addEventListener(type, this.heard);
    this.follow();
  }
  // While a video plays its frames say their own time; currentTime runs ahead of what is on screen.
  follow() {
    if (!this.video.requestVideoFrameCallback) return;
    this.request = this.video.requestVideoFrameCallback((_, frame) => {
      this.shown = frame.mediaTime;
      this.changed();
      this.follow();
    });
  }
  get time() {
    return this.playing && this.shown !== null ? this.shown : this.video.currentTime;
  }
  get playing() {
    return !this.video.paused && !this.video.ended;
  }
  get rate() {
    return this.video.playbackRate;
  }
  play() {
    this.video.play().catch(() => this.changed());
  }
  pause() {
    this.video.pause();
  }
  setRate(rate) {
    this.video.playbackRate = rate;
  }
  seek(frame) {
    this.video.currentTime = insideFrame(this.times, frame);
  }
  detach() {
    for (const type of VideoClock.EVENTS) this.video.removeEventListener(type, this.heard);
    this.video.cancelVideoFrameCallback?.(this.request);
  }
}
VideoClock.EVENTS = ["play", "pause", "ended", "seeking", "seeked", "timeupdate", "ratechange", "loadedmetadata"];

// The page around tells the time of its video (host.js) and is told what the viewer's controls ask for.
class HostClock {
  constructor(times, changed) {
    Object.assign(this, { times, changed, time: 0, playing: false, rate: 1 });
  }
  hear({ time, playing, rate }) {
    if (Number.isFinite(time)) this.time = time;
    if (Number.isFinite(rate)) this.rate = rate;
    this.playing = playing === true;
    this.changed();
  }
  play() {
    tellHost({ posemamba: "play" });
  }
  pause() {
    tellHost({ posemamba: "pause" });
  }
  setRate(rate) {
    tellHost({ posemamba: "rate", rate });
  }
  seek(frame) {
    this.time = insideFrame(this.times, frame);
    tellHost({ posemamba: "seek", time: this.time });
    this.changed();
  }
  detach() {}
}

function tellHost(message) {
  if (window.parent !== window) window.parent.postMessage(message, "*"); // holds nothing that is secret
}
