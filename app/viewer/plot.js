// Curves over time, and the timeline above them with who is seen when. Both share the axis of the frames' own times.

const PLOT_TOP = 8, PLOT_BOTTOM = 20;

class Plot {
  constructor(canvas, scene) {
    Object.assign(this, { canvas, scene, data: scene.data, span: null, person: null });
  }

  // Whose curves are drawn: one person's, or those of everybody who is shown.
  people() {
    return this.person ? [this.person] : this.data.people.filter((person) => this.scene.shown.has(person));
  }

  choose(choice) {
    this.choice = choice;
    this.curves = new Map(); // made when first shown: a long clip has many
  }

  linesFor(person) {
    if (!this.curves.has(person)) this.curves.set(person, linesOf(this.data, person, this.choice));
    return this.curves.get(person);
  }

  // Returns [from, to] in seconds: all of the clip, or `span` seconds around the current frame.
  window(frame) {
    const { times } = this.data;
    const end = Math.max(times[times.length - 1], 1e-3);
    if (!this.span || this.span >= end) return [0, end];
    const from = Math.max(0, Math.min(end - this.span, times[frame] - this.span / 2));
    return [from, from + this.span];
  }

  resize(width, height, ratio) {
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    Object.assign(this, { width, height, ratio });
    this.picture = null;
  }

  changed() {
    this.picture = null;
  }

  draw(frame, inset) {
    const [from, to] = this.window(frame);
    this.inset = inset;
    const key = `${from} ${to}`;
    if (!this.picture || this.key !== key) {
      this.picture ??= document.createElement("canvas");
      this.key = key;
      [this.picture.width, this.picture.height] = [this.canvas.width, this.canvas.height];
      this.drawCurves(this.picture.getContext("2d"), from, to);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.picture, 0, 0);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.drawCursor(context, frame, from, to);
  }

  xOf(time, from, to) {
    return this.inset + ((time - from) / (to - from)) * (this.width - 2 * this.inset);
  }

  timeAt(x, frame) {
    const [from, to] = this.window(frame);
    return from + ((x - this.inset) / (this.width - 2 * this.inset)) * (to - from);
  }

  drawCurves(context, from, to) {
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const people = this.people(), bottom = this.height - PLOT_BOTTOM;
    const [low, high] = this.range(people);
    this.yOf = (value) => bottom - ((value - low) / (high - low)) * (bottom - PLOT_TOP);
    const levels = ticks(low, high, Math.max(2, Math.floor(bottom / 26)));
    this.drawScales(context, from, to, levels);
    for (const person of people) {
      for (const { side, values } of this.linesFor(person)) {
        this.drawLine(context, person, side, values, from, to);
      }
    }
    this.drawLevels(context, levels);
  }

  range(people) {
    if (this.choice.kind === "score") return [0, 1.02];
    let low = Infinity, high = -Infinity;
    for (const person of people) {
      for (const { values } of this.linesFor(person)) {
        for (const value of values) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    }
    if (low > high) return [0, 1];
    const margin = Math.max(0.06 * (high - low), this.choice.kind === "angle" ? 2 : 0.02);
    return [low - margin, high + margin];
  }

  drawScales(context, from, to, levels) {
    const { colors } = this.scene, bottom = this.height - PLOT_BOTTOM;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    for (const value of levels) {
      const y = Math.round(this.yOf(value)) + 0.5;
      context.strokeStyle = css(colors.text, 0.12);
      context.beginPath();
      context.moveTo(this.inset, y);
      context.lineTo(this.width - this.inset, y);
      context.stroke();
    }
    context.textBaseline = "alphabetic";
    for (const value of ticks(from, to, Math.max(2, Math.floor(this.width / 90)))) {
      const x = this.xOf(value, from, to);
      context.textAlign = x < 24 ? "left" : x > this.width - 24 ? "right" : "center";
      context.fillStyle = css(colors.text, 0.6);
      context.fillText(to >= 60 ? clockTime(value) : `${trimmed(value)} s`, x, this.height - 5);
    }
    context.strokeStyle = css(colors.text, 0.35);
    context.setLineDash([2, 3]);
    for (const { start } of this.data.shots.slice(1)) {
      const x = this.xOf(this.data.times[start], from, to);
      context.beginPath();
      context.moveTo(x, PLOT_TOP);
      context.lineTo(x, bottom);
      if (x > this.inset && x < this.width - this.inset) context.stroke();
    }
    context.setLineDash([]);
  }

  // The scale's numbers stand on its lines and over the curves, so that both have all of the width.
  drawLevels(context, levels) {
    const { colors } = this.scene;
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.lineJoin = "round";
    context.lineWidth = 4;
    context.strokeStyle = css(colors.page, 0.85);
    context.fillStyle = css(colors.text, 0.65);
    for (const value of levels) {
      const y = Math.round(this.yOf(value));
      if (y < 14) continue;
      const text = `${trimmed(value)}${unitOf(this.data, this.choice.kind)}`;
      context.strokeText(text, this.inset, y - 1);
      context.fillText(text, this.inset, y - 1);
    }
  }

  lineColor(person, side) {
    if (!this.person || side === "middle") return this.scene.personColor(person);
    return this.scene.colors.line(this.scene.sideColors[side]);
  }

  drawLine(context, person, side, values, from, to) {
    const { times } = this.data;
    const first = Math.max(0, frameAt(times, from) - person.start - 1);
    const last = Math.min(person.count - 1, frameAt(times, to) - person.start + 1);
    const perPixel = Math.max(1, Math.floor((last - first) / (2 * this.width * this.ratio)));
    const solid = new Path2D(), pale = new Path2D();
    let before = null;
    for (let row = first; row <= last; row += perPixel) {
      const value = values[row];
      if (Number.isNaN(value)) {
        before = null;
        continue;
      }
      const point = [this.xOf(times[person.start + row], from, to), this.yOf(value)];
      const path = person.flags[row] & OBSERVED ? solid : pale;
      if (before) path.moveTo(before[0], before[1]);
      else path.moveTo(point[0] - 0.5, point[1]);
      path.lineTo(point[0], point[1]);
      before = point;
    }
    context.save();
    context.beginPath();
    context.rect(this.inset, 0, this.width - 2 * this.inset, this.height);
    context.clip();
    context.lineJoin = context.lineCap = "round";
    context.lineWidth = 1.75;
    const color = this.lineColor(person, side);
    if (!this.person && side === "right") context.globalAlpha = 0.55;
    context.strokeStyle = css(color);
    context.stroke(solid);
    context.globalAlpha *= 0.35;
    context.stroke(pale);
    context.restore();
  }

  drawCursor(context, frame, from, to) {
    const x = this.xOf(this.data.times[frame], from, to);
    const { colors } = this.scene;
    context.strokeStyle = css(colors.text, 0.8);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, this.height - PLOT_BOTTOM);
    context.stroke();
    for (const { side, value, color } of this.values(frame)) {
      context.fillStyle = css(color);
      context.globalAlpha = side === "right" && !this.person ? 0.7 : 1;
      context.beginPath();
      context.arc(x, this.yOf(value), 3.5, 0, 2 * Math.PI);
      context.fill();
      context.globalAlpha = 1;
    }
  }

