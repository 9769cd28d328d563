"""The page in a real browser, whose microphone hears demo voices. Skipped where Chromium is not installed."""
import json
import os
import re
import threading
import time
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from browser import Browser, find_browser
from conftest import PROJECT
from model import load_model
from own_voice import enrol, gallery, page
from support.enrolments import description_for

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
    people = gallery.Gallery(model, 'own', 'enrolled', use_cuda=False)
    # Synthetic voices sound alike to a model of people: so the highest score is named, and nothing is doubted
    people.description = {**people.description, 'answer_gap': -1, 'answer_margin': 0}
    people.doubt = lambda *about: None
    with page.PageServer(people) as server:
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
        for width, scheme, language in product((360, 960, 1400), ('light', 'dark'), ('ko', 'en')):
            browser.click('#language-%s' % language)
            in_korean = '_ko' if language == 'ko' else ''
            browser.picture('%s/%s_%d_%s%s.png' % (os.environ['PICTURES'], name, width, scheme, in_korean), width,
                            dark=scheme == 'dark')


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
    browser.wait('/[(][0-5] s left/.test($("enrol-record").textContent)')  # enough was heard
    browser.click('#enrol-record')
    browser.wait('document.querySelector("#speakers button")')
    assert not browser.ask('$("enrol-name").disabled || $("enrol-name").value')
    assert server.gallery.people[first]['files'][0]['seconds'] > 3
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
    # What it means, in one room and in two places; for a model that does not know these, how many pairs score so
    said = browser.text('#verify-scores')
    assert re.search(r'is of one speaker in more than 99 of 100 cases if both recordings are of one room', said)
    assert browser.ask('meaning({score: 0.5, pairs: 1, conditions: {one_room: 0.004, two_places: 0.376}})'
                       ).startswith('Such a score on %s s of speech is of one speaker in less than 1 of 100 cases if '
                                    % re.search(r'on (\d+\.\d) s', said).group(1))
    assert 'and in 38 of 100 if' in browser.ask(
        'meaning({score: 0.5, pairs: 1, conditions: {one_room: 0, two_places: 0.376}})')
    assert browser.ask('meaning({score: 0.5, pairs: 1, conditions: {}})').startswith(
        'In the recordings that this model was')
    # Of fewer than 100 pairs, how many there are
    few = 'state = {...state, n_own: 3, n_others: 12, own: [...Array(101).keys()].map(i => 0.5 + i / 200), ' \
        'others: [...Array(101).keys()].map(i => i / 100)}'
    assert browser.ask('(() => { const before = state; %s; const found = countsAt(0.75); state = before; '
                       'return found; })()' % few) == {'own': 3, 'others': 12, 'rejected': '2', 'accepted': '3'}
    browser.click('#verify-reset')
    # The threshold is that of the length, as in own_voice.compare, and not the one for any length
    of_length = description_for(server.gallery.description, server.gallery.people[first]['files'][0]['seconds'])['eer']
    assert 'threshold %.4f' % of_length in browser.text('#verify-scores')
    assert of_length > server.gallery.description['eer']
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
    browser.wait('document.body.dataset.busy === "no" && $("speakers").children.length '
                 '=== 1')
    assert not Path('own', first).exists() and list(server.gallery.people) == [second]


def test_a_stranger_is_unknown(served):
    browser, server, voices, _ = served
    first, second = list(voices)[:2]
    enrol_file(browser, first, voices[first] / 'enroll.wav')
    score = server.gallery.score((voices[second] / 'test.wav').read_bytes())['ranking'][0]['score']
    server.gallery.description = {**server.gallery.description, 'eer': score + 0.001,
                                  'answer_slack': 0}
    browser.give_file('#who-file', voices[second] / 'test.wav')
    browser.wait('document.querySelector("#who-answer").textContent === "unknown"')


