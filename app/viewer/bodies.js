// People as mannequins of tapered limbs, lit from above, and what holds them to the floor: shadows. Part of Scene.

// Radii at both ends of the bone that ends in a joint, in body heights; as the mannequin of pose.glb.
const RADII = {
  hip: [0.06, 0.052], knee: [0.05, 0.033], ankle: [0.031, 0.022], spine: [0.062, 0.062], thorax: [0.064, 0.05],
  nose: [0.03, 0.036], head: [0.047, 0.05], shoulder: [0.042, 0.034], elbow: [0.03, 0.024], wrist: [0.024, 0.017],
};
const FOOT = { radii: [0.023, 0.017], length: 0.085, sole: 0.017 };
const LEAST_SURE = 0.3; // of a score: below it a joint is a guess

Object.assign(Scene.prototype, {
  drawShadow(context, person, row) {
    const pelvis = person.has_floor && this.projectJoint(person, row, 0, 0);
    if (!pelvis) return;
    context.save();
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Math.max(1, 0.07 * this.body * pelvis[2]);
    context.strokeStyle = css(this.colors.shadow, this.colors.shadowOpacity);
    context.beginPath(); // one path: where limbs cross, the shadow is no darker
    for (const { a, b } of this.bones) {
      const from = this.projectJoint(person, row, a, 0), to = this.projectJoint(person, row, b, 0);
      if (!from || !to) continue;
      context.moveTo(from[0], from[1]);
      context.lineTo(to[0], to[1]);
    }
    context.stroke();
    for (const { ankle, toe } of this.feet(person, row)) this.drawContact(context, ankle, toe);
    context.restore();
  },

  // A dark spot under a foot, the darker and smaller the nearer the foot is to the floor.
  drawContact(context, ankle, toe) {
    const near = Math.max(0, 1 - Math.max(0, ankle[1] - 0.06 * this.body) / (0.12 * this.body));
    if (near === 0) return;
    const [x, z] = [(ankle[0] + toe[0]) / 2, (ankle[2] + toe[2]) / 2];
    context.fillStyle = css(this.colors.shadow, 0.4 * near * this.colors.shadowOpacity);
    for (const grown of [1.5, 1.2, 0.9]) {
      const reach = grown * this.body * (0.05 + 0.03 * (1 - near));
      const ring = Array.from({ length: 16 }, (_, i) => {
        const turn = (2 * Math.PI * i) / 16;
        return this.project(x + reach * Math.cos(turn), 0, z + reach * Math.sin(turn));
      });
      if (ring.includes(null)) continue;
      context.beginPath();
      for (const [px, py] of ring) context.lineTo(px, py);
      context.fill();
    }
  },

  // Returns [{ankle, toe, joint}] in the world: feet point where the hips face, and not through the floor.
  feet(person, row) {
    const at = (name) => {
      const joint = this.data.joint_names.indexOf(name), i = 3 * (row * this.data.numJoints + joint);
      return [person.world[i], person.world[i + 1], person.world[i + 2], joint];
    };
    const [left, right] = [at("left_hip"), at("right_hip")];
    const across = [left[0] - right[0], left[2] - right[2]], size = Math.hypot(...across) || 1;
    return ["left_ankle", "right_ankle"].map((name) => {
      const ankle = at(name), reach = (FOOT.length * this.body) / size;
      const drop = Math.min(Math.max(ankle[1] - FOOT.sole * this.body, 0), 0.05 * this.body);
      return { ankle, toe: [ankle[0] - reach * across[1], ankle[1] - drop, ankle[2] + reach * across[0]], joint: ankle[3] };
    });
  },

  drawBodies(context, present) {
    const parts = [];
    for (const { person, row } of present) {
      const points = this.data.sides.map((_, joint) => this.projectJoint(person, row, joint));
      const add = (from, to, [first, last], side, joints) => {
        if (!from || !to) return;
        const opacity = Math.min(...joints.map((joint) => this.opacity(person, row, joint)));
        const guessed = !(person.flags[row] & OBSERVED) || joints.some((joint) => this.isUnsure(person, row, joint));
        const sizes = [first * this.body * from[2], last * this.body * to[2]];
        const color = this.limbColor(person, side);
        parts.push({ near: (from[2] + to[2]) / 2, from, to, sizes, color, opacity, guessed, person });
      };
      for (const { a, b, side } of this.bones) {
        add(points[a], points[b], RADII[this.data.joint_names[b].replace(/^(left|right)_/, "")], side, [a, b]);
      }
      for (const { ankle, toe, joint } of this.feet(person, row)) {
        add(this.project(ankle[0], ankle[1], ankle[2]), this.project(...toe), FOOT.radii, this.data.sides[joint], [joint]);
      }
    }
    parts.sort((a, b) => a.near - b.near);
    for (const part of parts) this.drawLimb(context, part);
  },

  drawLimb(context, { from, to, sizes, color, opacity, guessed, person }) {
    const turn = Math.atan2(to[1] - from[1], to[0] - from[0]), width = Math.max(...sizes, 1);
    const apart = Math.max(Math.hypot(to[0] - from[0], to[1] - from[1]), 1e-6);
    const lean = Math.acos(Math.max(-1, Math.min(1, (sizes[0] - sizes[1]) / apart))); // where the sides touch the ends
    context.beginPath();
    context.arc(from[0], from[1], Math.max(sizes[0], 0.75), turn + lean, turn - lean + 2 * Math.PI);
    context.arc(to[0], to[1], Math.max(sizes[1], 0.75), turn - lean, turn + lean);
    context.closePath();
    const side = [-Math.sin(turn), Math.cos(turn)].map((part) => part * (Math.cos(turn) >= 0 ? 1 : -1)); // downwards
    const middle = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
    const light = context.createLinearGradient(
      middle[0] - side[0] * width, middle[1] - side[1] * width, middle[0] + side[0] * width, middle[1] + side[1] * width);
    const shades = [[0, lighter(color)], [0.4, color], [1, color.map((channel) => 0.62 * channel)]];
    for (const [stop, shade] of shades) light.addColorStop(stop, css(this.mix(shade, opacity)));
    context.fillStyle = light;
    context.fill();
    context.lineWidth = person === this.chosen ? 1.75 : 1;
    context.strokeStyle = css(person === this.chosen && this.data.people.length > 1
      ? this.personColor(person) : this.mix(this.colors.outline, opacity));
    if (guessed) {
      context.setLineDash([4, 3]);
      context.strokeStyle = css(color);
    }
    context.stroke();
    context.setLineDash([]);
  },

  limbColor(person, side) {
    if (!this.byPerson) return this.sideColor(side);
    const shade = { left: 1, middle: 0.92, right: 0.76 }[side];
    return this.personColor(person).map((channel) => shade * channel);
  },

  isUnsure(person, row, joint) {
    return person.scores[row * this.data.numJoints + joint] / PER_SCORE < LEAST_SURE;
  },

  opacity(person, row, joint) {
    const score = person.scores[row * this.data.numJoints + joint] / PER_SCORE / FULL_SCORE;
    return Math.max(FAINTEST, Math.min(1, score) * (person.flags[row] & OBSERVED ? 1 : UNOBSERVED));
  },
});
