// Recognises speech with the model that lies beside this page; page.json says which it is.
import { env, pipeline } from "@huggingface/transformers";

const element = (name) => document.querySelector(name);
const about = await (await fetch("page.json")).json();
const library = (file) => new URL(`lib/${file}`, location.href).href;

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "models/"; // with an address here, the runtime would look for nothing but the graph
env.useBrowserCache = false;
env.useWasmCache = false;
env.backends.onnx.wasm.wasmPaths = {
  mjs: library("ort-wasm-simd-threaded.mjs"),
  wasm: library("ort-wasm-simd-threaded.wasm"),
};

/** The samples of an encoded recording at the model's rate, all channels as one. */
async function decoded(bytes) {
  const audio = await new OfflineAudioContext(1, 1, about.sampling_rate).decodeAudioData(bytes);
  const channels = Array.from({ length: audio.numberOfChannels }, (_, number) => audio.getChannelData(number));
  return channels[0].map((_, place) => channels.reduce((sum, channel) => sum + channel[place], 0) / channels.length);
}

/** Writes down a recording, and how long that took. */
async function show(bytes) {
  const samples = await decoded(bytes);
  const started = performance.now();
  const { text } = await recognise(samples);
  const [took, seconds] = [(performance.now() - started) / 1000, samples.length / about.sampling_rate];
  element("output").textContent = text || "(nothing)";
  element("#took").textContent = `${seconds.toFixed(1)} s of speech in ${took.toFixed(2)} s`;
}

/** Whatever goes wrong is said on the page. */
const told = (action) => async (event) => {
  try {
    await action(event);
  } catch (error) {
    element("output").textContent = String(error);
  }
};

let recorder = null;

/** Begins to record, or ends it and writes down what was said. */
async function record() {
  if (recorder) {
    recorder.stop();
    return;
  }
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = told(async () => {
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    element("#record").textContent = "Record";
    await show(await new Blob(parts).arrayBuffer());
  });
  recorder.start();
  element("#record").textContent = "Stop";
}

const recognise = await pipeline("automatic-speech-recognition", about.name, { dtype: about.dtype }).catch((error) => {
  element("#about").textContent = `The model cannot be loaded: ${error}`;
  throw error;
});
element("#about").textContent = `${about.name}, ${about.precision}, ${(about.bytes / 2 ** 20).toFixed(2)} MiB`;
element("#record").onclick = told(record);
element("#file").onchange = told(async (event) => show(await event.target.files[0].arrayBuffer()));
for (const name of about.examples) {
  const button = document.createElement("button");
  button.textContent = name;
  button.onclick = told(async () => show(await (await fetch(`examples/${name}`)).arrayBuffer()));
  element("#examples").append(button);
}
element("#record").disabled = element("#file").disabled = false;
