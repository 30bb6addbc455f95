// What the page is made of: its colors in the light and in the dark, element(tag, properties, ...children), buttons, menus.

const deeper = (color) => color.map((channel) => 0.94 * (channel - 0.5 * Math.min(...color))); // of a pastel
const THEMES = {
  dark: {
    sky: [17, 20, 29], ground: [40, 46, 61], grid: [134, 154, 190], shadow: [8, 9, 13], shadowOpacity: 0.4,
    outline: [14, 16, 22], page: [20, 23, 31], text: [226, 230, 239], tagText: [14, 16, 22], middle: null,
    person: (color) => color, line: (color) => color,
  },
  light: {
    sky: [250, 251, 253], ground: [225, 229, 237], grid: [140, 150, 170], shadow: [60, 68, 90], shadowOpacity: 0.16,
    outline: [60, 68, 86], page: [255, 255, 255], text: [28, 33, 45], tagText: [255, 255, 255], middle: [128, 138, 158],
    person: deeper, line: (color) => color.map((channel) => 0.86 * channel),
  },
};

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { aria = {}, ...rest } = properties;
  Object.assign(made, rest);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(name === "role" ? name : `aria-${name}`, value);
  made.append(...children); // strings become text, never markup
  return made;
}

function button(label, text, click, more = {}) {
  return element("button", { type: "button", title: label, textContent: text, onclick: click, aria: { label }, ...more });
}

function select(label, options, change) {
  const made = element("select", { title: label, aria: { label }, onchange: () => change(made.value) });
  made.append(...options);
  return made;
}

function option(value, text = String(value)) {
  return element("option", { value, textContent: text });
}
