// Decoded planes → RGB, to the bit as FFmpeg's swscale on x86: BT.601 where the file does not say BT.709.

const BITS = 13; // of the factors behind the point

/** `planes` (Y, U, V of I420; Y and UV of NV12) with their layout into RGBA bytes (height, width, 4). */
export function convertYuv(
  planes: Uint8Array, layout: { offset: number; stride: number }[], interleaved: boolean, width: number, height: number,
  is709: boolean, isFullRange: boolean, rgba: Uint8ClampedArray,
): void {
  const [kr, kb] = is709 ? [0.2126, 0.0722] : [0.299, 0.114];
  const whole = (factor: number) => Math.round(factor * (1 << BITS));
  const chroma = isFullRange ? 1 : 255 / 224;
  const black = isFullRange ? 0 : 16;
  const luma = whole(isFullRange ? 1 : 255 / 219);
  const redOfV = whole(2 * (1 - kr) * chroma);
  const blueOfU = whole(2 * (1 - kb) * chroma);
  const greenOfV = whole((-2 * (1 - kr) * chroma * kr) / (1 - kr - kb));
  const greenOfU = whole((-2 * (1 - kb) * chroma * kb) / (1 - kr - kb));
  const [y0, u0, v0] = layout;
  const step = interleaved ? 2 : 1;
  for (let row = 0; row < height; row++) {
    const uRow = u0.offset + (row >> 1) * u0.stride;
    const vRow = interleaved ? uRow + 1 : v0.offset + (row >> 1) * v0.stride;
    for (let x = 0, to = row * width * 4, at = y0.offset + row * y0.stride; x < width; x++, to += 4, at++) {
      const y = ((planes[at] - black) * luma) >> BITS; // each product is cut off by itself
      const u = planes[uRow + (x >> 1) * step] - 128;
      const v = planes[vRow + (x >> 1) * step] - 128;
      rgba[to] = y + ((redOfV * v) >> BITS);
      rgba[to + 1] = y + ((greenOfU * u) >> BITS) + ((greenOfV * v) >> BITS);
      rgba[to + 2] = y + ((blueOfU * u) >> BITS);
    }
  }
}
