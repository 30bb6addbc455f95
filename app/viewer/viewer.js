// The viewer as a whole: mountViewer(element, contents, {video, keys}) builds it into an element and returns its handle.

const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
const SPANS = [30, 10, 3]; // seconds of the plot around the current frame
const INSET = 9; // half a slider's knob: slider, timeline and plot share their ends

function mountViewer(parent, contents, { video = null, keys = parent } = {}) {
  const viewer = new Viewer(parent, decode(contents), keys);
  if (video) viewer.follow(video);
  return viewer;
}

class Viewer {
  constructor(parent, data, keys) {
    this.data = data;
    this.frame = 0;
    this.drawn = null;
    this.isEmpty = data.people.length === 0;
    this.build(parent);
    this.scene = new Scene(this.canvas, data);
    this.plot = new Plot(this.plotCanvas, this.scene);
    this.plot.choose(curveChoices(data)[0]);
    this.scene.chosen = this.plot.person = data.people[0] ?? null;
    this.clock = new OwnClock(data.times, () => this.wake());
    this.listen(keys);
    this.setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
    this.resize();
  }

  // What is on the page.

  build(parent) {
    const middle = this.buildStage(), transport = this.buildTransport(), panel = this.buildPanel();
    this.root = element("div", { className: "pm-viewer", aria: { role: "group", label: "3D viewer" } },
      middle, ...transport, panel);
    parent.append(this.root);
  }

  buildStage() {
    this.canvas = element("canvas", { className: "pm-canvas", aria: { role: "img", label: this.summary() } });
    this.note = element("p", { className: "pm-note", aria: { live: "polite" } });
    this.chips = this.buildChips();
    const looks = Object.keys(VIEWS).slice(1).map((name, i) =>
      button(`View from the ${name} (${i + 1})`, name[0].toUpperCase() + name.slice(1), () => this.look(name)));
    this.followBox = element("input", { type: "checkbox", onchange: () => this.setFollow(this.followBox.checked) });
    this.trailPick = select("Joint trails", Object.keys(TRAILS).map((name) =>
      option(name, name === "none" ? "No trails" : `Trails: ${name}`)), (name) => {
      this.scene.trail = name;
      this.wake(true);
    });
    const tools = element("div", { className: "pm-tools" },
      element("div", { className: "pm-group" }, ...looks),
      element("label", { className: "pm-check", title: "Keep the people in the middle" }, this.followBox, "Follow"),
      this.trailPick);
    this.tip = element("p", { className: "pm-tip", hidden: true });
    this.actions = this.buildActions();
    this.stage = element("div", { className: "pm-stage" }, this.canvas, this.tip, this.chips, tools, this.note, this.help);
    this.picture = element("div", { className: "pm-picture", hidden: true });
    return element("div", { className: "pm-middle" }, this.picture, this.stage);
  }

  buildTransport() {
    const { data } = this;
    this.lanes = element("canvas", { className: "pm-lanes", aria: { hidden: "true" } });
    this.slider = element("input", {
      type: "range", min: 0, max: Math.max(0, data.num_frames - 1), step: 1, value: 0, className: "pm-slider",
      oninput: () => this.seek(Number(this.slider.value)), aria: { label: "Frame" },
    });
    const timeline = element("div", { className: "pm-timeline" }, this.lanes, this.slider);
    this.playButton = button("Play (space)", "", () => this.toggle(), { className: "pm-play" });
    this.readout = element("output", { className: "pm-readout" }, element("span"), element("span"));
    this.speedPick = select("Speed", SPEEDS.map((speed) => option(speed, `${speed}\u00d7`)), (speed) =>
      this.clock.setRate(Number(speed)));
    this.speedPick.value = "1";
    return [timeline, element("div", { className: "pm-transport" },
      button("One frame back (left arrow)", "\u2039", () => this.step(-1), { className: "pm-step" }),
      this.playButton,
      button("One frame on (right arrow)", "\u203a", () => this.step(1), { className: "pm-step" }),
      this.readout, this.actions, this.speedPick)];
  }

