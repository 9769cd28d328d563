"""Break one line at a time: do the tests notice?

    python experiments/mutations.py

Each line of BROKEN is changed in a copy of the project, in a temporary folder, and the test file that should notice is
run there until it fails. Prints which test failed; ends with exit code 1 where none did. A few minutes.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from project import PROJECT

from conftest import changed_source

BROKEN = [  # (file, part of a line, what becomes of it, tests)
    ('DB_wav_reader.py', 'return 20 * np.log10(np.max', 'return 10 * np.log10(np.max', 'test_features.py'),
    ('DB_wav_reader.py', 'os.replace(temporary, filename)', 'os.link(temporary, filename)', 'test_features.py'),
    ('SR_Dataset.py', '(len(frames_features) - c.NUM_WIN_SIZE + 1, ())', '(len(frames_features) - c.NUM_WIN_SIZE, ())',
     'test_dataset.py'),
    ('demo_voices.py', 'return (c.SPEAKER_LEVEL == 1 and all(', 'return (c.SPEAKER_LEVEL == 1 and any(',
     'test_demo_voices.py'),
    ('DB_wav_reader.py', 'if (module, name) not in self.allowed:', 'if not self.allowed:', 'test_hostile.py'),
    ('model.py', 'activation + spk_embedding.sum(', 'activation + spk_embedding.mean(', 'test_network.py'),
    ('scoring.py', 'return thresholds, rates[0], 1 - rates[1]', 'return thresholds, rates[0], rates[1]',
     'test_scoring.py'),
    ('train.py', 'valid_DB = shuffled_DB.iloc[train_len:]', 'valid_DB = shuffled_DB.iloc[:valid_len]',
     'test_dataset.py'),
    ('enroll.py', 'embeddings[spk] += activation', 'embeddings[spk] = activation', 'test_scripts.py'),
    ('verification.py', "'Accept' if score > thres", "'Accept' if score >= thres", 'test_scripts.py'),
    ('identification.py', '> thres else UNKNOWN', '>= thres else UNKNOWN', 'test_all_trials.py'),
    ('deep_dive/losses.py', 'torch.cos(theta + margin), beyond', 'torch.cos(theta - margin), beyond',
     'test_deep_dive.py'),
    ('deep_dive/gmm.py', '/ (counts + relevance)[:, None]', '/ counts[:, None]', 'test_gmm.py'),
]


def first_failure(folder, tests):
    """The name of the first test of a file that fails in a copy of the project; None where all pass."""
    run = subprocess.run([sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', 'tests/' + tests],
                         cwd=folder, env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}, capture_output=True, text=True)
    failed = re.search(r'^(?:FAILED|ERROR) \S+?::(\S+)', run.stdout, re.MULTILINE)
    return failed and failed.group(1)


def main():
    n_missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'lab'
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns('.git', '__pycache__', 'feat_*', 'test_wavs'))
        for script, old, new, tests in BROKEN:
            (copy / script).write_text(changed_source(script, [(old, new)]))
            noticed = first_failure(copy, tests)
            (copy / script).write_text(changed_source(script, []))
            print('%s: %s -> %s: %s' % (script, old, new, noticed or 'NOT NOTICED'), flush=True)
            n_missed += noticed is None
    print('%d of %d noticed' % (len(BROKEN) - n_missed, len(BROKEN)))
    sys.exit(n_missed > 0)


if __name__ == '__main__':
    main()
