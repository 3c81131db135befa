"""Pictures from servers that drip, lie and never end: an error within the deadline, little memory, and Ctrl-C works at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from modeling_expclip.media import images
from modeling_expclip.media.images import open_image
from tests.robustness.costs import peak_megabytes, within
from tests.robustness.pictures import encoded
from tests.robustness.servers import serve

PNG = encoded(Image.new("RGB", (8, 6), "red"), "PNG")
LATE = r"a\.png' cannot be fetched: .*(more than 1 seconds|too slow)"


def whole(request):
    request.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PNG) + PNG)


def drip(request, start: bytes):
    request.wfile.write(start)
    for _ in range(300):
        request.wfile.write(b"a")
        time.sleep(0.1)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(images, "_URL_SECONDS", 1)
    monkeypatch.setattr(images, "_URL_BYTES", 5 * 2**20)


def test_a_whole_answer_is_read():
    with serve(whole) as address:
        assert open_image(f"{address}/a.png").size == (8, 6)


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.0 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["line", "header", "body"]
)
def test_servers_that_drip_are_left(hasty, start):
    with serve(lambda request: drip(request, start)) as address, within(5), pytest.raises(OSError, match=LATE):
        open_image(f"{address}/a.png")


def test_servers_that_say_nothing_are_left(hasty):
    with serve(lambda request: time.sleep(3)) as address, within(5), pytest.raises(OSError, match=LATE):
        open_image(f"{address}/a.png")


@pytest.mark.parametrize("length", [None, 10**12, 5])
def test_answers_without_end_are_left(hasty, length):
    """Also where they say another length: beyond the limit nothing is read; what is more than was said is left out."""
    said = b"" if length is None else b"Content-Length: %d\r\n" % length

    def answer(request):
        request.wfile.write(b"HTTP/1.0 200 OK\r\n" + said + b"\r\n")
        for _ in range(500):
            request.wfile.write(b"a" * 2**20)

    message = "not an image" if length == 5 else "larger than 5242880 bytes"
    with serve(answer) as address, within(10), peak_megabytes() as peak, pytest.raises(OSError, match=message):
        open_image(f"{address}/a.png")
    assert peak.megabytes < 40


def test_answers_that_break_off_are_told():
    def answer(request):
        request.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG)

    with serve(answer) as address, pytest.raises(OSError, match="cannot be fetched: IncompleteRead"):
        open_image(f"{address}/a.png")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a.png", "file:///etc/passwd", "data:image/png;base64,AAAA"])
def test_redirections_leave_the_web_for_nothing(target):
    def answer(request):
        request.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: " + target.encode() + b"\r\n\r\n")

    with serve(answer) as address, within(10), pytest.raises(OSError, match="cannot be fetched"):
        open_image(f"{address}/a.png")


def test_redirections_are_followed_but_not_for_ever():
    def answer(request):
        if request.path == "/a.png":
            request.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: /b.png\r\n\r\n")
        elif request.path == "/b.png":
            whole(request)
        else:
            request.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: /loop\r\n\r\n")

    with serve(answer) as address, within(10):
        assert open_image(f"{address}/a.png").size == (8, 6)
        with pytest.raises(OSError, match="cannot be fetched"):
            open_image(f"{address}/loop")


WAITING = """
import sys
from modeling_expclip.media import images, stream
from PIL import Image
def pictures():
    print("reading", flush=True)
    for _ in range(4):
        yield None, sys.argv[2]
if sys.argv[1] == "alone":
    print("reading", flush=True)
    images.open_image(sys.argv[2])
else:
    for _ in stream.find_faces(pictures(), None, None, 0, False, workers=2, ahead=4):
        pass
"""


@pytest.mark.parametrize("how", ["alone", "stream"])
def test_control_c_works_at_once(how):
    """Also where threads of the stream wait for a server."""
    with serve(lambda request: drip(request, b"HTTP/1.0 200 OK\r\n\r\n")) as address:
        run = subprocess.Popen(
            [sys.executable, "-c", WAITING, how, f"{address}/a.png"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # heard also in the background
        )
        try:
            assert run.stdout.readline() == "reading\n"
            time.sleep(1)
            begin = time.monotonic()
            run.send_signal(signal.SIGINT)
            _, spoken = run.communicate(timeout=20)
        finally:
            run.kill()
        assert "KeyboardInterrupt" in spoken and run.returncode not in (0, -signal.SIGKILL)
        assert time.monotonic() - begin < 6


@pytest.mark.parametrize("kind", ["EPS", "PNG"])
def test_the_pipeline_reads_addresses_as_it_reads_files(recognise, tmp_path, kind):
    """With the same formats, and deep grey and transparency as in a file."""
    image = Image.new("RGBA", (8, 6), (255, 0, 0, 60)) if kind == "PNG" else Image.new("RGB", (8, 6), "red")
    content = encoded(image, kind)
    with serve(lambda request: request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + content)) as address:
        if kind == "EPS":  # Pillow would run Ghostscript on it
            with pytest.raises(OSError, match="cannot identify"):
                recognise(f"{address}/a.eps")
        else:
            assert recognise(f"{address}/a.png") == recognise(content)


def test_the_pipeline_says_why_an_address_cannot_be_fetched(recognise):
    missing, slow = b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"
    with (
        serve(lambda request: request.wfile.write(missing)) as address,
        pytest.raises(OSError, match="cannot be fetched: .*404"),
    ):
        recognise(f"{address}/a.png")
    with pytest.raises(OSError, match="cannot be fetched"):
        recognise("http://127.0.0.1:9/a.png")
    with (
        serve(lambda request: drip(request, slow)) as address,
        within(8),
        pytest.raises(OSError, match="slower than 1 seconds"),
    ):
        recognise(f"{address}/a.png", timeout=1)


def test_rows_name_files_and_no_addresses(recognise, analyzer):
    with serve(whole) as address:
        for read in (recognise, analyzer.photo):
            with pytest.raises(OSError, match="No such file"):
                read({"bytes": None, "path": f"{address}/a.png"})