  // Returns [{person, side, value, color}] of the lines at a frame, of who is there.
  values(frame) {
    return this.people().filter((person) => rowOf(person, frame) >= 0).flatMap((person) =>
      this.linesFor(person).map(({ side, values }) => ({
        person, side, value: values[rowOf(person, frame)], color: this.lineColor(person, side),
      })),
    );
  }
}

function unitOf(data, kind) {
  if (kind !== "height") return CURVES[kind].unit;
  return data.unit === "m" ? " m" : "";
}

// Who is seen when, in thin lanes; people who are never there together share one. Cuts are gaps in the strip.
function drawTimeline(canvas, scene, inset) {
  const { data } = scene;
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const end = Math.max(data.times[data.times.length - 1], 1e-3);
  const xOf = (frame) => inset + ((data.times[Math.min(frame, data.num_frames - 1)] ?? 0) / end) * (width - 2 * inset);
  context.fillStyle = css(scene.colors.text, 0.1);
  for (const { start, stop } of data.shots) {
    context.beginPath();
    context.roundRect(xOf(start) + (start ? 1 : 0), 4, Math.max(1, xOf(stop) - xOf(start) - (start ? 1 : 0)), height - 8, 4);
    context.fill();
  }
  const lanes = lanesOf(data.people);
  const tall = Math.max(2, Math.min(5, (height - 12) / Math.max(1, lanes.length) - 1));
  const top = (height - lanes.length * (tall + 1)) / 2;
  lanes.forEach((lane, number) => {
    for (const person of lane) {
      const color = scene.personColor(person), shown = scene.shown.has(person) ? 1 : 0.25;
      let row = 0;
      while (row < person.count) {
        let next = row + 1;
        while (next < person.count && person.flags[next] === person.flags[row]) next++;
        if (person.flags[row] & VALID) {
          context.fillStyle = css(color, shown * (person.flags[row] & OBSERVED ? 0.95 : 0.4));
          const x = xOf(person.start + row);
          context.fillRect(x, top + number * (tall + 1), Math.max(1, xOf(person.start + next) - x), tall);
        }
        row = next;
      }
    }
  });
}

function lanesOf(people) {
  const lanes = [];
  for (const person of [...people].sort((a, b) => a.start - b.start)) {
    const free = lanes.find((lane) => lane[lane.length - 1].stop <= person.start);
    if (free) free.push(person);
    else lanes.push([person]);
  }
  return lanes;
}

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) values.push(i * step);
  return values;
}

function trimmed(value) {
  return String(Number(value.toPrecision(6))).replace("-", "\u2212");
}

function clockTime(seconds) {
  const minutes = Math.floor(seconds / 60), rest = seconds - 60 * minutes;
  return `${minutes}:${rest < 10 ? "0" : ""}${trimmed(Number(rest.toFixed(2)))}`;
}