def test_who_spoke_when(served):
    """Four people are enrolled; the first two talk in turn."""
    browser, server, voices, _ = served
    server.gallery.read_thresholds()  # with the rules as they are: these four sound different enough
    for name in list(voices)[:4]:
        enrol_file(browser, name, voices[name] / 'enroll.wav')
    first, second = list(voices)[:2]
    turns = [wavfile.read(voices[name] / 'test.wav')[1] for name in (first, second, first)]
    wavfile.write('talk.wav', 16000, np.concatenate(turns))
    browser.give_file('#who-file', voices[second] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    browser.give_file('#when-file', Path('talk.wav').resolve())
    browser.wait('document.body.dataset.busy === "no" && document.querySelector("#when-table td")')
    names = browser.ask('[...document.querySelectorAll("#when-table td:nth-of-type(2)")].map(cell => '
                        'cell.textContent)')
    known = [name for name in names if name in voices]
    assert known[0] == known[-1] == first and second in known
    pictures_of(browser, 'page')

    # Each who speaks has a colour of their own, in the order in which they do
    browser.ask('result.when.bands = ["g", "a", "g", "c"].map(name => ({kind: "known", names: [name], begin: 1, '
                'end: 2}))')
    assert browser.ask('[0, 1, 3].map(i => bandColour(result.when.bands[i]))') == browser.ask(
        'BAND_COLOURS.slice(0, 3)')
    assert browser.ask('rttmOf([{kind: "known", names: ["Kim Minji"], begin: 1, end: 2.5}, '
                       '{kind: "not sure", names: ["a"], begin: 2.5, end: 3}], "my talk.v2.wav")') == (
        'SPEAKER my_talk.v2 1 1.00 1.50 <NA> <NA> Kim_Minji <NA> <NA>\n')
    assert browser.ask('result.when.filename') == 'talk.wav'
    # A click on a band plays it, to its end
    browser.ask('window.played = [], HTMLMediaElement.prototype.play = function () { '
                'played.push(Math.round(this.currentTime)); return Promise.resolve(); }')
    browser.ask('$("when-canvas").onclick({offsetX: $("when-canvas").clientWidth * 3 / result.when.seconds})')
    assert browser.ask('played') == [3]
    # All bands are from 1 to 2 s now; the last one is what a click at 3 s is not in
    browser.ask('window.paused = 0, HTMLMediaElement.prototype.pause = function () { paused += 1; }')
    browser.ask('playFrom(1.5), $("when-audio").currentTime = 1.9, followAudio()')
    assert browser.ask('[playsUntil, paused]') == [2, 0]
    browser.ask('$("when-audio").currentTime = 2.1, followAudio(), followAudio()')
    assert browser.ask('[playsUntil === Infinity, paused]') == [True, 1]
    browser.click('#speakers button[data-name=%s]' % repr(first))
    browser.wait('document.querySelector("#delete-dialog").open')
    browser.click('#delete-confirm')
    browser.wait('document.body.dataset.busy === "no" && $("speakers").children.length '
                 '=== 3')
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
    place = ('((n, must) => { const taken = [], words = [], lines = [], pen = {measureText: () => ({width: 50}), '
             'fillText: word => words.push(word), beginPath() {}, stroke() {}, moveTo: (...at) => lines.push(at), '
             'lineTo: (...at) => lines.push(at)}; for (let i = 0; i < n; i++) placeLabel(pen, "a name of 20 letters", '
             '200, 100, 400, taken, must); return {taken, words, lines}; })')
    taken = browser.ask(place + '(4).taken')
    assert [(one['left'], one['top']) for one in taken] == [(175, 74), (175, 110), (210, 92), (140, 92)]
    # A fifth stands further away, with a line from its dot to its edge. A long one is shortened
    fifth = browser.ask(place + '(5)')
    x, y = fifth['lines'][1]
    assert np.hypot(*np.subtract(fifth['lines'][0], (200, 100))) == pytest.approx(9)
    assert 9 < np.hypot(x - 200, y - 100) < 40
    assert fifth['taken'][4]['left'] <= x <= fifth['taken'][4]['left'] + 50
    assert y in (fifth['taken'][4]['top'], fifth['taken'][4]['top'] + 16)
    assert set(fifth['words']) == {'a name of 20 le…'}
    # Where nothing near is free, there is no label, but for the answer
    assert 5 < len(browser.ask(place + '(30).words')) < 30 == len(browser.ask(place + '(30, true).words'))
    all_taken = browser.ask(place + '(30, true).taken')
    assert all(abs(one['left'] - other['left']) >= 50 or abs(one['top'] - other['top']) >= 16
               for one, other in combinations(all_taken, 2))
    assert all(2 <= one['left'] <= 348 and 2 <= one['top'] <= 282 for one in all_taken)


def test_both_languages_say_everything(served):
    browser, _, _, _ = served
    keys = browser.ask('Object.keys(TEXTS.en)')
    assert sorted(keys) == sorted(browser.ask('Object.keys(TEXTS.ko)'))
    sources = ''.join((PROJECT / 'own_voice' / name).read_text() for name in ('enrol.py', 'gallery.py', 'page.py'))
    codes = re.findall(r"coded\('(\w+)'|'code': '(\w+)'|code='(\w+)'| else '(\w+)'\)", sources)
    codes = {code for of_one in codes for code in of_one if code} | set(enrol.DOES_NOT_FIT)
    assert codes == {'badName', 'rename', 'spelling', 'unreadable', 'tooShort', 'tooLong', 'noSpeech', 'nobody',
                     'otherBandwidth', 'noSuchFile', 'onlyVector', 'notEnrolled', 'nearer', 'doesNotFit',
                     'secondName', 'fewRecordings', 'sameRecording', 'taken', 'mistake', 'other'}
    assert codes <= set(keys)
    # The same holes for values
    texts = browser.ask('TEXTS')
    holes = {code: {key: set(re.findall(r'{\w+}',
                                        words)) for key, words in texts[code].items()} for code in texts}
    assert holes['en'] == holes['ko']
    # Where the server is another computer, the page does not promise that recordings stay
    assert browser.ask('$("privacy").dataset.text') == 'privacy'
    assert browser.ask('privacyAt("x-8000-colab.googleusercontent.com")') == 'proxied'


def test_mistakes_are_explained_beside_the_button(served):
    browser, server, voices, _ = served
    browser.click('#enrol-record')
    browser.wait('document.querySelector("#enrol-status").textContent.includes("Type the name")')
    Path('no sound.m4a').write_bytes(b'not a sound')
    browser.ask('document.querySelector("#enrol-name").value = "me"')
    browser.give_file('#enrol-file', Path('no sound.m4a').resolve())
    browser.wait('document.querySelector("#enrol-status").textContent.includes("cannot read this file")')
    Path('a text.wav').write_text('no sound')
    browser.give_file('#enrol-file', Path('a text.wav').resolve())
    browser.wait('$("enrol-status").textContent.includes("This is not a recording that can be read")')
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
    browser.ask('document.querySelector("#speakers button[data-name=me]").focus()')
    names = browser.ask('[...document.querySelectorAll("button, input")].filter(one => one.checkVisibility()).map('
                        'one => one.getAttribute("aria-label") || one.textContent || one.id)')
    assert len(set(names)) == len(names)
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
    browser.call('Network.disable')


def pretend_people(server, n):
    """Enrol n people whose d-vectors are made up, some with long names. Returns their names."""
    names = ['%02d %s' % (i, 'a rather long name of somebody ' * (i % 2) + 'x' * (i % 3)) for i in range(n)]
    draw = np.random.default_rng(0).standard_normal((n, server.gallery.model.fc0.out_features)).astype(np.float32) + 1
    facts = {'seconds': 12.0, 'level': -40, 'noise': 40, 'bandwidth': 7000, 'clipped': 0, 'advice': [],
             'sure': 7000}
    server.gallery.read_person = lambda folder: {
        'embedding': torch.from_numpy(draw[[int(folder.name[:2])]]),
        'origin': {'LEVEL_DBFS': server.gallery.model.settings['level'], 'bandwidth': 7000},
        'files': [{'name': 'enroll.wav', 'vector': draw[int(folder.name[:2])], **facts}]}
    for name in names:
        folder = Path('own', name.strip())
        folder.mkdir(parents=True)
        (folder / 'enroll.wav').write_bytes(b'x')
    return names


@pytest.mark.parametrize('n', [1, 3, 10, 40])
def test_nothing_is_wider_than_the_window(served, n):
    browser, server, voices, _ = served
    names = pretend_people(server, n)
    browser.open(server.address)
    browser.give_file('#who-file', list(voices.values())[0] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    assert browser.ask('$("who-bars").children.length') == min(n, 5)
    assert browser.ask('$("who-all").hidden') == (n <= 5)
    if n > 5:
        browser.click('#who-all')
        assert browser.ask('$("who-bars").children.length') == n
    browser.ask('$("verify-claimed").value = %r, drawVerdict()' % names[0].strip())
    for width in (360, 960, 1400):
        browser.call('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1,
                     mobile=False)
        assert browser.ask("""[...document.querySelectorAll('body *')].filter(one => one.checkVisibility() &&
            !one.closest('.scroll') && one.getBoundingClientRect().right > innerWidth + 1).map(
            one => one.tagName + one.id)""") == [], width
        assert browser.ask('document.documentElement.scrollWidth <= innerWidth'), width
        least = browser.ask('Math.min(...[...document.querySelectorAll(".why")].map(one => one.clientWidth))')
        assert least > 250, width
        assert browser.ask('[...document.querySelectorAll(".names span")].every(one => '
                           'one.offsetHeight < 30)'), width  # a score is not broken into two lines
    pictures_of(browser, 'people_%d' % n)


def test_a_newcomer_sees_no_numbers_before_a_recording(served):
    browser, _, voices, _ = served
    assert browser.ask('["model", "verify-more", "why-cosines", "when-result", "room-find"].every('
                       'id => !$(id).checkVisibility())')
    enrol_file(browser, 'me', list(voices.values())[0] / 'enroll.wav')
    assert browser.text('#enrol-status').startswith('me is enrolled.')
    assert browser.ask('$("model").checkVisibility()') and not browser.ask('$("verify-more").checkVisibility()')


def test_enter_records_and_nothing_old_stands_beside_it(served):
    browser, _, voices, _ = served
    first = list(voices)[0]
    enrol_file(browser, first, voices[first] / 'enroll.wav')
    browser.ask('$("verify-claimed").value = %r' % first)
    browser.give_file('#verify-file', voices[first] / 'test.wav')
    browser.wait('document.body.dataset.busy === "no" && $("verify-verdict").textContent')
    # An answer that comes late does not replace what is said about the recording
    browser.ask('window.late = work("verify", async () => { await new Promise(done => window.answer = done); '
                'throw new Error("late"); }), 0')
    browser.click('#verify-record')
    browser.wait('$("verify-record").classList.contains("on")')
    assert browser.text('#verify-verdict') == browser.text('#who-answer') == ''
    assert browser.ask('answer(), late.then(() => $("verify-status").textContent)') == 'Recording: speak now.'
    browser.click('#verify-record')
    browser.wait('recorder === null && document.body.dataset.busy === "no"')
    browser.click('#enrol-name')
    browser.type('me')
    browser.press('Enter')
    browser.wait('$("enrol-record").classList.contains("on")')
    browser.click('#enrol-record')
    browser.wait('recorder === null && document.body.dataset.busy === "no"')
    browser.complaints.clear()  # so short a recording is refused, and the browser lists refused requests


def test_a_wav_is_sent_once_and_as_it_is(served):
    browser, server, voices, _ = served
    first = list(voices)[0]
    enrol_file(browser, first, voices[first] / 'enroll.wav')
    assert Path('own', first, 'enroll.wav').read_bytes() == (voices[first] / 'enroll.wav').read_bytes()
    browser.ask('window.asked = [], window.ask = (before => (...all) => { asked.push(all[0]); '
                'return before(...all); })(ask)')
    browser.give_file('#who-file', voices[first] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    assert browser.ask('asked') == ['score']


def test_several_files_a_doubt_another_name_and_one_taken_back(served):
    browser, server, voices, _ = served
    first, second = list(voices)[:2]
    browser.click('#enrol-name')
    browser.type('me')
    document = browser.call('DOM.getDocument')['root']['nodeId']
    node = browser.call('DOM.querySelector', nodeId=document, selector='#enrol-file')['nodeId']
    browser.call('DOM.setFileInputFiles', nodeId=node, files=[
        str(voices[first] / name) for name in ('enroll.wav', 'test.wav')])
    browser.wait('document.body.dataset.busy === "no" && document.querySelectorAll("#speakers summary").length === 1')
    # Each can be played and stopped, and its sound is there. A screen reader hears which one it is
    assert browser.ask('[...document.querySelectorAll("#speakers audio")].map(one => one.controls && one.ariaLabel)'
                       ) == ['Recording 1 of me', 'Recording 2 of me']
    assert browser.ask('fetch(document.querySelector("#speakers audio").src).then(answer => answer.status)') == 200
    assert [one['name'] for one in server.gallery.people['me']['files']] == ['enroll.wav', 'enroll2.wav']
    # A doubt: no, then yes
    server.gallery.doubt = lambda name, *about: {'code': 'nearer', 'values': {'name': name, 'other': 'B'}}
    for answer, n in (('cancel', 2), ('confirm', 3)):
        browser.ask('$("enrol-name").value = "me"')
        browser.give_file('#enrol-file', voices[second] / 'enroll.wav')
        browser.wait('$("delete-dialog").open')
        assert browser.text('#delete-ask') == (
            'This does not sound like me: B is nearer. Add it all the same?')
        browser.click('#delete-' + answer)
        browser.wait('!$("delete-dialog").open && document.body.dataset.busy === "no"')
        assert len(server.gallery.people['me']['files']) == n
    browser.ask('document.querySelector("#speakers details").open = true')
    browser.click('#speakers button[data-name="take back enroll2.wav"]')
    browser.wait('$("delete-dialog").open')
    browser.click('#delete-confirm')
    browser.wait('!$("delete-dialog").open && document.body.dataset.busy === "no"')
    assert [one['name'] for one in server.gallery.people['me']['files']] == ['enroll.wav', 'enroll3.wav']
    assert browser.ask('document.querySelector("#speakers details").open')  # the list stays as it was
    browser.click('#speakers button[data-name="rename me"]')
    browser.wait('$("delete-dialog").open')
    browser.type('Minji')
    browser.press('Enter')
    browser.wait('!$("delete-dialog").open && document.body.dataset.busy === "no"')
    assert list(server.gallery.people) == ['Minji']
    # With the last recording, the person would go: then the page asks as if that was the wish
    for n, question in ((1, 'Take back this recording of Minji'), (0, 'Delete Minji? This will go:')):
        browser.ask('document.querySelector("#speakers details").open = true')
        browser.click('#speakers button[data-name^="take back"]')
        browser.wait('$("delete-dialog").open')
        assert browser.text('#delete-ask').startswith(question)
        browser.click('#delete-confirm')
        browser.wait('!$("delete-dialog").open && document.body.dataset.busy === "no"')
        assert len(server.gallery.people.get('Minji', {'files': []})['files']) == n


def test_of_several_files_the_one_that_cannot_be_read_is_named(served):
    browser, server, voices, _ = served
    Path('no sound.m4a').write_bytes(b'not a sound')
    browser.click('#enrol-name')
    browser.type('me')
    document = browser.call('DOM.getDocument')['root']['nodeId']
    node = browser.call('DOM.querySelector', nodeId=document, selector='#enrol-file')['nodeId']
    browser.call('DOM.setFileInputFiles', nodeId=node, files=[
        str(list(voices.values())[0] / 'enroll.wav'), str(Path('no sound.m4a').resolve())])
    browser.wait('document.body.dataset.busy === "no" && $("enrol-status").textContent.startsWith('
                 '"no sound.m4a: The browser cannot read this file")')
    assert list(server.gallery.people) == ['me']  # the one before it was taken


def test_that_nobody_was_enrolled_is_forgotten(served):
    browser, _, voices, _ = served
    browser.give_file('#who-file', list(voices.values())[0] / 'test.wav')
    browser.wait('$("who-status").textContent.startsWith("Nobody is enrolled yet")')
    enrol_file(browser, 'me', list(voices.values())[0] / 'enroll.wav')
    assert browser.text('#who-status') == ''


def test_nothing_is_said_of_anybody_after_the_last_is_deleted(served):
    browser, _, voices, _ = served
    enrol_file(browser, 'me', list(voices.values())[0] / 'enroll.wav')
    browser.give_file('#who-file', list(voices.values())[0] / 'test.wav')
    browser.wait(WHY_IS_SHOWN)
    browser.click('#speakers button[data-name="me"]')
    browser.wait('$("delete-dialog").open')
    browser.click('#delete-confirm')
    browser.wait('document.body.dataset.busy === "no" && !state.speakers.length')
    assert browser.ask('["who-status", "who-answer", "who-facts", "verify-status", "verify-verdict"].every('
                       'id => $(id).textContent === "") && recording === null')


def test_what_is_said_about_the_threshold_of_a_room(served):
    browser, _, voices, _ = served
    enrol_file(browser, 'me', list(voices.values())[0] / 'enroll.wav')

    def note(**more):
        values = {'is_of_room': True, 'room_is_old': True, 'can_calibrate': True, 'pairs': [], 'n_pairs': 1, **more}
        return browser.ask('(() => { const before = state; state = {...state, ...%s}; drawRoom(); const found = '
                           '$("room-note").textContent; state = before; return found; })()' % json.dumps(values))
    assert note().endswith('since the threshold of this room was found. Find it again.')
    assert note(can_calibrate=False).endswith('was found. To find it again, three people need two recordings each.')
    assert 'was found' not in note(room_is_old=False)
    alike = {'is_of_room': False, 'room_is_old': False, 'pairs': [['a', 'b', 0.9]]}
    assert note(**alike).endswith('press the button below.')
    assert note(**alike, can_calibrate=False).endswith('if three people have two each.')


def test_the_matrix_of_many_people_has_numbers_over_its_columns(served):
    browser, _, _, _ = served
    for width, n, many in ((1400, 4, False), (1400, 5, True), (960, 3, False), (960, 4, True), (360, 2, False),
                           (360, 3, True)):
        browser.call('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1, mobile=False)
        headings, numbered = (list('12345')[:n], '1. a') if many else (list('abcde')[:n], 'a')
        browser.ask('state.matrix = Array.from({length: %d}, () => Array(%d).fill(-0.001)), '
                    'state.speakers = [..."%s"].map(name => ({name})), drawFigures()' % (n, n, 'abcde'[:n]))
        assert browser.ask('[...document.querySelectorAll("#why-matrix tr:first-child th")].slice(1).map(one => '
                           'one.textContent)') == headings
        assert browser.text('#why-matrix tr:nth-child(2) th') == numbered
        assert browser.text('#why-matrix td') == '0.00'
        assert browser.ask('$("why-cosines").classList.contains("wide")') == many
        assert browser.ask('document.documentElement.scrollWidth <= innerWidth')


def test_how_numbers_and_recordings_are_described(served):
    browser, _, _, _ = served
    assert browser.ask('[digits(0.4396, 0.4402), digits(-0.001, 0.5), digits(0.7, 0.7), digits(-0.5)]') == [
        ['0.4396', '0.4402'], ['0.00', '0.50'], ['0.70', '0.70'], ['-0.50']]
    short = 'Short: speak for ten seconds or more.'
    good = '{seconds: 6, level: -30, noise: 40, bandwidth: 7800, clipped: 0, advice: []}'
    assert browser.ask('diagnose(%s).at(-1)' % good) == 'This is a good recording.'
    note = '{code: "otherBandwidth", values: {name: "me", here: 3400, there: 7800}}'
    for words in ('diagnose({...%s, seconds: 2.3})' % good, 'diagnose(%s, [%s])' % (good, note)):
        assert 'This is a good recording.' not in browser.ask(words)
    assert browser.ask('diagnose({...%s, seconds: 2.3}).at(-1)' % good) == short


def test_the_controls_are_there_before_the_server_answers(served):
    browser, server, _, _ = served
    go_on, state = threading.Event(), server.gallery.state
    server.gallery.state = lambda: go_on.wait(60) and state()
    browser.call('Page.navigate', url=server.address)
    browser.wait('document.querySelectorAll(".record").length === 4 && $("who-record").textContent')
    assert browser.ask('state === null')
    go_on.set()
    browser.wait('document.body.dataset.ready === "yes"')


def test_long_work_can_be_stopped(served):
    browser, server, voices, _ = served
    enrol_file(browser, 'me', list(voices.values())[0] / 'enroll.wav')
    seen = threading.Event()

    def work(wav, progress):
        progress(0.5)
        seen.wait(60)
        while True:  # until it is cancelled
            time.sleep(0.01)
            progress(0.6)
    server.gallery.who_when = work
    browser.give_file('#when-file', list(voices.values())[0] / 'test.wav')
    browser.wait('$("when-progress").value === 0.5 && $("when-left").textContent.includes("s are left")')
    browser.click('#when-cancel')
    seen.set()
    browser.wait('document.body.dataset.busy === "no" && $("when-status").textContent === "Stopped."')


def test_the_mark_of_the_threshold_can_be_seen(served):
    """WCAG 1.4.11: a contrast of 3 to 1, in both schemes, with the bar and with the page behind it."""
    browser, _, _, _ = served

    def light(colour):
        values = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])
    for scheme in ('light', 'dark'):
        browser.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
        ink, fill, paper = (light(browser.ask('colour(%r).trim()' % name)) for name in ('ink', 'fill', 'page'))
        for one, other in ((ink, fill), (ink, paper), (fill, paper)):
            assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 3
