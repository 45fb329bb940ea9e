"""The page in Chromium: it plays over both ways, the picture follows the sound, and both stay together.

The engine has no model here (`tests.serve.talker`): the middle of its picture is as bright as its sound is loud, which
a browser can measure. What is measured of the sound is what the video element plays, in the clock of the display.
"""

import shutil
import wave

import numpy as np
import pytest

for name in ("playwright", "starlette", "uvicorn", "websockets", "aiortc"):
    pytest.importorskip(name, reason="needs vasa-jax[dev,serve]")

from playwright.sync_api import sync_playwright  # noqa: E402

from tests.serve.server import OWN, Server  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.long,
    pytest.mark.alone,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
RATE = 16_000
SKEW = 0.08
"""Seconds between sound and picture that people do not notice."""
STEP = 0.01
"""Seconds between two values of a course."""
WATCH = """
async (seconds) => {
  const video = document.getElementById("face"), context = new AudioContext(), frames = [], sounds = [];
  const stream = video.srcObject;
  const node = stream ? context.createMediaStreamSource(stream) : context.createMediaElementSource(video);
  const ear = context.createAnalyser(), block = new Float32Array(512);
  video.muted = false;
  ear.fftSize = 512;
  node.connect(ear).connect(context.destination);
  await context.resume();
  const canvas = new OffscreenCanvas(8, 8).getContext("2d", { willReadFrequently: true });
  let going = true;
  const see = (now, { expectedDisplayTime }) => {
    canvas.drawImage(video, 0, 0, 8, 8);
    frames.push([expectedDisplayTime / 1000, canvas.getImageData(4, 4, 1, 1).data[0]]);
    if (going) video.requestVideoFrameCallback(see);
  };
  video.requestVideoFrameCallback(see);
  const timer = setInterval(() => {
    ear.getFloatTimeDomainData(block);
    sounds.push([performance.now() / 1000, Math.sqrt(block.reduce((sum, x) => sum + x * x, 0) / block.length)]);
  }, 10);
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  going = false;
  clearInterval(timer);
  return { frames, sounds, played: video.currentTime, behind: document.getElementById("buffer").textContent };
}
"""


def voice(seconds: float) -> np.ndarray:
    """Vowels of irregular lengths with silence between them, int16 at 16 kHz."""
    generator = np.random.default_rng(3)
    parts, times = [], np.arange(RATE) / RATE
    while sum(map(len, parts)) < seconds * RATE:
        loud, quiet = generator.uniform(0.15, 0.6, 2)
        pitch = generator.uniform(100, 200) * (1 + 0.05 * np.sin(2 * np.pi * 5 * times))
        buzz = sum(np.sin(2 * np.pi * np.cumsum(k * pitch) / RATE) / k for k in range(1, 12))
        parts += [3000 * generator.uniform(0.6, 1.0) * buzz[: int(loud * RATE)], np.zeros(int(quiet * RATE))]
    return np.round(np.concatenate(parts)[: int(seconds * RATE)]).astype(np.int16)


