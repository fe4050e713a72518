// S_T, the noise from which Algorithm 2 starts: the numbers of diffsal/prediction/noise.py.

const N = 624;
const M = 397;
const BLOCK = 16; // values drawn together: eight radii and eight angles
const SEED_STRIDE = 1_000_003;

/** `count` outputs of the Mersenne Twister MT19937, seeded with 32 bits. */
export function mersenneTwister(seed: number, count: number): Uint32Array {
  const state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++) {
    const before = state[i - 1] ^ (state[i - 1] >>> 30);
    state[i] = Math.imul(1812433253, before) + i;
  }
  const outputs = new Uint32Array(count);
  let next = N;
  for (let n = 0; n < count; n++) {
    if (next === N) {
      for (let k = 0; k < N; k++) {
        const y = (state[k] & 0x80000000) | (state[(k + 1) % N] & 0x7fffffff);
        state[k] = state[(k + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    outputs[n] = y ^ (y >>> 18);
  }
  return outputs;
}

/** `size` numbers from N(0, 1) for frame `index`, as the Python engine draws them; `size` is a multiple of 16. */
export function frameNoise(size: number, seed: number, index: number): Float32Array {
  const outputs = mersenneTwister((seed * SEED_STRIDE + index) % 2 ** 32, size);
  const noise = new Float32Array(size);
  for (let block = 0; block < size; block += BLOCK) {
    for (let i = 0; i < BLOCK / 2; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - (outputs[block + i] & 0xffffff) / 2 ** 24));
      const angle = (2 * Math.PI * (outputs[block + BLOCK / 2 + i] & 0xffffff)) / 2 ** 24;
      noise[block + i] = radius * Math.cos(angle);
      noise[block + BLOCK / 2 + i] = radius * Math.sin(angle);
    }
  }
  return noise;
}
