"""Folders of Kaldi: `wav.scp` says which file an utterance is, `utt2spk` who speaks in it.

A line of wav.scp is `utterance file`. A line of utt2spk is `utterance speaker`. The order does not matter.
"""
import os

import pandas as pd

from support.messages import LabError, as_on_disk

SCP, UTT2SPK = 'wav.scp', 'utt2spk'


def is_kaldi(folder):
    """Whether this is a folder of Kaldi."""
    return os.path.isfile(os.path.join(folder, SCP))


def read_table(filename):
    """Read lines `key value`: dict key -> value. Raises LabError, with the line, if a line is something else."""
    table = {}
    try:
        with open(filename, encoding='utf-8-sig') as f:  # Windows may write a mark at the beginning
            for i, line in enumerate(f, 1):
                fields = line.split(None, 1)
                if len(fields) == 1 or fields and fields[0] in table:
                    raise LabError('%s, line %d: %s: %s' % (
                        filename, i, 'there is such a line already' if len(fields) > 1 else
                        'a line must have two words or more', line[:60].strip()))
                if fields:
                    table[fields[0]] = fields[1].strip()
    except UnicodeDecodeError as error:
        raise LabError('%s: no text in UTF-8.' % filename) from error
    if not table:
        raise LabError('%s is empty.' % filename)
    return table


def read_kaldi(folder):
    """The utterances of a folder of Kaldi: DataFrame (utterance, filename, speaker_id), in the order of wav.scp.

    A file that does not lie where its path leads from here is looked for below the folder. Without utt2spk,
    all speakers are ''. Raises LabError if a file is missing, or if a line is a command.
    """
    files, speakers = read_table(os.path.join(folder, SCP)), None
    if os.path.isfile(os.path.join(folder, UTT2SPK)):
        speakers = read_table(os.path.join(folder, UTT2SPK))
    rows = []
    for utterance, filename in files.items():
        if filename.endswith('|'):
            raise LabError('%s: %s is a command, and none is run here. Write the sound to a file, and name that '
                           'file.' % (os.path.join(folder, SCP), utterance))
        paths = [as_on_disk(filename), as_on_disk(os.path.join(folder, filename))]
        found = next(filter(os.path.isfile, paths), None)
        if found is None:
            raise LabError('%s: %s: there is no such file.' % (os.path.join(folder, SCP), filename))
        if speakers is not None and utterance not in speakers:
            raise LabError('%s has no line for %s.' % (os.path.join(folder, UTT2SPK), utterance))
        rows.append((utterance, found, speakers[utterance] if speakers else ''))
    return pd.DataFrame(rows, columns=['utterance', 'filename', 'speaker_id'], dtype=object)
