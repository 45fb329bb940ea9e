// The two ways to the server: a WebSocket with an MP4 that grows, and WebRTC. Both call `events.ready`, `.state`, `.error`
// and `.closed`, and take messages of the protocol with `say`.

import { Player } from "/page/player.js";

const PONG = 5000; // milliseconds between pings, which keep the way open

export class SocketWay {
  constructor(video, events) {
    this.video = video;
    this.events = events;
  }

  open(portrait, voice, controls) {
    const address = new URL("/live", location.href.replace(/^http/, "ws"));
    const socket = this.socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.say({ type: "start", portrait, source: voice.constructor.source, rate: 16000, container: "mp4", controls });
    socket.onclose = () => this.events.closed();
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.hear(JSON.parse(data), voice);
      else this.player?.take(data);
    };
    this.timer = setInterval(() => this.say({ type: "ping" }), PONG);
  }

  async hear(message, voice) {
    try {
      if (message.type === "ready") {
        this.player = new Player(this.video, message.mime);
        this.events.ready(message);
        await voice.send((piece) => this.push(piece), () => this.say({ type: "end" }));
      } else {
        this.events[message.type]?.(message);
      }
    } catch (error) {
      this.events.error({ message: error.message, fatal: true });
      this.close();
    }
  }

  push(piece) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(piece);
  }

  say(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  get behind() {
    return this.player?.behind;
  }

  close() {
    clearInterval(this.timer);
    this.player?.close();
    this.socket?.close();
  }
}

export class RtcWay {
  constructor(video, events) {
    this.video = video;
    this.events = events;
  }

  async open(portrait, voice, controls) {
    const connection = this.connection = new RTCPeerConnection({ iceServers: [] });
    const stream = new MediaStream();
    connection.ontrack = ({ track }) => {
      stream.addTrack(track);
      this.video.srcObject = stream;
      this.video.play().catch(() => {});
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "connected") voice.begin?.();
      if (["failed", "closed", "disconnected"].includes(connection.connectionState)) this.end();
    };
    this.channel = connection.createDataChannel("control");
    this.channel.onclose = () => this.end();
    this.channel.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.events[message.type]?.(message);
    };
    try {
      connection.addTransceiver(await voice.track(), { direction: "sendrecv" });
      connection.addTransceiver("video", { direction: "recvonly" });
      await connection.setLocalDescription();
      await gathered(connection);
      const { sdp, type } = connection.localDescription;
      const response = await fetch("/offer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ sdp, type, portrait, controls }),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.message);
      await connection.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
      this.events.ready(answer);
    } catch (error) {
      this.events.error({ message: error.message, fatal: true });
      this.end();
    }
  }

  say(message) {
    if (this.channel?.readyState === "open") this.channel.send(JSON.stringify(message));
  }

  get behind() {
    return undefined;
  }

  end() {
    if (this.ended) return;
    this.ended = true;
    this.connection?.close();
    this.events.closed();
  }

  close() {
    this.end();
    this.video.srcObject = null;
  }
}

function gathered(connection) {
  if (connection.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    connection.addEventListener("icegatheringstatechange", () => connection.iceGatheringState === "complete" && resolve());
    setTimeout(resolve, 2000);
  });
}
