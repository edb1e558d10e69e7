// kernel_cases.mjs - the cases of test_kernel.mjs, for node and for a browser alike: every kernel of the browser against
// plain C, both in the same module (kernel_bits.c).
export const types = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2_K: 10, Q3_K: 11, Q4_K: 12,
  Q5_K: 13, Q6_K: 14, IQ4_NL: 20, IQ4_XS: 23, BF16: 30 };
const columns = (name, i) =>
  ['F32', 'F16', 'BF16'].includes(name) ? 1 + 13 * i : name.endsWith('K') || name === 'IQ4_XS' ? 256 << i % 2 : 32 + 64 * (i % 7);

const importsOf = (module) => ({ env: { now: () => performance.now(),
  ...WebAssembly.Module.imports(module).some((i) => i.name === 'memory')
    && { memory: new WebAssembly.Memory({ initial: 32, maximum: 65536, shared: true }) } } });

// Sentences of what differs.
export function wrongs(module, seed) {
  const x = new WebAssembly.Instance(module, importsOf(module)).exports, found = [];
  const must = (value, what) => { if (value !== 0) found.push(`${what} seed ${seed}: ${value}`); };
  for (const [name, type] of Object.entries(types)) {
    for (const [i, count] of [1, 2, 3, 4, 5, 6, 7, 8, 11, 17].entries())
      for (const rows of [1, 16, 37])
        for (const hostile of [0, 1]) {
          const cols = columns(name, i);
          must(x.check_matmul(type, rows, cols, count, -1, hostile, seed + i), `${name} ${rows}x${cols} x${count} ${hostile}`);
        }
    for (const fill of [0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0])   // weights at the ends of their ranges
      for (const count of [1, 5]) must(x.check_matmul(type, 16, 256, count, fill, 0, seed), `${name} filled ${fill} x${count}`);
  }
  for (const cols of [8192 + 256, 8192 + 512])                // wider than what is made ready at once
    for (const count of [1, 3, 4]) must(x.check_matmul(types.Q4_0, 19, cols, count, -1, 0, seed), `Q4_0 ${cols} x${count}`);
  for (let i = 0; i < 60; i++) must(x.check_quantize(32 * (1 + i % 9), 1 + i % 18, seed + i), `quantize ${i}`);
  for (let slot = 0; slot < 13; slot++)
    for (let i = 0; i < 60; i++) must(x.check_slot(slot, 1 + i * 7 % 401, i % 5 === 4 ? 1 : 0, seed + i), `slot ${slot} ${i}`);
  for (const type of [0, 1, 8, 25 /* i16 */])                 // attention, by type of the cache
    for (const dims of [32, 64, 96, ...type < 2 ? [7, 16, 40] : []])
      for (let count = 1; count <= 9; count++) must(x.check_attend(type, count, dims, seed + count), `attend ${type} ${dims} x${count}`);
  return found;
}
