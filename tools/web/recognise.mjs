// Recognises speech with an export for transformers.js: node recognise.mjs MODELS NAME DTYPE FILE...
// MODELS holds the export as a folder NAME; each FILE is float32 samples at the model's rate. Prints a list of texts.
import { readFile } from "node:fs/promises";
import { env, pipeline } from "@huggingface/transformers";

const [models, name, dtype, ...files] = process.argv.slice(2);
env.localModelPath = models;
env.allowRemoteModels = false;
const recognise = await pipeline("automatic-speech-recognition", name, { dtype });
const texts = [];
for (const file of files) {
  const bytes = new Uint8Array(await readFile(file));
  texts.push((await recognise(new Float32Array(bytes.buffer))).text);
}
console.log(JSON.stringify(texts));
