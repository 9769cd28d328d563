"""Enrol and recognise people in the browser, with its microphone, on this computer alone.

    python -m own_voice.page
    python -m own_voice.page --open_browser=False --port=8000     # every setting of main() can be named

Prints an address, and opens it. Recordings go to <test_dir>/<name>/enroll.wav, as enroll.py reads them. The
enrolment goes to embedding_dir, where own_voice.who and own_voice.who_when find it. Ctrl-C ends the program.
The answers are those of gallery.py.
"""
import hmac
import json
import secrets
import sys
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from model import load_model
from own_voice.gallery import MAX_BYTES, Gallery, told
from own_voice.who import EMBEDDING_DIR
from support.messages import EPOCH_OR_NAME, LabError, NoSpeech, check_settings, is_whole, run_script

PAGE = Path(__file__).with_suffix('.html')
TIMEOUT = 30  # seconds without a byte after which a connection is closed
POLICY = ("default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
PORT = 'a whole number up to 65535', lambda value: is_whole(value) and value < 65536


class PageServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1 alone. The address holds a token, which no other site in the browser knows."""
    daemon_threads = True

    def __init__(self, gallery, port=0):
        super().__init__(('127.0.0.1', port), PageHandler)
        self.gallery, self.token = gallery, secrets.token_urlsafe(16)
        self.lock = threading.Lock()  # one request at a time changes or asks the gallery
        self.hosts = ['%s:%d' % (name, self.server_port) for name in ('127.0.0.1', 'localhost')]
        self.address = 'http://%s/%s/' % (self.hosts[0], self.token)

    def handle_error(self, request, client_address):
        """Print the traceback. A cut connection is no error of ours."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """The page, and one answer in JSON to each question that it asks."""
    timeout = TIMEOUT

    def do_GET(self):
        action = self.find_action()
        if action == '':
            nonce = secrets.token_urlsafe(16)
            page = PAGE.read_text(encoding='utf-8').replace('NONCE', nonce)
            self.reply(200, page.encode(), 'text/html; charset=utf-8', POLICY.format(nonce))
        elif action == 'state':
            self.answer(lambda: self.server.gallery.state())
        elif action is not None:
            self.refuse(404, 'There is no such page.')

    def do_POST(self):
        action = self.find_action()
        if action is None:
            return
        origin = self.headers.get('Origin', '')  # a browser always says from which site a request comes
        if origin not in ['http://%s' % host for host in self.server.hosts]:
            return self.refuse(403, 'This request comes from another site.')
        name, body = self.name(), self.read_body()
        if body is None:
            return
        gallery = self.server.gallery
        answers = {'check': lambda: {'name': gallery.folder_to_enrol(name or '').name},
                   'enrol': lambda: gallery.enrol(name or '', body),
                   'delete': lambda: gallery.delete(name or ''),
                   'score': lambda: gallery.score(body, name),
                   'why': lambda: gallery.why(body, name),
                   'who_when': lambda: gallery.who_when(body)}
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
            self.refuse(404, 'Open the address that the server printed.')
        else:
            return parts[2]

    def name(self):
        return parse_qs(self.path.partition('?')[2]).get('name', [None])[0]

    def read_body(self):
        """The body of a request. If it has no length, or is too large, says so and returns None."""
        length = self.headers.get('Content-Length', '')
        if not length.isdecimal() or self.headers.get('Transfer-Encoding'):
            return self.refuse(411, 'The length of the recording is missing.')
        if len(length) > 12 or int(length) > MAX_BYTES:  # int() refuses thousands of digits
            return self.refuse(413, 'This recording is too long. Ten minutes are possible.', code='tooLong',
                               values={'seconds': MAX_BYTES // 32000})
        body = self.rfile.read(int(length))
        if len(body) == int(length):
            return body
        self.close_connection = True  # it was cut

    def answer(self, ask):
        """Reply with what a question to the gallery gives, or with what was wrong."""
        try:
            with self.server.lock:
                content = json.dumps(ask()).encode()
        except (LabError, OSError) as error:
            self.refuse(422 if isinstance(error, NoSpeech) else 400, **told(error))
        except Exception:
            self.refuse(500, 'Something went wrong in the server: look at its window.')
            raise  # handle_error prints the traceback there
        else:
            self.reply(200, content)

    def refuse(self, status, error, **code):
        """Reply with a sentence, and with its code and values if the page has a translation."""
        self.close_connection = True  # the body may not have been read
        self.reply(status, json.dumps({'error': error, **code}).encode())

    def reply(self, status, content, kind='application/json', policy="default-src 'none'"):
        self.send_response(status)
        headers = {'Content-Type': kind, 'Content-Length': len(content), 'Cache-Control': 'no-store',
                   'Content-Security-Policy': policy, 'X-Content-Type-Options': 'nosniff',
                   'Referrer-Policy': 'no-referrer'}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Say nothing: a line for every half second would hide what matters."""


def main(
        # Settings
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        test_dir='feat_own/test',  # where the recordings go: DIR/<name>/enroll.wav
        embedding_dir=EMBEDDING_DIR,  # where the enrolment goes
        port=0,  # of the address; 0: any that is free
        open_browser=True,  # open the page in the browser
        use_cuda=True,  # use a GPU if there is one
):
    check_settings(main, locals(), cp_num=EPOCH_OR_NAME, port=PORT)
    model = load_model(use_cuda, log_dir, cp_num, None, None)
    gallery = Gallery(model, test_dir, embedding_dir, use_cuda)
    server = PageServer(gallery, port)
    print('Open this address in a browser on this computer (Ctrl-C ends the server):\n%s' % server.address,
          flush=True)
    if open_browser:
        webbrowser.open(server.address)
    with server:
        server.serve_forever()


if __name__ == '__main__':
    run_script(main)
