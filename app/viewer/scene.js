// The 3D view: floor, people, trails, seen by a camera that circles a point. World axes: x right, y up, z to the viewer.

const FIELD_OF_VIEW = (32 * Math.PI) / 180;
const VIEWS = {
  home: { yaw: 0.5, pitch: 0.26 },
  front: { yaw: 0, pitch: 0.06 },
  side: { yaw: Math.PI / 2, pitch: 0.06 },
  top: { yaw: 0, pitch: 1.53 },
  camera: { yaw: 0, pitch: 0.06 }, // turned to where the camera stood, see aim
};
const TRAILS = {
  none: [],
  pelvis: ["pelvis"],
  hands: ["left_wrist", "right_wrist"],
  feet: ["left_ankle", "right_ankle"],
  head: ["head"],
  "hands and feet": ["left_wrist", "right_wrist", "left_ankle", "right_ankle"],
};
const TRAIL_S = 1.5;
const FULL_SCORE = 0.5, FAINTEST = 0.15; // as in the overlay: solid from here on; never invisible
const UNOBSERVED = 0.4; // of the opacity
const FIT_SAMPLES = 240; // poses per person that a view is fitted to

class Scene {
  constructor(canvas, data) {
    this.canvas = canvas;
    this.data = data;
    this.shown = new Set(data.people);
    this.trail = "none";
    this.chosen = null;
    this.byPerson = false;
    this.follows = false;
    this.colors = null;
    this.fits = new Map();
    const { left, right, middle } = data.colors;
    this.sideColors = { left, right, middle };
    this.bones = data.bones.map(([a, b]) => {
      const sides = [data.sides[a], data.sides[b]].filter((side) => side !== "middle");
      return { a, b, side: new Set(sides).size === 1 ? sides[0] : "middle" };
    });
    this.head = data.joint_names.indexOf("head");
    this.body = Math.max(...data.people.map((person) => person.body), 0.1);
    this.cell = data.unit === "m" ? 1 : this.body / 2;
    this.look("home");
  }

  look(name) {
    this.preset = name;
    Object.assign(this, VIEWS[name], { zoom: 1, moved: [0, 0, 0], facesCamera: name === "camera" });
  }

  turn(dx, dy) {
    this.yaw -= dx;
    this.pitch = Math.max(-0.15, Math.min(1.55, this.pitch + dy));
  }

  // Moves the point that is looked at, by pixels.
  pan(dx, dy) {
    const { right, up } = this.axes, scale = this.distance / this.focal;
    for (let axis = 0; axis < 3; axis++) this.moved[axis] -= scale * (dx * right[axis] - dy * up[axis]);
  }

  magnify(factor) {
    this.zoom = Math.max(0.1, Math.min(8, this.zoom * factor));
  }

  resize(width, height, ratio) {
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    Object.assign(this, { width, height, ratio, axesAbove: width <= 640 ? 40 : 0 }); // there the tools are below
    this.fits.clear();
  }

  // Returns [{person, row}] of who is in a frame and not hidden.
  present(frame) {
    return this.data.people
      .filter((person) => this.shown.has(person))
      .map((person) => ({ person, row: rowOf(person, frame) }))
      .filter(({ row }) => row >= 0);
  }

  draw(frame) {
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.aim(frame);
    this.drawBackground(context);
    this.drawGrid(context);
    const present = this.present(frame);
    for (const { person, row } of present) this.drawShadow(context, person, row);
    for (const { person, row } of present) this.drawTrail(context, person, row);
    this.drawBodies(context, present);
    if (this.data.people.length > 1) for (const { person, row } of present) this.drawTag(context, person, row);
    this.drawAxes(context);
  }

  // Camera.

  aim(frame) {
    const shot = Math.max(0, this.data.shots.findLastIndex((each) => each.start <= frame));
    const fit = this.fit(shot);
    this.shot = shot;
    const center = this.follows ? this.centroid(frame) : null;
    const target = center ? [center[0], fit.target[1], center[1]] : fit.target;
    if (this.facesCamera) this.faceCamera(shot, target);
    this.target = target.map((place, axis) => place + this.moved[axis]);
    this.distance = fit.distance / this.zoom;
    this.axes = axesOf(this.yaw, this.pitch);
    this.focal = this.height / 2 / Math.tan(FIELD_OF_VIEW / 2);
  }

  // Looks from the side where the camera stood, above the origin of the world; from the front where nobody knows.
  faceCamera(shot, target) {
    this.facesCamera = false;
    const person = this.data.people.find((each) => each.shot === shot && each.root);
    if (!person) return;
    const [x, y, z] = [-target[0], person.offset[1] - target[1], -target[2]];
    Object.assign(this, { yaw: Math.atan2(x, z), pitch: Math.atan2(y, Math.hypot(x, z)) });
  }

