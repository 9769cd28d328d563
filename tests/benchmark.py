"""How much faster is the suite than the original lab's loop, written down literally?

    python tests/benchmark.py [feature_folder]

Times both in one run, in turn, on the machine at hand: training epochs (data included), epochs with validation, and the
enrolment of ten speakers. Without a folder of feature files it makes demo voices in a temporary one. Prints the ratios'
median, smallest and largest; writes nothing. Takes about ten minutes on two cores.
"""
import contextlib
import io
import math
import pickle
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configure as c  # noqa: E402
import demo_voices  # noqa: E402
import model as lab_model  # noqa: E402
import train  # noqa: E402
from DB_wav_reader import find_feats, run_script  # noqa: E402
from SR_Dataset import collate_fn_feat_padded  # noqa: E402


class LiteralDataset(Dataset):
    """The original's way: every sample opens its file, decodes the pickle and takes a window of it."""

    def __init__(self, filenames, speakers, whole):
        self.filenames, self.whole = filenames, whole
        self.labels = [speakers.index(Path(filename).parent.name) for filename in filenames]

    def __len__(self):
        return len(self.filenames)

    def __getitem__(self, index):
        with open(self.filenames[index], 'rb') as f:
            feature = pickle.load(f)['feat'][50:-50]  # (n_frames, 40)
        if not self.whole:
            start = random.randrange(len(feature) - 99)
            feature = feature[start:start + 100]
        return torch.FloatTensor(feature.T[None].copy()), self.labels[index]


def literal_train(loader, model, criterion, optimizer, device):
    model.train()
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        _, logits = model(inputs)
        loss = criterion(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def literal_validate(loader, model, criterion, device):
    model.eval()
    with torch.no_grad():
        for inputs, targets in loader:
            _, logits = model(inputs.to(device))
            criterion(logits, targets.to(device)).item()


def literal_embedding(feature, model, test_frames, device):
    """One segment at a time."""
    total = 0
    with torch.no_grad():
        for i in range(math.ceil(len(feature) / test_frames)):
            segment = torch.FloatTensor(feature[i * test_frames:(i + 1) * test_frames].T[None, None].copy())
            total = total + model(segment.to(device))[0]
    return F.normalize(total, dim=1).cpu()


def seconds(function, *args):
    begin = time.perf_counter()
    function(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def compare(name, literal, suite, n_pairs):
    """Call both in turn n_pairs times, after a warm-up, and print literal / suite."""
    literal(), suite()
    pairs = [(seconds(literal), seconds(suite)) for _ in range(n_pairs)]
    ratios = sorted(a / b for a, b in pairs)
    print('%-34s literal %7.3f s, suite %7.3f s (medians of %d pairs): %.2f x faster (%.2f to %.2f)'
          % (name, np.median([a for a, _ in pairs]), np.median([b for _, b in pairs]), n_pairs,
             np.median(ratios), ratios[0], ratios[-1]), flush=True)


def quietly(function, *args):
    """The suite's functions print their lines; here they would stand between the figures."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args)


def compare_training(n_pairs, n_utterances, batch_size, valid_batch_size):
    device = lab_model.get_device(True)
    criterion = nn.CrossEntropyLoss()
    train_data, valid_data, n_classes = quietly(train.load_dataset, 10)
    speakers = sorted({Path(filename).parent.name for filename in find_feats(c.TRAIN_FEAT_DIR)})
    filenames = find_feats(c.TRAIN_FEAT_DIR)
    rng = random.Random(0)
    rng.shuffle(filenames)
    n_valid = n_utterances // 9
    train_part = torch.utils.data.Subset(train_data, range(n_utterances))
    valid_part = torch.utils.data.Subset(valid_data, range(n_valid))
    loaders = {
        'literal train': DataLoader(LiteralDataset(filenames[:n_utterances], speakers, False), batch_size,
                                    shuffle=True),
        'literal valid': DataLoader(LiteralDataset(filenames[-n_valid:], speakers, True), valid_batch_size,
                                    collate_fn=collate_fn_feat_padded),
        'suite train': DataLoader(train_part, batch_size, shuffle=True),
        'suite valid': DataLoader(valid_part, valid_batch_size, collate_fn=collate_fn_feat_padded)}
    models = [lab_model.background_resnet(128, n_classes).to(device) for _ in range(2)]
    models[1] = models[1].to(memory_format=torch.channels_last)
    optimizers = [train.create_optimizer('sgd', model, 0.01, 1e-4) for model in models]

    def literal_epoch():
        literal_train(loaders['literal train'], models[0], criterion, optimizers[0], device)

    def suite_epoch():
        quietly(train.train, loaders['suite train'], models[1], criterion, optimizers[1], True, 1, n_classes)

    def literal_both():
        literal_epoch()
        literal_validate(loaders['literal valid'], models[0], criterion, device)

    def suite_both():
        suite_epoch()
        quietly(train.validate, loaders['suite valid'], models[1], criterion, True, 1)

    n_steps = len(loaders['suite train'])
    compare('%d training steps' % n_steps, literal_epoch, suite_epoch, n_pairs)
    compare('the same with validation', literal_both, suite_both, n_pairs)
    has_bfloat16, lab_model.has_bfloat16 = lab_model.has_bfloat16, lambda device: False
    compare('%d training steps, no bfloat16' % n_steps, literal_epoch, suite_epoch, n_pairs)
    lab_model.has_bfloat16 = has_bfloat16


def compare_enrolment(n_pairs, n_speakers, n_frames, test_frames):
    device = lab_model.get_device(True)
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n_frames, c.FILTER_BANK)) for _ in range(n_speakers)]
    model = lab_model.background_resnet(128, 240).to(device).eval()
    fast = lab_model.background_resnet(128, 240).to(device, memory_format=torch.channels_last).eval()
    fast.load_state_dict(model.state_dict())
    compare('d-vectors of %d speakers' % n_speakers,
            lambda: [literal_embedding(feature, model, test_frames, device) for feature in features],
            lambda: [lab_model.embed_feature(True, feature, fast, test_frames) for feature in features], n_pairs)
    difference = max((literal_embedding(feature, model, test_frames, device)
                      - lab_model.embed_feature(True, feature, fast, test_frames)).abs().max() for feature in features)
    print('largest difference of a component: %.1e' % difference)


def main():
    n_pairs = 5  # timed pairs of each comparison
    n_utterances = 960  # in an epoch of this benchmark: 15 steps of 64
    batch_size, valid_batch_size = 64, 16  # as in train.py
    n_speakers, n_frames = 10, 1600  # ten enrolments of 16 s after trimming
    test_frames = 200  # as in enroll.py

    print('%d threads, bfloat16 in hardware: %s'
          % (torch.get_num_threads(), lab_model.has_bfloat16(lab_model.get_device(True))))
    with tempfile.TemporaryDirectory() as folder:
        c.TRAIN_FEAT_DIR = sys.argv[1] if len(sys.argv) > 1 else folder
        if len(sys.argv) == 1:
            demo_voices.make_train_features(folder)
        compare_training(n_pairs, n_utterances, batch_size, valid_batch_size)
    compare_enrolment(n_pairs, n_speakers, n_frames, test_frames)


if __name__ == '__main__':
    run_script(main)
