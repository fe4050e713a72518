// Graphs that the package carries beside the network, by ONNX Runtime Web on the processor.

export interface Values {
  data: Float32Array;
  dims: number[];
}

export interface Graph {
  /** The shape of each input; a length that is free is no number. */
  shapes: Record<string, (number | string)[]>;
  /** The outputs of the names `wanted`. */
  run(given: Record<string, Values>, wanted: string[]): Promise<Record<string, Float32Array>>;
  release(): Promise<void>;
}

/** The graph of a name; opened when it is first asked for. */
export type Graphs = (name: string) => Promise<Graph>;

export async function openGraph(ort: any, bytes: Uint8Array): Promise<Graph> {
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return {
    shapes: Object.fromEntries(session.inputMetadata.map((input: any) => [input.name, input.shape])),
    run: async (given, wanted) => {
      const feeds = Object.entries(given).map(([name, { data, dims }]) => [name, new ort.Tensor("float32", data, dims)]);
      const found = await session.run(Object.fromEntries(feeds), wanted);
      return Object.fromEntries(wanted.map((name) => [name, found[name].data]));
    },
    release: () => session.release(),
  };
}
