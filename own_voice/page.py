"""Enrol and recognise people in the browser, with its microphone, on this computer alone.

    python -m own_voice.page
    python -m own_voice.page --open_browser=False --port=8000     # every setting of main() can be named

Prints an address, and opens it. Recordings go to <test_dir>/<name>/enroll.wav, as enroll.py reads them. The
enrolment goes to embedding_dir, where own_voice.who and own_voice.who_when find it. Ctrl-C ends the program.
The answers are those of gallery.py.
"""
import contextlib
import hmac
import html
import json
import re
import secrets
import signal
import sys
import tempfile
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from model import load_model
from own_voice.gallery import MAX_SECONDS, Gallery, told
from own_voice.who import EMBEDDING_DIR
from support.messages import EPOCH_OR_NAME, LabError, NoSpeech, check_settings, is_whole, run_script

PAGE = Path(__file__).with_suffix('.html')
MAX_BYTES = 120_000_000  # of a recording: MAX_SECONDS in stereo at 48 kHz
TIMEOUT = 30  # seconds without a byte after which a connection is closed
POLICY = ("default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
          "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors {1}")
NO_FRAMES, COLAB = "'none'", 'https://*.google.com https://*.googleusercontent.com'  # who may show it in a frame
OLD_ADDRESS = """<!DOCTYPE html><meta charset="utf-8"><title>Another address</title>
<h1>This is not the address of the page</h1>
<p>The address changes whenever the server starts. Open the one that it printed in its window. If the window is
closed, start the server again: python -m own_voice.page</p>
<p lang="ko">서버를 시작할 때마다 주소가 바뀝니다.
서버를 실행한 터미널에 나온 주소를 여십시오.
터미널을 닫았으면 서버를 다시 시작하십시오: python -m own_voice.page</p>
"""
PORT = 'a whole number up to 65535', lambda value: is_whole(value) and value < 65536
PROXY = "an address that begins with https://, or ''", lambda value: value == '' or (
    isinstance(value, str) and re.fullmatch(r'https://[\w.-]+(:\d+)?/?', value) is not None)


class PageServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1 alone. The address holds a token, which no other site in the browser knows.

    proxy: the address under which a proxy such as Colab's shows the page, too, in a frame; '': there is none.
    """
    daemon_threads = True

    def __init__(self, gallery, port=0, proxy=''):
        super().__init__(('127.0.0.1', port), PageHandler)
        self.gallery, self.token = gallery, secrets.token_urlsafe(16)
        self.jobs = {}  # name of a long work -> which share of it is done; None: it is to stop
        self.hosts = ['%s:%d' % (name, self.server_port) for name in ('127.0.0.1', 'localhost')]
        self.address = 'http://%s/%s/' % (self.hosts[0], self.token)
        self.origins, self.frames = ['http://%s' % host for host in self.hosts], NO_FRAMES
        if proxy:
            self.origins.append(proxy.rstrip('/'))
            self.hosts.append(urlsplit(proxy).netloc)
            self.frames = COLAB

    def handle_error(self, request, client_address):
        """Print the traceback. A cut connection is no error of ours."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Cancelled(Exception):
    """Somebody does not want the answer any more."""