  buildPanel() {
    const { data } = this;
    const choices = curveChoices(data);
    const groups = Object.entries(CURVES).map(([kind, { label }]) =>
      element("optgroup", { label },
        ...choices.filter((choice) => choice.kind === kind).map((choice) => option(choice.key, choice.title))));
    this.curvePick = select("Curve", groups, (key) => {
      this.plot.choose(choices.find((choice) => choice.key === key));
      this.plot.changed();
      this.wake(true);
    });
    const end = data.times[data.times.length - 1] ?? 0;
    this.spanPick = select("Time span of the plot", [
      option("", "Whole clip"), ...SPANS.filter((span) => span < end).map((span) => option(span, `${span} s`)),
    ], (span) => {
      this.plot.span = Number(span) || null;
      this.wake(true);
    });
    this.spanPick.hidden = this.spanPick.options.length < 2;
    this.personPick = select("Person of the plot", [
      ...data.people.map((person, i) => option(i, `Person ${person.id}`)), option("", "Everybody"),
    ], (index) => this.choose(data.people[index] ?? null));
    this.personPick.hidden = data.people.length < 2;
    this.legend = element("div", { className: "pm-legend" });
    const plotHead = element("div", { className: "pm-plothead" }, this.curvePick, this.personPick, this.spanPick, this.legend);
    this.plotCanvas = element("canvas", { className: "pm-plot", aria: { role: "img", label: "Curve over time" } });
    return element("div", { className: "pm-panel", hidden: this.isEmpty }, plotHead, this.plotCanvas);
  }

  summary() {
    const { people, num_frames: frames } = this.data;
    const who = people.length === 1 ? "1 person" : `${people.length} people`;
    return `3D skeletons of ${who} over ${frames} frames; drag to orbit, wheel or pinch to zoom, double click to reset`;
  }

  buildChips() {
    const { people, times } = this.data;
    const chips = people.map((person) => {
      const dot = element("span", { className: "pm-dot" });
      const span = `${times[person.start].toFixed(1)} to ${times[person.stop - 1].toFixed(1)} s`;
      const chip = element("button", {
        type: "button", className: "pm-chip", title: `Show or hide person ${person.id}, seen from ${span}`,
        onclick: () => this.setShown(person, !this.scene.shown.has(person)), aria: { pressed: "true" },
      }, dot, people.length > 8 ? String(person.id) : `Person ${person.id}`);
      return Object.assign(chip, { person, dot });
    });
    const box = element("div", { className: "pm-chips", aria: { role: "group", label: "People" } }, ...chips);
    box.hidden = people.length === 0;
    return Object.assign(box, { all: chips });
  }

  // What the user does.