  // Returns the point to look at in a shot and the distance from which nearly all of its poses are in view.
  fit(shot) {
    const key = `${shot} ${this.preset} ${this.follows}`;
    if (!this.fits.has(key)) {
      const points = this.samples(shot);
      const range = (axis, share) => quantile(points.map((point) => point[axis]), share);
      const middle = (axis) => (points.length ? (range(axis, 0.01) + range(axis, 0.99)) / 2 : 0);
      const target = this.follows ? [0, middle(1), 0] : [middle(0), middle(1), middle(2)];
      if (!points.length) target[1] = this.body / 2;
      const { right, up, back } = axesOf(VIEWS[this.preset].yaw, VIEWS[this.preset].pitch);
      const focal = this.height / 2 / Math.tan(FIELD_OF_VIEW / 2);
      const distances = points.map((point) => {
        const [x, y, z] = [0, 1, 2].map((axis) => point[axis] - target[axis]);
        const along = (v) => v[0] * x + v[1] * y + v[2] * z;
        const wide = Math.abs(along(right)) / (0.42 * this.width), high = Math.abs(along(up)) / (0.39 * this.height);
        return along(back) + focal * Math.max(wide, high);
      });
      this.fits.set(key, { target, distance: Math.max(2.2 * this.body, quantile(distances, 0.995) || 0) });
    }
    return this.fits.get(key);
  }

  samples(shot) {
    const points = [];
    const { numJoints } = this.data;
    for (const person of this.data.people.filter((each) => each.shot === shot)) {
      const step = Math.max(1, Math.ceil(person.count / FIT_SAMPLES));
      for (let row = 0; row < person.count; row += step) {
        if (!(person.flags[row] & VALID)) continue;
        const [x, z] = (this.follows && this.centroid(person.start + row)) || [0, 0];
        for (let j = 0; j < numJoints; j++) {
          const i = 3 * (row * numJoints + j);
          if (isNaN(person.world[i])) continue; // unseen
          points.push([person.world[i] - x, person.world[i + 1], person.world[i + 2] - z]);
        }
        const [middle, , depth] = this.middle(person, row);
        if (person.has_floor && !isNaN(middle)) points.push([middle - x, 0, depth - z]);
      }
    }
    return points;
  }

  // Returns [x, z] of the middle of who is shown around a frame, null if nobody is.
  centroid(frame) {
    const reach = Math.max(1, Math.round(0.4 / usualStep(this.data.times))), stride = Math.ceil(reach / 8);
    let x = 0, z = 0, count = 0;
    for (const person of this.shown) {
      for (let near = frame - reach; near <= frame + reach; near += stride) {
        const row = rowOf(person, near), [middle, , depth] = row < 0 ? [NaN] : this.middle(person, row);
        if (isNaN(middle)) continue;
        x += middle;
        z += depth;
        count++;
      }
    }
    return count ? [x / count, z / count] : null;
  }

  // Returns the place of the pelvis, or where that is unseen, of the thorax; NaN where both are.
  middle(person, row) {
    const places = ["pelvis", "thorax"].map((name) => {
      const i = 3 * (row * this.data.numJoints + this.data.joint_names.indexOf(name));
      return person.world.subarray(i, i + 3);
    });
    return isNaN(places[0][0]) ? places[1] : places[0];
  }

  // Returns [pixel x, pixel y, pixels per unit of length], null behind the camera and for NaN.
  project(x, y, z) {
    const { right, up, back } = this.axes, [tx, ty, tz] = this.target;
    const dx = x - tx, dy = y - ty, dz = z - tz;
    const depth = this.distance - (back[0] * dx + back[1] * dy + back[2] * dz);
    if (!(depth >= 0.05 * this.body)) return null;
    const scale = this.focal / depth;
    return [
      this.width / 2 + scale * (right[0] * dx + right[1] * dy + right[2] * dz),
      this.height / 2 - scale * (up[0] * dx + up[1] * dy + up[2] * dz),
      scale,
    ];
  }

  // Returns {person, row, joint, at: [x, y]} of the joint drawn at a pixel, null if there is none.
  pick(x, y, frame) {
    let best = null, least = 12;
    for (const { person, row } of this.present(frame)) {
      for (let joint = 0; joint < this.data.numJoints; joint++) {
        const at = this.projectJoint(person, row, joint);
        const far = at ? Math.hypot(at[0] - x, at[1] - y) : Infinity;
        if (far < least) [best, least] = [{ person, row, joint, at }, far];
      }
    }
    return best;
  }

  projectJoint(person, row, joint, height = null) {
    const i = 3 * (row * this.data.numJoints + joint);
    return this.project(person.world[i], height ?? person.world[i + 1], person.world[i + 2]);
  }

  // Drawing, from back to front.

  drawBackground(context) {
    const gradient = context.createLinearGradient(0, 0, 0, this.height);
    gradient.addColorStop(0, css(this.colors.sky));
    gradient.addColorStop(1, css(this.colors.ground));
    context.fillStyle = gradient;
    context.fillRect(0, 0, this.width, this.height);
  }

  // Whether anybody in the shot knows where the floor is.
  hasFloor() {
    const people = this.data.people.filter((person) => person.shot === this.shot);
    return !people.length || people.some((person) => person.has_floor);
  }

