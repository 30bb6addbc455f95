// The page's numbers: base64 to typed arrays, places in the world, curves over time. As app/viewer/payload.py wrote them.

const OBSERVED = 1, VALID = 2;
const PER_METER = 10000, PER_SCORE = 1000;

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

// Returns contents with typed arrays in place of base64, and for every person `world`, Float32Array (count * 17 * 3),
// NaN for unseen joints.
function decode(contents) {
  const data = { ...contents, times: new Float64Array(bytesOf(contents.times)) };
  data.numJoints = data.joint_names.length;
  data.sides = data.joint_names.map((name) => name.match(/^(left|right)_/)?.[1] ?? "middle");
  data.people = contents.people.map((person) => {
    const decoded = {
      ...person,
      stop: person.start + person.count,
      joints: new Int16Array(bytesOf(person.joints)),
      root: person.root === null ? null : new Int32Array(bytesOf(person.root)),
      scores: new Uint16Array(bytesOf(person.scores)),
      flags: new Uint8Array(bytesOf(person.flags)),
    };
    const unseen = new Uint8Array(bytesOf(person.unseen));
    decoded.world = worldOf(decoded, data.shots[person.shot].to_world, data.numJoints);
    unseen.forEach((flag, joint) => flag && decoded.world.fill(NaN, 3 * joint, 3 * joint + 3));
    return decoded;
  });
  return data;
}

function worldOf(person, turn, numJoints) {
  const { joints, root, offset, joint_steps: steps } = person;
  const world = new Float32Array(joints.length);
  const at = new Float64Array(3);
  for (let i = 0; i < joints.length; i += 3) {
    const r = 3 * Math.floor(i / (3 * numJoints));
    for (let axis = 0; axis < 3; axis++) at[axis] = joints[i + axis] / steps + (root ? root[r + axis] / PER_METER : 0);
    for (let row = 0; row < 3; row++) {
      const t = 3 * row;
      world[i + row] = turn[t] * at[0] + turn[t + 1] * at[1] + turn[t + 2] * at[2] + offset[row];
    }
  }
  return world;
}

// Index of a video frame in a person's arrays, -1 where the person is not there to be trusted.
function rowOf(person, frame) {
  const row = frame - person.start;
  return row >= 0 && row < person.count && person.flags[row] & VALID ? row : -1;
}

// The frame on screen at a time: the last that has begun, forgiving the rounding of players.
function frameAt(times, time) {
  const n = times.length;
  let low = 0, high = n - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const step = times[middle] - times[middle - 1];
    if (times[middle] <= time + Math.min(0.001, step / 4)) low = middle;
    else high = middle - 1;
  }
  return low;
}

// A time well inside a frame: players that round a little still show this one.
function insideFrame(times, frame) {
  const next = frame + 1 < times.length ? times[frame + 1] - times[frame] : usualStep(times);
  return times[frame] + Math.min(next, usualStep(times)) / 2;
}

function usualStep(times) {
  if (times.length < 2) return 0.04;
  if (!usualStep.known || usualStep.known.times !== times) {
    const steps = Float64Array.from({ length: times.length - 1 }, (_, i) => times[i + 1] - times[i]).sort();
    usualStep.known = { times, step: steps[steps.length >> 1] };
  }
  return usualStep.known.step;
}

// Angles lie between two bones, each from a joint to a joint; 0 where one continues the other, in degrees, without sign.
const ANGLES = {
  knee: ["hip", "knee", "knee", "ankle"],
  elbow: ["shoulder", "elbow", "elbow", "wrist"],
  hip: ["thorax", "pelvis", "hip", "knee"],
};
const CURVES = {
  angle: { label: "Angle", title: "flexion", unit: "\u00b0" },
  height: { label: "Height", title: "height", unit: "m" },
  score: { label: "Confidence", title: "confidence", unit: "" },
};

// The curves that can be chosen: {key, kind, name, title}, `name` a joint without its side, or "all".
function curveChoices(data) {
  const names = [...new Set(data.joint_names.map((name) => name.replace(/^(left|right)_/, "")))];
  const order = ["head", "nose", "thorax", "spine", "pelvis", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"];
  names.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const choice = (kind, name) => ({ key: `${kind}:${name}`, kind, name, title: capital(`${name} ${CURVES[kind].title}`) });
  return [
    ...Object.keys(ANGLES).map((name) => choice("angle", name)),
    ...names.map((name) => choice("height", name)),
    { ...choice("score", "all"), title: "Mean confidence" },
    ...names.map((name) => choice("score", name)),
  ];
}

// The lines of a choice for one person: [{side, values}], values Float32Array (count), NaN where not valid.
function linesOf(data, person, { kind, name }) {
  const hasSides = data.joint_names.includes(`left_${name}`);
  const sides = hasSides ? ["left", "right"] : ["middle"];
  return sides.map((side) => {
    const joint = (part) => data.joint_names.indexOf(data.joint_names.includes(part) ? part : `${side}_${part}`);
    const value =
      kind === "angle" ? angleReader(data, person, ANGLES[name].map(joint))
      : kind === "height" ? (row) => person.world[3 * (row * data.numJoints + joint(name)) + 1]
      : name === "all" ? (row) => meanScore(data, person, row)
      : (row) => person.scores[row * data.numJoints + joint(name)] / PER_SCORE;
    const values = Float32Array.from(person.flags, (flag, row) => (flag & VALID ? value(row) : NaN));
    return { side, values };
  });
}

function angleReader(data, person, [a, b, c, d]) {
  return (row) => {
    const at = (joint, axis) => person.world[3 * (row * data.numJoints + joint) + axis];
    let dot = 0, first = 0, second = 0;
    for (let axis = 0; axis < 3; axis++) {
      const u = at(b, axis) - at(a, axis), v = at(d, axis) - at(c, axis);
      dot += u * v;
      first += u * u;
      second += v * v;
    }
    return (Math.acos(Math.max(-1, Math.min(1, dot / Math.sqrt(first * second)))) * 180) / Math.PI;
  };
}

function meanScore(data, person, row) {
  let sum = 0;
  for (let j = 0; j < data.numJoints; j++) sum += person.scores[row * data.numJoints + j];
  return sum / data.numJoints / PER_SCORE;
}