  listen(keys) {
    this.stops = new AbortController();
    const on = (target, type, heard, options = {}) =>
      target.addEventListener(type, heard, { signal: this.stops.signal, ...options });
    const touches = new Map();
    on(this.canvas, "pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      touches.set(event.pointerId, [event.clientX, event.clientY]);
      this.pressed = [event.offsetX, event.offsetY];
    });
    on(this.canvas, "contextmenu", (event) => event.preventDefault());
    on(this.canvas, "click", (event) => {
      const [x, y] = [event.offsetX, event.offsetY], isDrag = Math.hypot(x - this.pressed?.[0], y - this.pressed?.[1]) > 4;
      const found = !isDrag && this.scene.pick(x, y, this.frame);
      if (found) this.choose(found.person);
    });
    on(this.canvas, "pointermove", (event) => {
      const before = touches.get(event.pointerId);
      this.pointer = before ? null : [event.offsetX, event.offsetY];
      if (!before) return this.sayJoint();
      const now = [event.clientX, event.clientY];
      const other = [...touches].find(([id]) => id !== event.pointerId)?.[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      if (other) this.scene.magnify(apart(now) / Math.max(1, apart(before)));
      else if (event.shiftKey || event.buttons & 6) this.scene.pan(now[0] - before[0], now[1] - before[1]);
      else this.scene.turn((now[0] - before[0]) * 0.008, (now[1] - before[1]) * 0.008);
      touches.set(event.pointerId, now);
      this.wake(true);
    });
    for (const type of ["pointerup", "pointercancel"]) on(this.canvas, type, (event) => touches.delete(event.pointerId));
    on(this.canvas, "pointerleave", () => {
      this.pointer = null;
      this.sayJoint();
    });
    on(this.canvas, "wheel", (event) => {
      event.preventDefault();
      this.scene.magnify(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
      this.wake(true);
    }, { passive: false });
    on(this.canvas, "dblclick", () => this.look("home"));
    const seekTo = (event) => {
      const x = event.clientX - this.plotCanvas.getBoundingClientRect().left;
      this.seek(frameAt(this.data.times, this.plot.timeAt(x, this.frame)));
    };
    on(this.plotCanvas, "pointerdown", (event) => {
      this.plotCanvas.setPointerCapture(event.pointerId);
      seekTo(event);
    });
    on(this.plotCanvas, "pointermove", (event) => event.buttons & 1 && !this.plot.span && seekTo(event));
    on(keys, "keydown", (event) => this.press(event));
    on(matchMedia("(prefers-color-scheme: dark)"), "change", (event) => this.setTheme(event.matches));
    on(window, "message", ({ source, data }) => source === window.parent && source !== window && this.hear(data));
    this.watcher = new ResizeObserver(() => this.resize());
    for (const seen of [this.stage, this.plotCanvas, this.lanes]) this.watcher.observe(seen);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target;
    if (on.tagName === "SELECT" || (event.key === " " && on.matches?.("button, input[type=checkbox]"))) return;
    const far = event.shiftKey ? Math.max(1, Math.round(1 / usualStep(this.data.times))) : 1;
    const actions = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(-far),
      ArrowRight: () => this.step(far),
      Home: () => this.seek(0),
      End: () => this.seek(this.data.num_frames - 1),
      "+": () => this.scene.magnify(1.15),
      "-": () => this.scene.magnify(1 / 1.15),
      "[": () => this.scene.turn(0.1, 0),
      "]": () => this.scene.turn(-0.1, 0),
      0: () => this.look("home"),
      1: () => this.look("front"),
      2: () => this.look("side"),
      3: () => this.look("top"),
      4: () => this.look("camera"),
      p: () => this.setByPerson(!this.scene.byPerson),
      l: () => this.setLoop(!this.clock.loop),
      s: () => this.snapshot(),
      f: () => this.toggleFullScreen(),
      "?": () => this.toggleHelp(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
    this.wake(true);
  }

  // A message of the page around: of its video (follow.js), or {posemamba: "theme", dark}.
  hear(message) {
    if (message?.posemamba === "theme") this.setTheme(message.dark === true);
    if (message?.posemamba !== "state") return;
    if (!this.host) this.attach((this.host = new VideoClock(this.data.times, () => this.wake(), tellHost)));
    this.host.hear(message);
  }

  // Moves with a video of this page from now on.
  follow(video) {
    this.followed?.stop();
    const clock = new VideoClock(this.data.times, () => this.wake(), (message) => this.followed.obey(message));
    this.followed = followVideo(() => video, (state) => clock.hear(state));
    this.attach(clock);
    this.followed.report();
  }

  attach(clock) {
    this.clock.detach();
    this.clock = clock;
    this.setLoop(false);
    this.wake(true);
  }

  play() { this.clock.play(); }
  pause() { this.clock.pause(); }

  toggle() {
    if (this.clock.playing) this.pause();
    else this.play();
  }

  seek(frame) {
    if (this.data.num_frames) this.clock.seek(Math.max(0, Math.min(this.data.num_frames - 1, frame)));
  }

  step(frames) {
    this.pause();
    this.seek(this.frame + frames);
  }

  look(name) {
    this.scene.look(name);
    this.wake(true);
  }

  setFollow(follows) {
    this.followBox.checked = this.scene.follows = follows;
    this.wake(true);
  }

  setShown(person, shown) {
    if (shown) this.scene.shown.add(person);
    else this.scene.shown.delete(person);
    this.chips.all.find((chip) => chip.person === person).setAttribute("aria-pressed", String(shown));
    this.plot.changed();
    this.drawLanes();
    this.wake(true);
  }

  setTheme(dark) {
    this.root.dataset.theme = dark ? "dark" : "light";
    document.documentElement.dataset.theme = this.root.dataset.theme;
    this.scene.colors = THEMES[this.root.dataset.theme];
    for (const { person, dot } of this.chips.all) dot.style.background = css(this.scene.personColor(person));
    this.plot.changed();
    this.drawLanes();
    this.wake(true);
  }

  // Drawing: only when something changed.

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.scene.resize(this.stage.clientWidth, this.stage.clientHeight, ratio);
    if (this.plotCanvas.clientWidth) this.plot.resize(this.plotCanvas.clientWidth, this.plotCanvas.clientHeight, ratio);
    this.drawLanes();
    this.draw();
  }

  drawLanes() {
    if (this.lanes.clientWidth) drawTimeline(this.lanes, this.scene, INSET);
  }

  wake(changed = false) {
    if (changed) this.drawn = null;
    this.request ??= requestAnimationFrame(() => {
      this.request = null;
      const frame = frameAt(this.data.times, this.clock.time);
      if (frame !== this.drawn || this.drawnPlaying !== this.clock.playing) {
        this.frame = Math.max(0, frame);
        this.draw();
      }
      this.speedPick.value = String(this.clock.rate);
      if (this.clock.playing) this.wake();
    });
  }

  draw() {
    if (!this.scene.width || !this.scene.colors) return;
    this.drawn = this.frame;
    this.drawnPlaying = this.clock.playing;
    this.scene.draw(this.frame);
    this.say();
    this.sayJoint();
    if (this.plot.width && !this.isEmpty) {
      this.plot.draw(this.frame, INSET);
      this.sayValues();
    }
  }

  say() {
    const { data, frame, clock } = this;
    const time = data.times[frame] ?? 0, end = data.times[data.times.length - 1] ?? 0;
    const shot = data.shots.findLastIndex((each) => each.start <= frame);
    const which = data.shots.length > 1 ? `, shot ${shot + 1} of ${data.shots.length}` : "";
    this.readout.firstChild.textContent = `${time.toFixed(3)} s`;
    this.readout.lastChild.textContent = `frame ${frame} / ${Math.max(0, data.num_frames - 1)}${which}`;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `frame ${frame}, ${time.toFixed(3)} of ${end.toFixed(3)} seconds`);
    this.playButton.classList.toggle("pm-playing", clock.playing);
    this.playButton.setAttribute("aria-label", clock.playing ? "Pause (space)" : "Play (space)");
    const note = this.noteFor(data.shots[shot]);
    if (this.note.textContent !== note) this.note.textContent = note;
    for (const chip of this.chips.all) chip.classList.toggle("pm-absent", rowOf(chip.person, frame) < 0);
  }