  drawGrid(context) {
    if (!this.hasFloor()) return;
    const { cell } = this, reach = Math.ceil(Math.min(24, Math.max(5, (1.1 * this.distance) / cell)));
    const [cx, cz] = [this.target[0], this.target[2]].map((c) => Math.round(c / cell));
    const levels = new Map();
    const add = (x0, z0, x1, z1) => {
      const far = Math.hypot((x0 + x1) / 2 - this.target[0], (z0 + z1) / 2 - this.target[2]) / (reach * cell);
      const level = Math.ceil(8 * (1 - far));
      if (level > 0) levels.set(level, [...(levels.get(level) ?? []), [x0, z0, x1, z1]]);
    };
    for (let i = -reach; i <= reach; i++) {
      for (let j = -reach; j < reach; j++) {
        add((cx + i) * cell, (cz + j) * cell, (cx + i) * cell, (cz + j + 1) * cell);
        add((cx + j) * cell, (cz + i) * cell, (cx + j + 1) * cell, (cz + i) * cell);
      }
    }
    context.lineWidth = 1;
    context.lineCap = "butt";
    for (const [level, lines] of levels) {
      context.strokeStyle = css(this.colors.grid, (0.6 * level) / 8);
      context.beginPath();
      for (const [x0, z0, x1, z1] of lines) {
        const a = this.project(x0, 0, z0), b = this.project(x1, 0, z1);
        if (!a || !b) continue;
        context.moveTo(a[0], a[1]);
        context.lineTo(b[0], b[1]);
      }
      context.stroke();
    }
  }

  drawTrail(context, person, row) {
    const { times, joint_names: names, sides } = this.data;
    const now = times[person.start + row];
    let first = row;
    while (first > 0 && person.flags[first - 1] & VALID && now - times[person.start + first - 1] <= TRAIL_S) first--;
    context.lineCap = "butt"; // round ends would overlap and show as beads
    for (const name of TRAILS[this.trail]) {
      const joint = names.indexOf(name), side = sides[joint];
      const color = side === "middle" ? this.personColor(person) : this.sideColor(side);
      let before = this.projectJoint(person, first, joint);
      for (let r = first + 1; r <= row; r++) {
        const point = this.projectJoint(person, r, joint);
        if (before && point) {
          const share = 1 - (now - times[person.start + r]) / TRAIL_S;
          context.strokeStyle = css(color, 0.08 + 0.72 * share * share);
          context.lineWidth = Math.max(1, (0.006 + 0.012 * share) * this.body * point[2]);
          context.beginPath();
          context.moveTo(before[0], before[1]);
          context.lineTo(point[0], point[1]);
          context.stroke();
        }
        before = point;
      }
    }
  }

  drawTag(context, person, row) {
    const head = this.projectJoint(person, row, this.head);
    if (!head) return;
    const text = String(person.id), y = head[1] - 0.045 * this.body * head[2] - 16;
    context.font = "600 12px system-ui, sans-serif";
    const width = context.measureText(text).width + 12;
    context.fillStyle = css(this.personColor(person));
    context.beginPath();
    context.roundRect(head[0] - width / 2, y - 9, width, 18, 9);
    context.fill();
    context.fillStyle = css(this.colors.tagText);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, head[0], y + 0.5);
  }

  drawAxes(context) {
    const [x, y, length] = [32, this.height - this.axesAbove - 36, 20];
    const { right, up } = this.axes;
    context.font = "600 10px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 1.5;
    context.strokeStyle = context.fillStyle = css(this.colors.text, 0.55);
    ["x", "y", "z"].forEach((name, axis) => {
      const dx = right[axis] * length, dy = -up[axis] * length;
      if (Math.hypot(dx, dy) < 5) return;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + dx, y + dy);
      context.stroke();
      context.fillText(name, x + 1.4 * dx, y + 1.4 * dy);
    });
    context.textAlign = "left";
    if (this.data.unit === "m" && this.hasFloor()) context.fillText("grid 1 m", x + 36, y);
  }

  // Colors, as [red, green, blue].

  sideColor(side) {
    return side === "middle" ? this.colors.middle ?? this.sideColors.middle : this.sideColors[side];
  }

  personColor(person) {
    const { people } = this.data.colors;
    return this.colors.person(people[person.id % people.length]);
  }

  mix(color, opacity) {
    return color.map((channel, i) => channel * opacity + this.colors.ground[i] * (1 - opacity));
  }
}

function axesOf(yaw, pitch) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  return { right: [cy, 0, -sy], up: [-sy * sp, cp, -cy * sp], back: [sy * cp, sp, cy * cp] };
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.round(share * (sorted.length - 1))];
}

function lighter(color) {
  return color.map((channel) => channel + 0.3 * (255 - channel));
}

function css(color, opacity = 1) {
  const [red, green, blue] = color.map(Math.round);
  return `rgba(${red}, ${green}, ${blue}, ${opacity})`;
}
