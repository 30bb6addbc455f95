// What a viewer can do beside playing and looking: loop, snapshot, full screen, colors by person, help. Part of Viewer.

const HELP = [
  ["space", "play, pause"], ["\u2190 \u2192", "a frame back, on"], ["shift \u2190 \u2192", "a second back, on"],
  ["Home End", "first, last frame"], ["drag, [ ]", "orbit"], ["shift + drag, right drag", "pan"],
  ["wheel, + -", "zoom"], ["double click, 0", "reset the view"], ["1 2 3 4", "front, side, top, camera"],
  ["click on somebody", "plot this person"], ["p", "color by person"], ["l", "loop"], ["s", "save a picture"],
  ["f", "full screen"], ["?", "this help"],
];

Object.assign(Viewer.prototype, {
  buildActions() {
    const isEmbedded = window.parent !== window; // where a page around forbids files and full screen
    const small = (label, text, click) => button(label, text, click, { className: "pm-small" });
    this.loopButton = small("Loop (l)", "Loop", () => this.setLoop(!this.clock.loop));
    this.personButton = small("Color by person (p)", "By person", () => this.setByPerson(!this.scene.byPerson));
    this.personButton.hidden = this.data.people.length < 2;
    for (const made of [this.loopButton, this.personButton]) made.setAttribute("aria-pressed", "false");
    const rest = isEmbedded ? [] : [
      small("Save a picture (s)", "Picture", () => this.snapshot()),
      small("Full screen (f)", "Full screen", () => this.toggleFullScreen()),
    ];
    this.help = element("dl", { className: "pm-help", hidden: true, aria: { label: "Keys" } },
      ...HELP.flatMap(([keys, what]) => [element("dt", { textContent: keys }), element("dd", { textContent: what })]));
    const help = small("Keys (?)", "?", () => this.toggleHelp());
    return element("div", { className: "pm-group pm-actions" }, this.loopButton, this.personButton, ...rest, help);
  },

  setLoop(loops) {
    this.clock.setLoop(loops);
    this.loopButton.setAttribute("aria-pressed", String(loops));
  },

  setByPerson(isOn) {
    this.scene.byPerson = isOn;
    this.personButton.setAttribute("aria-pressed", String(isOn));
    this.wake(true);
  },

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
  },

  toggleFullScreen() {
    const done = document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen?.();
    done?.catch(() => {}); // the browser may forbid it
  },

  snapshot() {
    this.canvas.toBlob((blob) => {
      const name = this.data.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N} _-]/gu, "_");
      const link = element("a", { href: URL.createObjectURL(blob), download: `${name}_${this.frame}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  },

  // The plot shows this person from now on, null for everybody.
  choose(person) {
    this.scene.chosen = person;
    this.personPick.value = person ? String(this.data.people.indexOf(person)) : "";
    this.plot.person = person;
    this.plot.changed();
    this.wake(true);
  },
});
