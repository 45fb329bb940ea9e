// Where sound comes from: the microphone, or a file; as pieces of samples for a WebSocket, or as a track for WebRTC.

const RATE = 16000;
const PIECE = 320; // samples, 20 ms
const AHEAD = 0.2; // seconds that a file at the pace of speech is sent in advance
const FAR_AHEAD = 60; // and one that is sent at once

async function openMicrophone() {
  if (!navigator.mediaDevices) throw new Error("browsers give the microphone to https pages and localhost alone");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the browser was not allowed to use the microphone" : "there is no microphone");
  }
}

async function decode(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  let decoded;
  try {
    decoded = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is no sound that this browser can read`);
  }
  const mono = new OfflineAudioContext(1, Math.ceil(decoded.duration * RATE), RATE);
  const node = new AudioBufferSourceNode(mono, { buffer: decoded });
  node.connect(mono.destination);
  node.start();
  return mono.startRendering();
}

export class MicrophoneVoice {
  static source = "microphone";

  static async open() {
    const voice = new MicrophoneVoice();
    voice.stream = await openMicrophone();
    return voice;
  }

  async track() {
    return this.stream.getAudioTracks()[0];
  }

  async send(push) {
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    await this.context.audioWorklet.addModule("/page/microphone.js");
    const input = this.context.createMediaStreamSource(this.stream);
    const worklet = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    worklet.port.onmessage = (event) => push(event.data);
    input.connect(worklet);
    await this.context.resume();
  }

  interrupt() {}

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.context?.close();
  }
}

export class FileVoice {
  static source = "speech";

  static async open(file, atOnce) {
    const voice = new FileVoice();
    voice.sound = await decode(file);
    voice.ahead = atOnce ? FAR_AHEAD : AHEAD;
    return voice;
  }

  async track() {
    this.context = new AudioContext();
    const target = this.context.createMediaStreamDestination();
    const node = new AudioBufferSourceNode(this.context, { buffer: this.sound });
    node.connect(target);
    this.begin = () => node.start(this.context.currentTime + 0.2);
    await this.context.resume();
    return target.stream.getAudioTracks()[0];
  }

  async send(push, end) {
    const samples = Int16Array.from(this.sound.getChannelData(0), (x) => Math.max(-32768, Math.min(32767, Math.round(32767 * x))));
    const began = performance.now();
    let sent = 0;
    const more = () => {
      const reach = Math.min(samples.length, RATE * ((performance.now() - began) / 1000 + this.ahead));
      while (sent < reach) {
        const piece = samples.slice(sent, sent + (this.ahead > 1 ? 50 : 1) * PIECE);
        push(piece.buffer);
        sent += piece.length;
      }
      if (sent < samples.length) return;
      clearInterval(this.timer);
      end();
    };
    this.timer = setInterval(more, 20);
    more();
  }

  interrupt() {
    clearInterval(this.timer);
  }

  close() {
    clearInterval(this.timer);
    this.context?.close();
  }
}
