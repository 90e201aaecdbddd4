// A definition in YAML as people write it. The server sends JSON; both mean the same, and the server checks what comes back.

// What may stand without quotes and is nothing but text.
const PLAIN = /^[A-Za-z_/][A-Za-z0-9_./-]*$/;
const WORDS = /^(y|yes|n|no|on|off|true|false|null|nan|inf)$/i;

function scalar(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  return PLAIN.test(value) && !WORDS.test(value) ? value : JSON.stringify(value);
}

// Text of several lines that a block can hold as it is.
function isBlock(value) {
  return typeof value === "string" && /^[^\s]/.test(value) && value.endsWith("\n") && !value.endsWith("\n\n")
    && !/[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/.test(value) && value.isWellFormed();
}

export function yaml(value, indent = "") {
  if (Array.isArray(value)) {
    return value.map((item) => {
      if (item === null || typeof item !== "object" || Object.keys(item).length === 0) return `${indent}- ${scalar(item)}\n`;
      // The first field stands behind the dash.
      return `${indent}- ${yaml(item, `${indent}  `).slice(indent.length + 2)}`;
    }).join("");
  }
  return Object.entries(value).map(([name, field]) => {
    const key = `${indent}${scalar(name)}:`;
    if (isBlock(field)) {
      const lines = field.slice(0, -1).split("\n").map((line) => (line ? `${indent}  ${line}` : ""));
      return `${key} |\n${lines.join("\n")}\n`;
    }
    if (field === null || typeof field !== "object") return `${key} ${scalar(field)}\n`;
    if (Object.keys(field).length === 0) return `${key} ${Array.isArray(field) ? "[]" : "{}"}\n`;
    if (Array.isArray(field) && field.every((item) => typeof item !== "object")) return `${key} [${field.map((item) => JSON.stringify(item)).join(", ")}]\n`;
    return `${key}\n${yaml(field, `${indent}  `)}`;
  }).join("");
}

export const EXAMPLE = `name: hello
script: |
  #!/bin/sh
  echo "Hello from $OSCAR_SERVICE_NAME"
  wc -c < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/size.txt"
memory: 256Mi
timeout: 1m
input:
  - path: hello/in
output:
  - path: hello/out
annotations:
  rgpu.io/sample: "data:,Some%20text%20to%20try%20it%20with"
  rgpu.io/sample-name: sample.txt
`;