class PageHandler(BaseHTTPRequestHandler):
    """The page, and one answer in JSON to each question that it asks."""
    timeout = TIMEOUT

    def do_GET(self):
        action = self.find_action()
        if action == '':
            nonce = secrets.token_urlsafe(16)
            page = PAGE.read_text(encoding='utf-8').replace('NONCE', nonce)
            self.reply(200, page.encode(), 'text/html; charset=utf-8', POLICY.format(nonce, self.server.frames))
        elif action == 'state':
            self.answer(lambda: self.server.gallery.state())
        elif action == 'progress':
            self.answer(lambda: {'share': self.server.jobs.get(self.value('job'), 0)})
        elif action == 'recording':
            self.send_recording()
        elif action is not None:
            self.refuse(404, 'There is no such page.')

    def do_POST(self):
        action = self.find_action()
        if action is None:
            return
        origin = self.headers.get('Origin', '')  # a browser always says from which site a request comes
        if origin not in self.server.origins:
            return self.refuse(403, 'This request comes from another site.')
        body = self.read_body()
        if body is None:
            return
        gallery, name, job = self.server.gallery, self.value('name'), self.value('job')
        answers = {'check': lambda: {'name': gallery.folder_to_enrol(name or '').name},
                   'enrol': lambda: gallery.enrol(name or '', body, self.value('sure') is not None),
                   'delete': lambda: gallery.delete(name or ''),
                   'take_back': lambda: gallery.take_back(name or '', self.value('file')),
                   'rename': lambda: gallery.rename(name or '', self.value('new') or ''),
                   'calibrate': gallery.calibrate, 'forget_room': gallery.forget_room,
                   'score': lambda: gallery.score(body, name, self.value('why') is not None),
                   'who_when': lambda: self.long_work(job, lambda go_on: gallery.who_when(body, go_on)),
                   'cancel': lambda: self.server.jobs.update({job: None}) or {}}
        if action in answers:
            self.answer(answers[action])
        else:
            self.refuse(404, 'There is no such page.')

    def find_action(self):
        """The last part of the address. If it is not for us, says so and returns None."""
        parts = self.path.partition('?')[0].split('/')  # '', the token, the action
        if self.headers.get('Host') not in self.server.hosts:
            self.refuse(403, 'Unknown host.')  # another name that somebody let point to 127.0.0.1
        elif len(parts) != 3 or not hmac.compare_digest(parts[1].encode(), self.server.token.encode()):
            self.refuse_address()
        else:
            return parts[2]

    def refuse_address(self):
        """Say what to do: in a page for whoever opens an address of yesterday, in JSON for everybody else."""
        if self.command == 'GET' and 'text/html' in self.headers.get('Accept', ''):
            self.close_connection = True
            return self.reply(404, OLD_ADDRESS.encode(), 'text/html; charset=utf-8')
        return self.refuse(404, 'Open the address that the server printed.')

    def value(self, name):
        """A value of the query of the address, or None."""
        query = parse_qs(self.path.partition('?')[2], keep_blank_values=True)
        return query.get(name, [None])[0]

    def long_work(self, job, work):
        """work(progress), of which the page can ask the share that is done, and which it can cancel."""
        jobs = self.server.jobs

        def progress(share):
            if job in jobs and jobs[job] is None:
                raise Cancelled
            jobs[job] = share
        try:
            progress(0)
            return work(progress)
        except Cancelled:
            return {'cancelled': True}
        finally:
            jobs.pop(job, None)

    def send_recording(self):
        """Reply with an enrolment recording, to be played, or with the part that a player asks for to move in it."""
        try:
            content = self.server.gallery.file_of(self.value('name') or '', self.value('file')).read_bytes()
        except (LabError, OSError) as error:
            return self.refuse(404, **told(error))
        headers, asked = {'Accept-Ranges': 'bytes'}, re.fullmatch(r'bytes=(\d{1,12})-(\d{0,12})',
                                                                  self.headers.get('Range', ''))
        if not asked or int(asked[1]) >= len(content):
            return self.reply(200, content, 'audio/wav', more=headers)
        begin, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        headers['Content-Range'] = 'bytes %d-%d/%d' % (begin, end, len(content))
        return self.reply(206, content[begin:end + 1], 'audio/wav', more=headers)

    def read_body(self):
        """The body of a request. If it has no length, or is too large, says so and returns None."""
        length = self.headers.get('Content-Length', '')
        if not length.isdecimal() or self.headers.get('Transfer-Encoding'):
            return self.refuse(411, 'The length of the recording is missing.')
        if len(length) > 12 or int(length) > MAX_BYTES:  # int() refuses thousands of digits
            return self.refuse(413, 'This recording is too long. Use at most %d seconds.' % MAX_SECONDS,
                               code='tooLong', values={'seconds': MAX_SECONDS})
        body = self.rfile.read(int(length))
        if len(body) == int(length):
            return body
        self.close_connection = True  # it was cut

    def answer(self, ask):
        """Reply with what a question to the gallery gives, or with what was wrong."""
        try:
            content = json.dumps(ask()).encode()
        except (LabError, OSError) as error:
            self.refuse(422 if isinstance(error, NoSpeech) else 400, **told(error))
        except Exception:
            self.refuse(500, 'Something went wrong in the server: look at its window.', code='mistake', values={})
            raise  # handle_error prints the traceback there
        else:
            self.reply(200, content)

    def refuse(self, status, error, **code):
        """Reply with a sentence, and with its code and values if the page has a translation."""
        self.close_connection = True  # the body may not have been read
        self.reply(status, json.dumps({'error': error, **code}).encode())

    def reply(self, status, content, kind='application/json', policy="default-src 'none'", more={}):
        self.send_response(status)
        headers = {'Content-Type': kind, 'Content-Length': len(content), 'Cache-Control': 'no-store',
                   'Content-Security-Policy': policy, 'X-Content-Type-Options': 'nosniff',
                   'Referrer-Policy': 'no-referrer', **more}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Say nothing: a line for every half second would hide what matters."""


@contextlib.contextmanager
def opened_privately(address):
    """Open the address in the browser, by a file that only this user can read. It is gone afterwards.

    The address holds the token. As an argument of a program, every user of the computer could read it.
    """
    with tempfile.TemporaryDirectory() as folder:  # nobody else may look into it
        page = Path(folder) / 'open.html'
        page.write_text('<!DOCTYPE html><meta http-equiv="refresh" content="0; url=%s">' % html.escape(address),
                        encoding='utf-8')
        page.chmod(0o600)
        webbrowser.open(page.as_uri())
        yield


def end_cleanly(number, frame):
    """Let a signal end the program as Ctrl-C does, so that no temporary file is left."""
    raise KeyboardInterrupt


def main(
        # Settings
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        test_dir='feat_own/test',  # where the recordings go: DIR/<name>/enroll.wav
        embedding_dir=EMBEDDING_DIR,  # where the enrolment goes
        port=0,  # of the address; 0: any that is free
        proxy='',  # an https address under which a proxy shows the page, too (docs/colab.md)
        open_browser=True,  # open the page in the browser
        use_cuda=True,  # use a GPU if there is one
):
    check_settings(main, locals(), cp_num=EPOCH_OR_NAME, port=PORT, proxy=PROXY)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    gallery = Gallery(model, test_dir, embedding_dir, use_cuda)
    server = PageServer(gallery, port, proxy)
    print('Open this address in a browser on this computer (Ctrl-C ends the server):\n%s' % server.address,
          flush=True)
    for name in ('SIGTERM', 'SIGHUP'):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end_cleanly)
    with server, opened_privately(server.address) if open_browser else contextlib.nullcontext():
        server.serve_forever()


if __name__ == '__main__':
    run_script(main)