  // The joint under the mouse: its name and place.
  sayJoint() {
    const found = this.pointer && this.scene.pick(...this.pointer, this.frame);
    this.tip.hidden = !found;
    if (!found) return;
    const { person, row, joint, at } = found, i = row * this.data.numJoints + joint;
    const place = [0, 1, 2].map((axis) => `${"xyz"[axis]} ${person.world[3 * i + axis].toFixed(2)}`).join("  ");
    const unit = this.data.unit === "m" ? " m" : "";
    const name = this.data.joint_names[joint].replace("_", " ");
    this.tip.textContent = `${name}\n${place}${unit}\nconfidence ${(person.scores[i] / PER_SCORE).toFixed(2)}`;
    this.tip.style.left = `${Math.min(at[0] + 14, this.scene.width - this.tip.offsetWidth - 6)}px`;
    this.tip.style.top = `${Math.min(at[1] + 10, this.scene.height - this.tip.offsetHeight - 6)}px`;
  }

  noteFor(shot) {
    if (this.isEmpty) return "Nobody was found in this clip.";
    if (!this.data.people.some((person) => rowOf(person, this.frame) >= 0)) return "Nobody in this frame";
    if (this.data.unit !== "m") return "No meters: size and place are not known";
    return shot?.is_camera_moving ? "The camera moves: places are relative to it" : "";
  }

  sayValues() {
    const { kind } = this.plot.choice, digits = { angle: 1, height: 3, score: 2 }[kind];
    const many = !this.plot.person;
    const entries = this.plot.values(this.frame).slice(0, 8);
    while (this.legend.children.length > entries.length) this.legend.lastChild.remove();
    entries.forEach(({ person, side, value, color }, i) => {
      if (!this.legend.children[i]) {
        const dot = element("span", { className: "pm-dot" });
        this.legend.append(Object.assign(element("span", { className: "pm-value" }, dot, document.createTextNode("")), { dot }));
      }
      const name = [many ? person.id : "", side === "middle" ? "" : side].filter((part) => part !== "").join(" ");
      const entry = this.legend.children[i];
      entry.dot.style.background = css(color, many && side === "right" ? 0.55 : 1);
      entry.lastChild.data = `${name} ${isNaN(value) ? "unseen" : `${value.toFixed(digits)}${unitOf(this.data, kind)}`}`;
    });
  }

  destroy() {
    this.clock.detach();
    this.followed?.stop();
    this.stops.abort();
    this.watcher.disconnect();
    cancelAnimationFrame(this.request);
    this.root.remove();
  }
}
