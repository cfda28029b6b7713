// Hot loops that a JIT compiles, recompiles and throws away; regular expressions; JSON; WebAssembly; big integers; workers.
"use strict";
const { createHash } = require("crypto");
const { isMainThread, Worker, workerData, parentPort } = require("worker_threads");

function mix(n) {
  let h = 2166136261;
  for (let i = 0; i < n; i++) h = Math.imul(h ^ (i & 255), 16777619) + (h >>> 13);
  return h >>> 0;
}

if (!isMainThread) {
  parentPort.postMessage(mix(workerData));
  return;
}

const hash = (s) => createHash("sha256").update(s).digest("hex").slice(0, 16);

console.log("integers", mix(Number(process.argv[2] || 300000)));

function floats(n) {
  let s = 0;
  for (let i = 1; i < n; i++) s += Math.sin(i) / Math.sqrt(i) + Math.pow(i, 0.37) - Math.atan2(i, 3) + Math.exp(-i) + Math.log1p(i) + Math.cbrt(i);
  return s;
}
console.log("floats", floats(30000), 0.1 + 0.2, 1e21 / 3, 5e-324, -0 / 1, (25).toString(36), (0.1).toFixed(20), Math.hypot(1, 2, 3));

// The same function with other types each time: compiled code is thrown away.
function add(a, b) { return a + b; }
let poly = "";
for (const [a, b] of [[1, 2], [1.5, 2.5], ["a", "b"], [1n, 2n], [[1], [2]], [null, 1], [2 ** 31, 2 ** 31]]) {
  let last;
  for (let i = 0; i < 3000; i++) last = add(a, b);
  poly += `${last},`;
}
console.log("types", poly);

class Shape { constructor(n) { this.n = n; } area() { return this.n; } }
class Square extends Shape { area() { return this.n * this.n; } }
class Circle extends Shape { area() { return Math.PI * this.n ** 2; } }
let area = 0;
for (let i = 0; i < 20000; i++) area += [new Shape(i), new Square(i), new Circle(i)][i % 3].area();
console.log("classes", area);

const words = Array.from({ length: 5000 }, (_, i) => (i * 7919 % 65521).toString(36) + "-" + i);
const text = words.join(" ");
console.log("regex", text.match(/\b[a-z]+\d+[a-z]?-\d*7\b/g).length, hash(text.replace(/(\w)(\w+)-(\d+)/g, "$3:$2$1")),
  /^(a+)+$/.test("a".repeat(18) + "b"), "x😀y".replace(/\p{Emoji_Presentation}/u, "E"), "2024-05-06".replace(/(?<y>\d+)-(?<m>\d+)/, "$<m>/$<y>"));

const tree = (d) => (d ? { left: tree(d - 1), right: tree(d - 1), v: d * 1.1, s: "é\u2028\n" + d } : null);
const json = JSON.stringify(tree(10));
console.log("json", json.length, hash(json), hash(JSON.stringify(JSON.parse(json))));

words.sort((a, b) => (a < b ? -1 : 1));
const map = new Map(words.map((w, i) => [w, i]));
console.log("sort", hash(words.join()), [...map.values()].reduce((a, b) => (a * 31 + b) % 1000003, 7));

let big = 1n;
for (let i = 1n; i <= 400n; i++) big *= i;
console.log("bigint", hash(big.toString()), big % 1000000007n, (2n ** 521n - 1n) / 3n ** 50n % 10n ** 30n, BigInt.asIntN(64, -(2n ** 63n) - 1n));

const typed = new Float64Array(20000).map((_, i) => Math.fround(i * 1.1));
const bytes = new Uint8Array(typed.buffer);
const view = new DataView(typed.buffer);
let t = 0;
for (let i = 0; i < 20000; i++) t = (t * 31 + bytes[i * 8 + 6] + view.getInt16(i * 8 + 4, i & 1)) | 0;
console.log("typed", t, typed.subarray(100, 200).reduce((a, b) => a + b));

// sum(n) = 1 + ... + n in 64 bits, with a loop, a store and a load; fdiv(a, b) = sqrt(a / b).
const wasm = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0,
  1, 12, 2, 96, 1, 126, 1, 126, 96, 2, 124, 124, 1, 124,
  3, 3, 2, 0, 1,
  5, 3, 1, 0, 1,
  7, 14, 2, 3, 115, 117, 109, 0, 0, 4, 102, 100, 105, 118, 0, 1,
  10, 52, 2,
  41, 1, 1, 126, 3, 64, 32, 1, 32, 0, 124, 33, 1, 65, 8, 32, 1, 55, 3, 0, 32, 0, 66, 1, 125, 34, 0, 66, 0, 82, 13, 0, 11, 65, 8, 41, 3, 0, 15, 0, 11,
  8, 0, 32, 0, 32, 1, 163, 159, 11,
]);
try {
  const { sum, fdiv } = new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports;
  let s = 0n;
  for (let i = 1; i < 300; i++) s ^= sum(BigInt(i * 10)) * BigInt(i);
  console.log("wasm", s, sum(100000n), fdiv(10, 3));
} catch (e) {
  console.log("wasm", e.message);
}

let garbage = [];
let kept = 0;
for (let i = 0; i < 60000; i++) {
  garbage.push({ i, s: "x" + i, a: [i, i + 1] });
  if (garbage.length > 5000) {
    kept += garbage.filter((g) => g.i % 97 === 0).length;
    garbage = [];
  }
}
console.log("garbage", kept);

function* fibonacci() { let [a, b] = [0, 1]; for (;;) { yield a; [a, b] = [b, (a + b) % 1000007]; } }
let last = 0;
for (const f of fibonacci()) { if (f === 4181 || last > 5000) break; last++; }
let caught = 0;
for (let i = 0; i < 3000; i++) { try { if (i % 3) null.x; else throw new RangeError(String(i)); } catch (e) { caught += e instanceof TypeError ? 1 : 1000; } }
console.log("control", last, caught);
for (let i = 0; i < 30; i++) kept += new Function("a", `let s = a; for (let j = 0; j < 200; j++) s = (s * ${i + 3} + j) % 65521; return s;`)(i);
console.log("functions", kept);

(async () => {
  const results = await Promise.all([1, 2, 3].map((n) => new Promise((done, fail) => {
    const w = new Worker(__filename, { workerData: n * 20000 });
    w.on("message", done);
    w.on("error", fail);
  })));
  console.log("workers", results.join());
})();
