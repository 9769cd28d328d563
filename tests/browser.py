"""A real browser for the tests of the page: Chromium without a window, if it is installed.

Chromium is told what to do in its DevTools protocol, over two pipes, so that no further package is needed.
"""
import base64
import json
import os
import shutil
import subprocess

PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome']
WAIT = 120  # seconds; a condition that takes longer has failed


def find_browser():
    """The name of the program, or None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page in Chromium. Its microphone hears the wav file `microphone`, which may be written anew."""

    def __init__(self, folder, microphone):
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()
        # It reads descriptor 3 and writes descriptor 4
        command = '%s "$@" 3<&%d 4>&%d' % (find_browser(), to_browser, from_browser)
        options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe',
                   '--no-first-run',
                   '--disable-dev-shm-usage', '--user-data-dir=%s' % folder, '--use-fake-ui-for-media-stream',
                   '--use-fake-device-for-media-stream', '--use-file-for-fake-audio-capture=%s' % microphone,
                   '--lang=en', 'about:blank']
        self.process = subprocess.Popen(['bash', '-c', 'exec ' + command, 'browser', *options],
                                        pass_fds=[to_browser, from_browser], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(to_browser), os.close(from_browser)
        self.number, self.buffer, self.session, self.complaints = 0, b'', None, []
        target = next(one for one in self.call('Target.getTargets')['targetInfos'] if one['type'] == 'page')
        self.session = self.call('Target.attachToTarget', targetId=target['targetId'],
                                 flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'DOM', 'Log'):
            self.call('%s.enable' % domain)
        self.call('Emulation.setScrollbarsHidden', hidden=True)  # they are no part of a picture, but take its width

    def call(self, method, **parameters):
        """Send one command, and return its result."""
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': parameters}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b'\0')
        while True:
            said = self.read()
            if said.get('method') == 'Runtime.exceptionThrown' or (
                    said.get('method') == 'Log.entryAdded' and said['params']['entry']['level'] == 'error'):
                self.complaints.append(json.dumps(said['params']))
            if said.get('id') == self.number:
                assert 'error' not in said, said['error']
                return said['result']

    def read(self):
        while b'\0' not in self.buffer:
            content = os.read(self.read_end, 1 << 20)
            assert content, 'the browser has ended'
            self.buffer += content
        message, _, self.buffer = self.buffer.partition(b'\0')
        return json.loads(message)

    def ask(self, expression):
        """The value of a JavaScript expression, or of what it promises."""
        said = self.call('Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True,
                         userGesture=True)
        assert 'exceptionDetails' not in said, said
        return said['result'].get('value')

    def wait(self, condition):
        """Wait until a JavaScript condition holds."""
        holds = self.ask('''new Promise(done => {
            const end = Date.now() + %d, look = () => { (%s) ? done(true) :
            Date.now() > end ? done(false) : setTimeout(look, 20); };
            look(); })''' % (1000 * WAIT, condition))
        assert holds, condition

    def open(self, address):
        self.call('Page.navigate', url=address)
        self.wait('document.body && document.body.dataset.ready === "yes"')

    def leave(self):
        """Leave the page: nothing of it goes on."""
        self.call('Page.navigate', url='about:blank')
        self.wait('location.href === "about:blank"')

    def click(self, selector):
        """Click on an element, as a person who can see it."""
        self.ask('document.querySelector(%r).scrollIntoView({block: "center"})' % selector)
        box = self.ask('(() => { const box = document.querySelector(%r).getBoundingClientRect(); '
                       'return [box.x + box.width / 2, box.y + box.height / 2]; })()' % selector)
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=box[0], y=box[1], button='left', clickCount=1)

    def press(self, key):
        """Press a key such as Tab or Enter."""
        codes = {'Tab': (9, ''), 'Enter': (13, '\r'), ' ': (32, ' '), 'Escape': (27, '')}
        code, text = codes[key]
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code='Space' if key == ' ' else key,
                      text=text,
                      windowsVirtualKeyCode=code)

    def type(self, text):
        self.call('Input.insertText', text=text)

    def give_file(self, selector, filename):
        """Choose a file in an <input type=file>. A file that is dropped on it does the same."""
        document = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=document, selector=selector)['nodeId']
        self.call('DOM.setFileInputFiles', nodeId=node, files=[str(filename)])

    def text(self, selector):
        return self.ask('document.querySelector(%r).textContent' % selector)

    def picture(self, filename, width, *, dark=False, height=900):
        """Save the whole page as a PNG file, as it looks at this width."""
        self.call('Emulation.setEmulatedMedia',
                  features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
                  mobile=False)
        self.ask('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
        content = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True)['data']
        with open(filename, 'wb') as f:
            f.write(base64.b64decode(content))

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.write_end), os.close(self.read_end)