def write(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sound") / "voice.wav", voice(30))


@pytest.fixture(scope="module")
def browser(sound):
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={sound}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def server():
    server = Server()
    with server, server.engine:
        yield server


@pytest.fixture
def page(browser, server):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
    page.goto(f"http://{server.address}/")
    page.wait_for_selector(".portraits img")
    yield page
    assert not page.complaints
    page.close()


def course(points, begin, end):
    """The last value before each moment from begin to end."""
    times, values = np.array(points).T
    moments = np.arange(begin, end, STEP)
    return values[np.clip(np.searchsorted(times, moments) - 1, 0, None)]


def skew(watched):
    """How many seconds the picture comes behind the sound, and how alike they are there."""
    frames, sounds = watched["frames"], watched["sounds"]
    begin, end = max(frames[0][0], sounds[0][0]) + 0.5, min(frames[-1][0], sounds[-1][0]) - 0.5
    heard = course(sounds, begin, end)
    lags = np.arange(-0.4, 0.41, STEP)
    alike = [np.corrcoef(course(frames, begin + lag, end + lag)[: len(heard)], heard)[0, 1] for lag in lags]
    return lags[int(np.argmax(alike))], max(alike)


def play(page, way, file=None):
    if way == "rtc":
        page.click("summary")
        page.click("label[for=by-rtc]")
    if file:
        page.click("label[for=by-file]")
        page.set_input_files("#sound", file)
    page.click("#start")
    page.wait_for_selector("#face.shown", timeout=30_000)
    page.wait_for_timeout(1500)


@pytest.mark.parametrize("way", ["socket", "rtc"])
def test_the_microphone_moves_the_picture(page, server, way):
    play(page, way)
    watched = page.evaluate(WATCH, 10)
    late, alike = skew(watched)
    levels = [level for _, level in watched["frames"]]
    assert len(levels) > 60 and min(levels) < 70 and max(levels) > 120
    assert alike > 0.7 and abs(late) <= SKEW
    assert page.inner_text("#status").endswith("Live") and "ms" in page.inner_text("#latency")
    page.click("#start")
    page.wait_for_selector("body[data-running=false]")
    page.wait_for_timeout(2000)
    assert server.engine.all[-1].closed


@pytest.mark.parametrize("way", ["socket", "rtc"])
def test_sound_and_picture_stay_together_for_a_minute(page, tmp_path, way):
    play(page, way, write(tmp_path / "minute.wav", voice(75)))
    watched = page.evaluate(WATCH, 60)
    half = len(watched["frames"]) // 2
    for part in (slice(None, half), slice(half, None)):
        late, alike = skew(watched | {"frames": watched["frames"][part]})
        assert alike > 0.6 and abs(late) <= SKEW, f"{1000 * late:.0f} ms behind the sound, alike {alike:.2f}"


def test_a_file_is_spoken_as_it_is(page, server, sound):
    """What the page pushes is the file, and the server's pictures are as loud as it."""
    play(page, "socket", sound)
    session = server.engine.all[-1]
    assert not session.microphone
    page.check("#at-once")
    page.click("#start"), page.click("#start")
    page.wait_for_timeout(3000)
    heard, own = server.engine.all[-1].sound, voice(30) / 2**15
    assert len(heard) > 20 * RATE
    np.testing.assert_allclose(heard[-5 * RATE :], own[-5 * RATE :], atol=3e-4)
    page.click("#interrupt")
    page.wait_for_timeout(500)
    assert "interrupt" in server.engine.all[-1].said and server.engine.all[-1].waiting == 0


def test_wishes_reach_the_session(page, server):
    play(page, "socket")
    box = page.locator("#pad").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    page.select_option("#emotion", "happiness")
    page.locator("#amplitude").fill("1.5")
    page.wait_for_timeout(500)
    _, wishes = server.engine.all[-1].said[-1]
    assert wishes["emotion"] == "happiness:0.6" and wishes["amplitude"] == 1.5
    assert np.abs(np.array(wishes["gaze"]) - 15).max() <= 1
    page.focus("#pad")
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert server.engine.all[-1].said[-1][1]["gaze"] == (3.0, 0.0)
    assert page.get_attribute("#pad", "aria-valuetext") == "3° right"


def test_a_picture_of_ones_own(page, server, tmp_path):
    from PIL import Image

    Image.fromarray(np.random.default_rng(5).integers(0, 256, (80, 60, 3), np.uint8)).save(tmp_path / "me.png")
    page.set_input_files("#picture", tmp_path / "me.png")
    page.locator(".portraits input").nth(1).wait_for(state="attached")
    assert page.locator(".portraits input:checked").get_attribute("value") != OWN
    (tmp_path / "not.png").write_bytes(b"hello")
    page.set_input_files("#picture", tmp_path / "not.png")
    page.wait_for_selector("#unfound")
    assert "not a usable image" in page.inner_text("#unfound")
    page.complaints.clear()  # browsers report the status 422


def test_a_full_server_is_told_of(browser, page, server):
    server.engine.most = 0
    page.click("#start")
    page.wait_for_selector("#status[data-kind=error]")
    assert page.inner_text("#status") == "All places are taken. Try again in 10 s."


@pytest.mark.parametrize("width, height", [(1280, 900), (390, 844)])
def test_the_page_fits_and_everything_has_a_name(page, tmp_path, width, height):
    page.set_viewport_size({"width": width, "height": height})
    play(page, "socket")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.is_visible("text=AI-generated")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, [role=slider]')].filter((one) => !(one.ariaLabel ?? "
        "one.getAttribute('aria-label') ?? one.textContent) && ![...(one.labels ?? [])].some((label) => "
        "label.textContent.trim() || label.querySelector('img[alt]'))).map((one) => one.id)"
    )
    assert not unnamed
    small = page.evaluate(
        "[...document.querySelectorAll('button, .button, select')].filter((one) => one.checkVisibility() && "
        "one.getBoundingClientRect().height < 40).map((one) => one.id)"
    )
    assert not small  # fingers are wide
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
