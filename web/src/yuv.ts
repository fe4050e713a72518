// Decoded planes → RGB, by the same equations as FFmpeg's: BT.601 where the file does not say BT.709.

/** `planes` (Y, U, V of I420; Y and UV of NV12) with their layout into RGBA bytes (height, width, 4). */
export function convertYuv(
  planes: Uint8Array, layout: { offset: number; stride: number }[], interleaved: boolean, width: number, height: number,
  is709: boolean, isFullRange: boolean, rgba: Uint8Array,
): void {
  const [kr, kb] = is709 ? [0.2126, 0.0722] : [0.299, 0.114];
  const luma = isFullRange ? 1 : 255 / 219;
  const chroma = isFullRange ? 1 : 255 / 224;
  const black = isFullRange ? 0 : 16;
  const redOfV = 2 * (1 - kr) * chroma;
  const blueOfU = 2 * (1 - kb) * chroma;
  const greenOfV = (redOfV * kr) / (1 - kr - kb);
  const greenOfU = (blueOfU * kb) / (1 - kr - kb);
  const [y0, u0, v0] = layout;
  const step = interleaved ? 2 : 1;
  for (let row = 0; row < height; row++) {
    const uRow = u0.offset + (row >> 1) * u0.stride;
    const vRow = interleaved ? uRow + 1 : v0.offset + (row >> 1) * v0.stride;
    for (let x = 0, to = row * width * 4, at = y0.offset + row * y0.stride; x < width; x++, to += 4, at++) {
      const y = (planes[at] - black) * luma;
      const u = planes[uRow + (x >> 1) * step] - 128;
      const v = planes[vRow + (x >> 1) * step] - 128;
      rgba[to] = Math.max(0, Math.min(255, Math.round(y + redOfV * v)));
      rgba[to + 1] = Math.max(0, Math.min(255, Math.round(y - greenOfU * u - greenOfV * v)));
      rgba[to + 2] = Math.max(0, Math.min(255, Math.round(y + blueOfU * u)));
    }
  }
}
