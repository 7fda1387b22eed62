"""Real streams, made by ffmpeg, on the loopback."""

import base64
import re
import shutil
import socket
import socketserver
import subprocess
import threading
from contextlib import contextmanager

FFMPEG = shutil.which("ffmpeg")
FORM = "s=320x240:r=10:d=1,format=yuv420p"
SCENE = f"color=red:{FORM}[r];color=lime:{FORM}[g];color=blue:{FORM}[b];[r][g][b]concat=n=3"  # a second of each


@contextmanager
def ffmpeg(*output, live=False, **how):
    """Run ffmpeg on the scene; `live`: no faster than it happens. It ends with the block."""
    command = [FFMPEG, "-v", "error", "-nostdin", *(["-re"] if live else []), "-f", "lavfi", "-i", SCENE]
    process = subprocess.Popen([*command, *map(str, output)], stdin=subprocess.DEVNULL, **how)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def mpjpeg(request):
    """A route of a WebCamera: ffmpeg's own multipart stream, with ffmpeg's boundary."""
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace;boundary=ffmpeg")
    request.end_headers()
    with ffmpeg("-f", "mpjpeg", "-q:v", 3, "-", stdout=subprocess.PIPE) as process:
        shutil.copyfileobj(process.stdout, request.wfile)


class _Rtsp(socketserver.StreamRequestHandler):
    """Answers one client; the packets go over the connection itself (RFC 2326, section 10.12)."""

    def handle(self):
        while request := self.request_lines():
            method, number = request[0].split()[0], re.search(r"CSeq: *(\d+)", "\n".join(request))[1]
            self.server.asked.append(request[0])
            if method != "OPTIONS" and self.server.wanted not in "\n".join(request):
                self.answer("401 Unauthorized", number, 'WWW-Authenticate: Basic realm="camera"')
            elif method == "DESCRIBE":
                text = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
                )
                self.answer(
                    "200 OK", number, "Content-Type: application/sdp", f"Content-Length: {len(text)}", body=text
                )
            elif method == "SETUP" and "interleaved" not in "\n".join(request):
                self.answer("461 Unsupported Transport", number)
            elif method == "SETUP":
                self.answer("200 OK", number, "Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            elif method == "PLAY":
                self.answer("200 OK", number, "Session: 1")
                self.play()
                break
            else:
                self.answer("200 OK", number, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")

    def request_lines(self):
        lines = []
        while line := self.rfile.readline().decode().strip():
            lines.append(line)
        return lines

    def answer(self, status, number, *headers, body=""):
        self.wfile.write("\r\n".join([f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, "", body]).encode())

    def play(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
            packets.bind(("127.0.0.1", 0))
            packets.settimeout(0.2)
            address = f"rtp://127.0.0.1:{packets.getsockname()[1]}"
            how = ["-c:v", "libx264", "-tune", "zerolatency", "-g", 5, "-bsf:v", "dump_extra", "-f", "rtp", address]
            with ffmpeg(*how, live=True, stdout=subprocess.DEVNULL) as process:
                silent, hangs_up = self.server.is_silent, self.server.hangs_up
                while (process.poll() is None or silent.is_set()) and not hangs_up.is_set():
                    try:
                        packet = packets.recv(1 << 16)
                    except socket.timeout:
                        continue
                    if not silent.is_set():
                        self.wfile.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
    block_on_close = False

    def handle_error(self, *_):
        """A client that hangs up."""


@contextmanager
def rtsp_server(user, password):
    """A camera of one H.264 stream for one user; `asked`: the requests.

    Where `hangs_up` is set it ends a stream, where `is_silent` is, it sends nothing.
    """
    with _Server(("127.0.0.1", 0), _Rtsp) as server:
        server.asked, server.hangs_up, server.is_silent = [], threading.Event(), threading.Event()
        server.wanted = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.hangs_up.set()
            server.shutdown()
            thread.join()
