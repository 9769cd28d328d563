"""How long does the page take from the end of speech to its answer? With few people enrolled, and with a hundred.

    python tests/by_hand/latency.py <folder of recordings>
    python tests/by_hand/latency.py ../SpeakerRecognition_tutorial/test_wavs "--n_enrolled=[2, 1000]"

The folder holds <speaker>/<name>.wav. Serves the page on this computer, enrols pieces of five seconds, and asks it
whose voice the last two seconds are, as the page does while you speak, and whose a whole recording of 15 seconds is.
Uses one thread, as on a busy computer. Prints the median, the smallest and the largest of seven times. Writes nothing
that stays. Takes a minute.
"""
import http.client
import io
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile

import find_lab  # noqa: F401 (finds the lab)

import configure as c
from DB_wav_reader import find_wavs, read_audio
from model import load_model
from own_voice.gallery import Gallery
from own_voice.page import PageServer
from support.messages import TEST_RULES, LabError, check_settings, is_whole, run_script

ENROLLED, WHILE_SPEAKING, WHOLE = 5, 2, 15  # seconds
N_TIMES, N_WARM_UP = 7, 2
NUMBERS = 'a list of whole numbers', lambda value: isinstance(value, list) and all(is_whole(n, 1) for n in value)


def wav_of(audio):
    """The bytes of a wav file, 16 bits, of audio (n_samples,) in -1 to 1."""
    content = io.BytesIO()
    wavfile.write(content, c.SAMPLE_RATE, (32767 * audio).astype(np.int16))
    return content.getvalue()


def ask(server, action, body):
    """Seconds that a question to the server takes."""
    server.gallery.heard.clear()  # otherwise, a recording that was heard before costs nothing
    start = time.perf_counter()
    connection = http.client.HTTPConnection(server.hosts[0])
    connection.request('POST', '/%s/%s' % (server.token, action), body, {'Origin': 'http://' + server.hosts[0]})
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status != 200:
        raise LabError('The page answered %d to %s.' % (response.status, action))
    return time.perf_counter() - start


def main(
        # Settings
        folder='',  # the recordings
        cp_num='voices',  # which checkpoint
        log_dir='model_saved',  # where the checkpoints are saved
        n_enrolled=[2, 100],  # how many people are enrolled
):
    check_settings(main, locals(), cp_num=TEST_RULES['cp_num'], n_enrolled=NUMBERS)
    recordings = [audio for audio in map(read_audio, find_wavs(folder)) if len(audio) > 2 * ENROLLED * c.SAMPLE_RATE]
    if not recordings:
        raise LabError('%s: no recording of %d seconds.' % (folder, 2 * ENROLLED))
    torch.set_num_threads(1)
    model = load_model(False, log_dir, cp_num, None, None)
    speech = np.resize(recordings[0], WHOLE * c.SAMPLE_RATE)  # repeated, if it is shorter
    for n in n_enrolled:
        with tempfile.TemporaryDirectory() as scratch:
            gallery = Gallery(model, Path(scratch, 'people'), str(Path(scratch, 'enrolled')), False)
            for i in range(n):
                begin = i * c.SAMPLE_RATE // 10 % (len(recordings[i % len(recordings)]) - ENROLLED * c.SAMPLE_RATE)
                gallery.enrol('person %d' % i, wav_of(
                    recordings[i % len(recordings)][begin:begin + ENROLLED * c.SAMPLE_RATE]))
            with PageServer(gallery) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                for action, seconds in (('score', WHILE_SPEAKING), ('score', WHOLE), ('score?why=1', WHOLE)):
                    body = wav_of(speech[-seconds * c.SAMPLE_RATE:])
                    times = [ask(server, action, body) for _ in range(N_WARM_UP + N_TIMES)][N_WARM_UP:]
                    print('%4d enrolled, %s, %2d s: %.2f s (%.2f to %.2f)' % (
                        n, action, seconds, statistics.median(times), min(times), max(times)))
                server.shutdown()


if __name__ == '__main__':
    run_script(main, words=True)
