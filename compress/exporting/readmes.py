"""What stands in the README of an export: how its client runs it. `{graph}` and `{bins}` are filled in."""

PLAIN = """\
Features and their mask in, logits out, for any program that runs ONNX:

```python
import onnxruntime, soundfile
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained("source")
audio, rate = soundfile.read("speech.wav", dtype="float32")
inputs = processor(audio, sampling_rate=rate, return_tensors="np", return_attention_mask=True)
session = onnxruntime.InferenceSession("{graph}")
logits = session.run(["logits"], {{entry.name: inputs[entry.name] for entry in session.get_inputs()}})[0]
print(processor.batch_decode(logits.argmax(-1)))
```
"""

FRAMES_ALONE = """\
The encoder alone: features and their mask in, its frames and their lengths out.

```python
import onnxruntime

session = onnxruntime.InferenceSession("{graph}")
frames, lengths = session.run(["encoded", "encoded_lengths"], inputs)
```
"""

THREE_GRAPHS = """\
A transducer in NeMo's layout, for any program that runs ONNX: `{graphs[0]}` makes frames of features and their
lengths, `{graphs[1]}` states of the tokens written before, `{graphs[2]}` logits of a frame and a state. The first step:

```python
import numpy, onnxruntime
from transformers import AutoProcessor

encoder, decoder, joiner = map(onnxruntime.InferenceSession, {graphs})
inputs = AutoProcessor.from_pretrained("source")(numpy.zeros({rate}), sampling_rate={rate}, return_tensors="np")
features, lengths = inputs["input_features"].transpose(0, 2, 1), inputs["attention_mask"].sum(-1).astype("int64")
frames, counts = encoder.run(None, {{"audio_signal": features, "length": lengths}})
memory = numpy.zeros({memory}, "float32")
feed = [numpy.array([[{blank}]], "int32"), numpy.ones(1, "int32"), memory, memory]
state, _, *memories = decoder.run(None, dict(zip([entry.name for entry in decoder.get_inputs()], feed)))
logits = joiner.run(None, {{"encoder_outputs": frames[..., :1], "decoder_outputs": state}})[0]
```

`compress evaluate` runs them to the end.
"""

ONNX_ASR = """\
For [onnx-asr](https://pypi.org/project/onnx-asr/), `pip install onnx-asr[cpu]`:

```python
import onnx_asr

model = onnx_asr.load_model("{type}", ".", quantization={quantization})
print(model.recognize("speech.wav"))
```
"""

_SHERPA = """\
For [sherpa-onnx](https://k2-fsa.github.io/sherpa/onnx/), `pip install sherpa-onnx`:

```python
import numpy, sherpa_onnx, soundfile

audio, rate = soundfile.read("speech.wav", dtype="float32")
#recogniser = sherpa_onnx.OfflineRecognizer.@(@@, tokens="tokens.txt"%)
stream = recogniser.create_stream()
stream.accept_waveform(rate, audio)
recogniser.decode_stream(stream)
print(stream.result.text)
```
"""


_EARLIER = "audio = numpy.pad(audio, ({half_hop}, 0))  # its frames are half a step late, which costs words\n"


def _sherpa(method: str, graphs: str = 'model="{graph}"', options: str = "", audio: str = "") -> str:
    text = _SHERPA.replace("#", audio).replace("@@", graphs).replace("@", method).replace("%", options)
    return text if audio else text.replace("import numpy, ", "import ")


SHERPA_NEMO = _sherpa("from_nemo_ctc", options=", feature_dim={bins}", audio=_EARLIER)
SHERPA_MEDASR = _sherpa("from_medasr_ctc")
SHERPA_OMNILINGUAL = _sherpa("from_omnilingual_asr_ctc")
SHERPA_TRANSDUCER = _sherpa(
    "from_transducer",
    '\n    encoder="{graphs[0]}", decoder="{graphs[1]}", joiner="{graphs[2]}"',
    ',\n    feature_dim={bins}, model_type="nemo_transducer",\n',
    _EARLIER,
)

TRANSFORMERS_JS = """\
For [transformers.js](https://huggingface.co/docs/transformers.js), `npm install @huggingface/transformers`, in node or
a browser; this folder lies in `models/NAME`, and the audio is a Float32Array at {rate} Hz:

```js
import {{ env, pipeline }} from "@huggingface/transformers";

env.localModelPath = "models/";
env.allowRemoteModels = false;
const recognise = await pipeline("automatic-speech-recognition", "NAME", {{ dtype: "{dtype}" }});
console.log((await recognise(audio)).text);
```
"""
