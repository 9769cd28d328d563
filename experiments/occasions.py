"""Guess on which occasion each clip of Common Voice was recorded, by the number in its name.

    python experiments/occasions.py ../commonvoice_dev ../occasions

The folder holds <speaker>/common_voice_<language>_<number>.wav. Common Voice does not say when a clip was recorded. The
numbers seem to rise with time: this is a guess. So clips of one speaker with neighbouring numbers are taken as one
session, and a step of more than `step` begins another. Writes links <new folder>/<speaker>/session<s>_<number>.wav, as
deep_dive/sessions.py reads them. Takes a second.
"""
import re
from pathlib import Path

import project  # noqa: F401 (finds the lab)

from DB_wav_reader import find_wavs, speaker_of
from support.messages import LabError, check_settings, run_script, whole


def sessions_of(numbers, step):
    """The session of each clip of one speaker, from 1 on: sorted numbers -> list of int."""
    sessions = [1]
    for before, number in zip(numbers, numbers[1:]):
        sessions.append(sessions[-1] + (number - before > step))
    return sessions


def main(
        # Settings
        test_dir='',  # recordings of Common Voice: DIR/<speaker>/common_voice_<language>_<number>.wav
        out_dir='',  # where the links go; a new folder
        step=10000,  # numbers of one session differ by at most so much from one clip to the next; try 1000
):
    if not test_dir or not out_dir:
        raise LabError('Give two folders: the one of the speakers, and where the links go.')
    check_settings(main, locals(), step=whole(1))
    clips = {}  # speaker -> number -> file
    for name in find_wavs(test_dir):
        found = re.fullmatch(r'common_voice_.*_(\d+)', Path(name).stem)
        if not found:
            raise LabError('%s: not named as a clip of Common Voice is, common_voice_en_123.wav' % name)
        clips.setdefault(speaker_of(name), {})[int(found.group(1))] = Path(name).resolve()
    if Path(out_dir).exists():
        raise LabError('%s exists already: remove it, or name another folder.' % out_dir)
    for speaker, files in clips.items():
        (Path(out_dir) / speaker).mkdir(parents=True)
        for number, session in zip(sorted(files), sessions_of(sorted(files), step)):
            (Path(out_dir) / speaker / ('session%d_%d.wav' % (session, number))).symlink_to(files[number])
    print('%s: %d speakers, %d clips' % (out_dir, len(clips), sum(map(len, clips.values()))))


if __name__ == '__main__':
    run_script(main, words=True)
