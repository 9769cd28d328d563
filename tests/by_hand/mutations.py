"""Break one line at a time: do the tests notice?

    python tests/by_hand/mutations.py
    python tests/by_hand/mutations.py --only=deep_dive     # the lines of files whose names contain this

Copies the project into a temporary folder. Changes each line of BROKEN there, one after another, and runs the test file
that should notice until a test fails. Before, that test file must pass without a change. Prints which test failed. Ends
with exit code 1 if no test did. Takes fifteen minutes on two cores.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from find_lab import PROJECT

from support.messages import LabError, run_script

BROKEN = [  # (file, part of a line, what becomes of it, tests)
    # What is read in class
    ('DB_wav_reader.py', 'return 20 * np.log10(np.maximum', 'return 10 * np.log10(np.maximum', 'test_features.py'),
    ('SR_Dataset.py', '(len(frames_features) - c.NUM_WIN_SIZE + 1, ())', '(len(frames_features) - c.NUM_WIN_SIZE, ())',
     'test_dataset.py'),
    ('SR_Dataset.py', 'if label != speaker:', 'if label is None:', 'test_dataset.py'),
    ('resnet.py', 'block, 128, layers[3], stride=2', 'block, 128, layers[3], stride=1', 'test_network.py'),
    ('model.py', 'activation = activation + spk_embedding', 'activation = spk_embedding', 'test_network.py'),
    ('train.py', 'DB[train_len:].reset_index', 'DB[:valid_len].reset_index', 'test_dataset.py'),
    ('train.py', 'optimizer.zero_grad()', 'pass', 'test_scripts.py'),
    ('enroll.py', 'embeddings.get(spk, 0) + activation', 'activation', 'test_scripts.py'),
    ('identification.py', 'scores[best_spk] > thres else', 'scores[best_spk] >= thres else', 'test_scripts.py'),
    ('verification.py', "'Accept' if score > thres", "'Accept' if score >= thres", 'test_scripts.py'),

    # What the scripts need
    ('support/messages.py', 'return text if is_text and', 'return text if not is_text and', 'test_settings.py'),
    ('support/safe_files.py', 'if (module, name) not in self.allowed:', 'if not self.allowed:', 'test_hostile.py'),
    ('support/safe_files.py', 'if archive.testzip() is not None:', 'if not archive:', 'test_hostile.py'),
    ('support/safe_files.py', 'os.replace(temporary, filename)', 'os.link(temporary, filename)',
     'test_interrupted.py'),
    ('support/checks.py', 'n_frames - n_trimmed <= c.MIN_FRAMES', 'n_frames - n_trimmed < c.MIN_FRAMES',
     'test_dataset.py'),
    ('support/checks.py', "if made_with.get('sha256') != checkpoint['sha256']:", 'if made_with is None:',
     'test_scripts.py'),
    ('support/recordings.py', 'exists() and not is_of_recording(', 'exists() and None is is_of_recording(',
     'test_features.py'),
    ('support/recordings.py', "if there['LEVEL_DBFS'] != here['LEVEL_DBFS']:\n            levels",
     'if there is None:\n            levels', 'test_recordings.py'),
    ('support/runs.py', 'path.rename(folder / path.name)', 'path.unlink()', 'test_scripts.py'),
    ('support/runs.py', 'return losses.index(min(losses)) + 1', 'return len(losses)', 'test_scripts.py'),
    ('support/runs.py', 'is_new = best == len(self.epochs) or', 'is_new = False or', 'test_scripts.py'),
    ('support/runs.py', 'name not in MAY_CHANGE and (values', 'name in MAY_CHANGE and (values', 'test_deep_dive.py'),
    ('support/demo_voices.py', 'return (c.SPEAKER_LEVEL == 1 and all(', 'return (c.SPEAKER_LEVEL == 1 and any(',
     'test_demo_voices.py'),

    # The exercises and the deep dive
    ('exercises/scoring.py', 'return thresholds, rates[0], 1 - rates[1]', 'return thresholds, rates[0], rates[1]',
     'test_scoring.py'),
    ('exercises/similar_voices.py', 'others = np.delete(scores, i, axis=1)', 'others = np.delete(scores, 0, axis=1)',
     'test_exercises.py'),
    ('deep_dive/networks.py', "if self.settings['head'] == 'slides':", "if self.settings['head']:",
     'test_deep_dive.py'),
    ('deep_dive/processes.py', 'batches[rank()::n_processes]', 'batches', 'test_processes.py'),
    ('deep_dive/losses.py', 'torch.cos(theta + margin), beyond', 'torch.cos(theta - margin), beyond',
     'test_deep_dive.py'),
    ('deep_dive/heads.py', 'model.last.requires_grad_(True)', 'model.requires_grad_(True)', 'test_deep_dive.py'),
    ('deep_dive/backbones.py', 'h.var(dim=2, correction=0)', 'h.var(dim=2)', 'test_deep_dive.py'),
    ('deep_dive/augmentation.py', 'return quieter - mean_with_silence(quieter, floor)',
     'return quieter - quieter.mean(axis=0)', 'test_deep_dive.py'),
    ('deep_dive/schedules.py', 'pct_start=warm_up', 'pct_start=0.3', 'test_deep_dive.py'),
    ('deep_dive/backends.py', "vectors = vectors - self.known['mean']", 'vectors = +vectors', 'test_trials.py'),
    ('deep_dive/mixing.py', 'for _ in range(weights[k])]', 'for _ in range(1)]', 'test_strangers.py'),
    ('deep_dive/calibration.py', '(1 - is_target) * np.logaddexp(0, ratios)', 'is_target * np.logaddexp(0, ratios)',
     'test_strangers.py'),
    ('deep_dive/gmm.py', '/ (counts + relevance)[:, None]', '/ counts[:, None]', 'test_gmm.py'),
    ('deep_dive/classify.py', '.mean(dim=0)[:n_speakers]', '.mean(dim=0)[-n_speakers:]', 'test_classify.py'),
    ('support/runs.py', 'for label in sorted(names)]', 'for label in names]', 'test_classify.py'),
]


def broken_text(script, old, new):
    """The text of a script with one part changed. Raises LabError if this part is not there once."""
    text = (PROJECT / script).read_text()
    if text.count(old) != 1:
        raise LabError('%s has %d times %r. Change BROKEN in mutations.py.' % (script, text.count(old), old))
    return text.replace(old, new)


def first_failure(folder, tests):
    """The name of the first test of a file that fails in a copy of the project; None if all pass."""
    run = subprocess.run([sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', 'tests/' + tests],
                         cwd=folder, env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}, capture_output=True, text=True)
    failed = re.search(r'^(?:FAILED|ERROR) (?:\S+?::)?(\S+)', run.stdout, re.MULTILINE)
    return failed.group(1) if failed else None if run.returncode == 0 else 'pytest itself'


def main(
        # Settings
        only='',  # the lines of files whose names contain this; '': all
):
    chosen = [line for line in BROKEN if only in line[0]]
    texts = [broken_text(*line[:3]) for line in chosen]
    n_missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'lab'
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(
            '.git', '.venv', 'venv', '__pycache__', '*.p', '*.wav', 'run_*', 'checkpoint_[0-9]*'))
        for tests in sorted({line[3] for line in chosen}):
            if first_failure(copy, tests):
                raise LabError('tests/%s fails without a change: %s' % (tests, first_failure(copy, tests)))
        for (script, old, new, tests), text in zip(chosen, texts):
            whole = (copy / script).read_text()
            (copy / script).write_text(text)
            noticed = first_failure(copy, tests)
            (copy / script).write_text(whole)
            print('%s: %s -> %s: %s' % (script, old, new, noticed or 'NOT NOTICED'), flush=True)
            n_missed += noticed is None
    print('%d of %d noticed' % (len(chosen) - n_missed, len(chosen)))
    sys.exit(n_missed > 0)


if __name__ == '__main__':
    run_script(main, words=True)
