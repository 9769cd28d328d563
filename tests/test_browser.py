"""The page in a real browser, whose microphone hears demo voices. Skipped where Chromium is not installed."""
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from browser import Browser, find_browser
from conftest import PROJECT
from model import load_model
from own_voice import gallery, page

pytestmark = pytest.mark.skipif(find_browser() is None,
                                reason='Chromium is not installed (apt install chromium)')
WHY_IS_SHOWN = 'document.body.dataset.busy === "no" && !document.querySelector(".why").hidden'


@pytest.fixture(scope='module')
def started(tmp_path_factory):
    """(browser, microphone): Chromium, which takes seconds to start, and the file that its microphone hears."""
    folder = tmp_path_factory.mktemp('browser')
    browser = Browser(folder / 'profile', folder / 'microphone.wav')
    yield browser, folder / 'microphone.wav'
    browser.close()


@pytest.fixture(scope='module')
def model():
    return load_model(False, str(PROJECT / 'model_saved'), 'voices', None, None)


@pytest.fixture
def served(lab, six_voices, started, model):
    """(browser, server, dict name -> folder of wavs, microphone): an open page of a new server. Nobody is
    enrolled."""
    voices = {folder.name: folder for folder in sorted((six_voices / 'test_wavs').iterdir())
              if folder.is_dir()}
    browser, microphone = started
    speak(microphone, next(iter(voices.values())) / 'enroll.wav')
    with page.PageServer(gallery.Gallery(model, 'own', 'enrolled', use_cuda=False)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        try:
            browser.complaints.clear()
            browser.open(server.address)
            yield browser, server, voices, microphone
            assert browser.complaints == []
        finally:
            try:
                browser.call('Network.disable')  # a test may have cut the network
                browser.leave()
            finally:
                server.shutdown()
                thread.join()


def speak(microphone, wav_file):
    """Let the microphone hear this file from now on."""
    microphone.write_bytes(wav_file.read_bytes())


def enrol_file(browser, name, filename):
    browser.ask('document.querySelector("#enrol-name").value = ""')
    browser.click('#enrol-name')
    browser.type(name)
    browser.give_file('#enrol-file', filename)
    browser.wait('document.body.dataset.busy === "no" && [...document.querySelectorAll("#speakers '
                 'button")].some('
                 'button => button.dataset.name === %r)' % name)


def pictures_of(browser, name):
    """Save how the page looks, if somebody wants to see it.

    PICTURES=<folder> python -m pytest tests/test_browser.py
    """
    if os.environ.get('PICTURES'):
        for width in (400, 1400):
            for dark in (False, True):
                browser.picture('%s/%s_%d_%s.png' % (os.environ['PICTURES'], name, width,
                                                     'dark' if dark else 'light'),
                                width, dark=dark)


def test_the_microphone_and_dropped_files(served):
    browser, server, voices, microphone = served
    first, second, third = list(voices)[:3]

    # Enrol one voice by the microphone, and one by a file
    browser.click('#enrol-name')
    browser.type(first)
    browser.click('#enrol-record')
    browser.wait('document.querySelector("#enrol-level").checkVisibility()')
    assert browser.ask('[...document.querySelectorAll(".record")].filter(one => !one.disabled).map(one => '
                       'one.id)') == [
        'enrol-record']
    assert browser.ask('document.querySelector("#enrol-name").disabled')  # it is the name of this recording
    browser.wait('document.querySelector("#speakers button")')
    assert not browser.ask('$("enrol-name").disabled || $("enrol-name").value')
    assert server.gallery.people[first]['facts'][0]['seconds'] > 3
    enrol_file(browser, second, voices[second] / 'enroll.wav')
    assert Path('own', first, 'enroll.wav').is_file() and list(server.gallery.people) == [first, second]

    # Each is recognised: live by the microphone, and by a file. A third one is not
    speak(microphone, voices[first] / 'test.wav')
    browser.click('#who-record')
    browser.wait('document.querySelector("#who-bars li") && '
                 'document.querySelector("#who-answer").textContent')
    browser.click('#who-record')
    browser.wait(WHY_IS_SHOWN)
    browser.give_file('#who-file', voices[second] / 'test.wav')
    browser.wait('document.body.dataset.busy === "no" && $("who-answer").textContent === %r' % second)
    ranking = server.gallery.score((voices[second] / 'test.wav').read_bytes())['ranking']
    assert [one['name'] for one in ranking] == browser.ask(
        '[...document.querySelectorAll("#who-bars strong")].map(one => one.textContent)')
    # The same recording gives the same number
    assert '%.2f' % ranking[0]['score'] in browser.text('#who-bars')

    # Is it them? Both answers, and another threshold
    browser.ask('(() => { const one = document.querySelector("#verify-claimed"); one.value = %r; '
                'one.dispatchEvent(new Event("change")); })()' % second)
    browser.wait('document.body.dataset.busy === "no" && $("verify-verdict").textContent === "Accept"')
    browser.ask('(() => { const one = document.querySelector("#verify-threshold"); one.value = 1; '
                'one.dispatchEvent(new Event("input")); })()')
    assert browser.text('#verify-verdict') == 'Reject' and '100 of 100' in browser.text('#verify-rates')
    browser.click('#verify-reset')
    browser.ask('document.querySelector("#verify-claimed").value = %r, drawVerdict()' % first)
    assert browser.text('#verify-verdict') == ''  # the answer is about another name
    browser.ask('(() => { const one = document.querySelector("#verify-claimed"); one.value = %r; '
                'one.dispatchEvent(new Event("change")); })()' % first)
    browser.wait('document.body.dataset.busy === "no" && $("verify-verdict").textContent === "Reject"')
    pictures_of(browser, 'english')

    # Korean, and back
    browser.click('#language-ko')
    assert browser.ask('document.documentElement.lang') == 'ko' and '등록' in browser.text('#enrol-title')
    pictures_of(browser, 'korean')
    browser.click('#language-en')

    # Delete one: the page asks first, and names all that will go, even what somebody has put there meanwhile
    Path('own', first, 'test.wav').write_bytes(b'x')
    browser.click('#speakers button[data-name=%s]' % repr(first))
    browser.wait('document.querySelector("#delete-dialog").open')
    assert browser.ask('[...$("delete-list").children].map(one => one.textContent).slice(0, -1)') == [
        'own/%s/enroll.wav' % first, 'own/%s/test.wav' % first]
    browser.click('#delete-cancel')
    browser.wait('!document.querySelector("#delete-dialog").open')
    assert Path('own', first).exists()
    browser.click('#speakers button[data-name=%s]' % repr(first))
    browser.wait('document.querySelector("#delete-dialog").open')
    browser.click('#delete-confirm')
    browser.wait('document.body.dataset.busy === "no" && document.querySelectorAll("#speakers '
                 'button").length === 1')
    assert not Path('own', first).exists() and list(server.gallery.people) == [second]


def test_a_stranger_is_unknown(served):
    browser, server, voices, _ = served
    first, second = list(voices)[:2]
    enrol_file(browser, first, voices[first] / 'enroll.wav')
    score = server.gallery.score((voices[second] / 'test.wav').read_bytes())['ranking'][0]['score']
    server.gallery.description = {**server.gallery.description, 'eer': score + 0.001}
    browser.give_file('#who-file', voices[second] / 'test.wav')
    browser.wait('document.querySelector("#who-answer").textContent === "unknown"')


def test_who_spoke_when(served):
    """Four people are enrolled; the first two talk in turn."""
    browser, server, voices, _ = served
    for name in list(voices)[:4]:
        enrol_file(browser, name, voices[name] / 'enroll.wav')
    first, second = list(voices)[:2]
    turns = [wavfile.read(voices[name] / 'test.wav')[1] for name in (first, second, first)]
    wavfile.write('talk.wav', 16000, np.concatenate(turns))
    browser.give_file('#who-file', voices[second] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    browser.give_file('#when-file', Path('talk.wav').resolve())
    browser.wait('document.body.dataset.busy === "no" && document.querySelector("#when-table td")')
    names = browser.ask('[...document.querySelectorAll("#when-table td:last-child")].map(cell => '
                        'cell.textContent)')
    known = [name for name in names if name in voices]
    assert known[0] == known[-1] == first and second in known
    pictures_of(browser, 'page')

    # Each who speaks has a colour of their own, in the order in which they do
    browser.ask('result.when.bands = ["g", "unknown", "a", null, "g", "c"].map(name => ({name, begin: 0, '
                'end: 1}))')
    assert browser.ask('["g", "a", "c"].map(bandColour)') == browser.ask('BAND_COLOURS.slice(0, 3)')
    browser.click('#speakers button[data-name=%s]' % repr(first))
    browser.wait('document.querySelector("#delete-dialog").open')
    browser.click('#delete-confirm')
    browser.wait('document.body.dataset.busy === "no" && document.querySelectorAll("#speakers '
                 'button").length === 3')
    assert browser.ask('document.querySelector("#when-result").hidden')  # it may name them


def test_an_answer_stands_beside_its_own_recording_alone(served):
    browser, _, voices, _ = served
    first, second = list(voices)[:2]
    enrol_file(browser, first, voices[first] / 'enroll.wav')
    browser.give_file('#who-file', voices[first] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    # What stands there already is not said again
    assert browser.ask('(() => { const line = $("who-status").firstChild; drawAll(); '
                       'return line.textContent !== "" && line === $("who-status").firstChild; })()')
    # An answer that comes after a newer question is dropped
    assert browser.ask('(async () => { const one = examine(recording, "who"); forgetScore(); await one; '
                       'return result.score === null && result.why === null; })()')
    browser.give_file('#who-file', voices[first] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    # A recording that cannot be read leaves nothing of the one before
    Path('no sound.m4a').write_bytes(b'not a sound')
    browser.give_file('#who-file', Path('no sound.m4a').resolve())
    browser.wait('document.body.dataset.busy === "no" && $("who-status").textContent.includes("cannot read '
                 'this file")')
    assert browser.text('#who-answer') == browser.text('#who-bars') == browser.text('#verify-verdict') == ''
    assert browser.ask('recording === null && document.querySelector(".why").hidden')


def test_a_microphone_that_cannot_be_heard_is_released(served):
    browser, _, _, _ = served
    browser.ask('''(() => { const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async wish => window.opened = await open(wish);
        AudioContext.prototype.createScriptProcessor = () => { throw new Error('no such node'); }; })()''')
    browser.click('#enrol-name')
    browser.type('me')
    browser.click('#enrol-record')
    browser.wait('$("enrol-status").textContent.includes("no such node")')
    assert browser.ask('window.opened.getTracks().every(track => track.readyState === "ended")')
    assert browser.ask('recorder === null && [...document.querySelectorAll(".record")].every(one => '
                       '!one.disabled)')


def test_labels_of_the_map_do_not_hide_each_other(served):
    browser, _, _, _ = served
    taken = browser.ask('(() => { const taken = [], pen = {measureText: () => ({width: 50}), fillText() {}}; '
                        'for (let i = 0; i < 4; i++) placeLabel(pen, "name", 200, 100, 400, taken); return '
                        'taken; })()')
    assert [(one['left'], one['top']) for one in taken] == [(175, 74), (175, 110), (210, 92), (140, 92)]


def test_both_languages_say_everything(served):
    browser, _, _, _ = served
    keys = browser.ask('Object.keys(TEXTS.en)')
    assert sorted(keys) == sorted(browser.ask('Object.keys(TEXTS.ko)'))
    sources = ''.join((PROJECT / 'own_voice' / name).read_text() for name in ('gallery.py', 'page.py'))
    codes = re.findall(r"coded\('(\w+)'|'code': '(\w+)'|code='(\w+)'| else '(\w+)'\)", sources)
    codes = {code for of_one in codes for code in of_one if code}
    assert codes == {'badName', 'rename', 'spelling', 'unreadable', 'tooShort', 'tooLong', 'noSpeech',
                     'otherBandwidth'}
    assert codes <= set(keys)
    # The same holes for values
    texts = browser.ask('TEXTS')
    holes = {code: {key: set(re.findall(r'{\w+}',
                                        words)) for key, words in texts[code].items()} for code in texts}
    assert holes['en'] == holes['ko']


def test_mistakes_are_explained_beside_the_button(served):
    browser, server, voices, _ = served
    browser.click('#enrol-record')
    browser.wait('document.querySelector("#enrol-status").textContent.includes("Type the name")')
    Path('no sound.m4a').write_bytes(b'not a sound')
    browser.ask('document.querySelector("#enrol-name").value = "me"')
    browser.give_file('#enrol-file', Path('no sound.m4a').resolve())
    browser.wait('document.querySelector("#enrol-status").textContent.includes("cannot read this file")')
    browser.ask('document.querySelector("#enrol-name").value = "a/b"')
    browser.give_file('#enrol-file', list(voices.values())[0] / 'enroll.wav')
    browser.wait('document.querySelector("#enrol-status").textContent.includes("This name cannot be used")')
    browser.click('#language-ko')
    assert '이 이름은 쓸 수 없습니다. 60자 이하로' in browser.text('#enrol-status')
    browser.click('#language-en')
    browser.ask('navigator.mediaDevices.getUserMedia = () => { throw new Error("it was opened"); }')
    browser.ask('$("enrol-name").value = "unknown"')
    browser.click('#enrol-record')  # refused before anybody speaks
    browser.wait('recorder === null && $("enrol-status").textContent.includes("This name")')
    Path('own/broken').mkdir(parents=True)
    Path('own/broken/enroll.wav').write_bytes(b'no wav')
    browser.ask('work("state", async () => showState(await ask("state")))')
    assert 'Not enrolled: broken. own/broken/enroll.wav: not a wav file' in browser.text('#skipped')
    browser.ask('document.querySelector("#enrol-name").value = "<b>x"')
    assert os.listdir('own') == ['broken']
    browser.complaints.clear()  # the browser itself lists refused requests


def test_by_keyboard_alone(served):
    """Tab reaches everything that can be used, in the order of the page, and each has a name for a screen
    reader."""
    browser, _, voices, _ = served
    enrol_file(browser, 'me', list(voices.values())[0] / 'enroll.wav')
    expected = browser.ask('''[...document.querySelectorAll('button, input, select')].filter(one =>
        one.checkVisibility() && !one.closest('dialog')).map(one => one.id || one.dataset.name)''')
    browser.ask('document.activeElement.blur(), window.getSelection().removeAllRanges()')
    browser.ask('document.body.tabIndex = -1, document.body.focus()')
    reached = []
    for _ in range(3 * len(expected)):
        browser.press('Tab')
        reached.append(browser.ask('document.activeElement.id || document.activeElement.dataset.name || ""'))
    reached = [name for name in dict.fromkeys(reached) if name in expected]
    assert reached == [name for name in expected if name in reached] and set(reached) == set(expected)
    tree = browser.call('Accessibility.getFullAXTree')['nodes']
    unnamed = [node['role']['value'] for node in tree if not node.get('ignored')
               and node['role']['value'] in (
        'button', 'textbox', 'combobox', 'slider', 'img', 'canvas') and not node.get('name', {}).get('value')]
    assert unnamed == []
    browser.ask('document.querySelector("#speakers button").focus()')
    browser.press('Enter')
    browser.wait('document.querySelector("#delete-dialog").open')
    browser.press('Escape')
    browser.wait('!document.querySelector("#delete-dialog").open')
    assert Path('own/me/enroll.wav').exists()


def test_a_server_that_has_stopped_is_named(served):
    browser, _, voices, _ = served
    browser.call('Network.enable')
    browser.call('Network.emulateNetworkConditions', offline=True, latency=0, downloadThroughput=-1,
                 uploadThroughput=-1)
    browser.ask('document.querySelector("#enrol-name").value = "me"')
    browser.give_file('#enrol-file', list(voices.values())[0] / 'test.wav')
    browser.wait('document.querySelector("#enrol-status").textContent.includes("The server has stopped")')
    browser.complaints.clear()
