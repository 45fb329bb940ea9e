// Plays a fragmented MP4 as it comes, close to its newest frame.

const LOW = 0.06, HIGH = 0.16; // seconds that shall stay at the lowest before the next piece comes
const LOST = 1.0; // seconds behind from which on it jumps
const KEPT = 8; // seconds that stay behind the playing time
const WATCHED = 2000; // milliseconds in which the lowest is looked for

export class Player {
  constructor(video, mime) {
    const Source = window.ManagedMediaSource ?? window.MediaSource;
    if (!Source?.isTypeSupported(mime)) throw new Error("this browser cannot play the stream; choose WebRTC below");
    this.video = video;
    this.waiting = [];
    this.seen = [];
    this.source = new Source();
    video.disableRemotePlayback = true;
    video.srcObject = null;
    this.url = URL.createObjectURL(this.source);
    video.src = this.url;
    this.source.addEventListener("sourceopen", () => {
      this.buffer = this.source.addSourceBuffer(mime);
      this.buffer.addEventListener("updateend", () => this.next());
      this.next();
    }, { once: true });
    this.timer = setInterval(() => this.keepUp(), 100);
  }

  take(piece) {
    this.waiting.push(piece);
    this.next();
  }

  next() {
    const { buffer, video } = this;
    if (!buffer || buffer.updating || this.source.readyState !== "open") return;
    try {
      if (this.waiting.length) {
        buffer.appendBuffer(this.waiting.shift());
      } else if (buffer.buffered.length && buffer.buffered.start(0) < video.currentTime - 2 * KEPT) {
        buffer.remove(0, video.currentTime - KEPT);
      }
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      buffer.remove(0, Math.max(0.1, video.currentTime - 1));
    }
  }

  // Seconds between what is shown and the newest frame.
  get behind() {
    const ranges = this.video.buffered;
    return ranges.length ? ranges.end(ranges.length - 1) - this.video.currentTime : 0;
  }

  keepUp() {
    const { video, behind } = this, ranges = video.buffered, now = performance.now();
    if (!ranges.length) return;
    const inside = [...Array(ranges.length).keys()].some((i) => ranges.start(i) <= video.currentTime && video.currentTime < ranges.end(i));
    if (behind > LOST || (!inside && behind > 0)) {
      video.currentTime = Math.max(ranges.start(ranges.length - 1), ranges.end(ranges.length - 1) - HIGH);
      this.seen = [];
    }
    this.seen = this.seen.filter(([when]) => now - when < WATCHED);
    this.seen.push([now, behind]);
    const lowest = Math.min(...this.seen.map(([, value]) => value));
    video.playbackRate = lowest > 2 * HIGH ? 1.1 : lowest > HIGH ? 1.05 : lowest < LOW && this.seen.length > 10 ? 0.97 : 1;
    if (video.paused) video.play().catch(() => {});
  }

  close() {
    clearInterval(this.timer);
    this.video.playbackRate = 1;
    URL.revokeObjectURL(this.url);
  }
}
