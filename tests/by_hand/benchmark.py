"""How much faster is the suite than the original lab's loop, written down literally?

    python tests/by_hand/benchmark.py [feature_folder]

Times both in one run, in turn, on the machine at hand: training epochs (data included), epochs with validation, and the
enrolment of ten speakers. Prints the median, the smallest and the largest ratio. Also times samples that are read from
their files, what augmentation costs, and training steps of one and of two processes with one thread each. Without a
folder of feature files, it makes demo voices in a temporary one. Writes nothing else. Takes about ten minutes on two
cores.
"""
import contextlib
import io
import math
import pickle
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import multiprocessing, nn
from torch.utils.data import DataLoader, Dataset, Subset

import find_lab  # noqa: F401 (finds the lab)

import model as lab_model
import train
from DB_wav_reader import find_feats, write_feature
from SR_Dataset import DvectorDataset, ToTensorInput, TruncatedInputfromMFB, collate_fn_feat_padded, read_MFB
from deep_dive.augmentation import AUGMENTATIONS, AugmentedDataset
from deep_dive.processes import network_to_train
from exercises.scoring import cosine_scores
from support import demo_voices, devices
from support.checks import feature_size
from support.messages import LabError, run_script


class LiteralDataset(Dataset):
    """As in the original lab: every sample opens its file, decodes the pickle and takes a window of it."""

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
    """Average loss and share of right answers."""
    model.eval()
    total_loss, n_right, n_all = 0, 0, 0
    with torch.no_grad():
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            _, logits = model(inputs)
            total_loss += criterion(logits, targets).item() * len(targets)
            n_right += (logits.argmax(1) == targets).sum().item()
            n_all += len(targets)
    return total_loss / n_all, n_right / n_all


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


def quietly(function, *args, **kwargs):
    """Call a function of the suite without its printed lines, because they would stand between the figures."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **kwargs)


def compare_training(feat_dir, n_pairs, n_utterances, batch_size, valid_batch_size):
    device = devices.get_device(True)
    criterion = nn.CrossEntropyLoss()
    train_data, valid_data, n_classes = quietly(train.load_dataset, 10, train_dir=feat_dir)
    speakers = sorted({Path(filename).parent.name for filename in find_feats(feat_dir)})
    filenames = find_feats(feat_dir)
    random.Random(0).shuffle(filenames)
    n_valid = n_utterances // 9
    if len(train_data) < n_utterances or len(valid_data) < n_valid:
        raise LabError('%s: %d utterances are needed.' % (feat_dir, 1 + n_utterances * 10 // 9))
    train_part, valid_part = Subset(train_data, range(n_utterances)), Subset(valid_data, range(n_valid))
    loaders = {
        'literal train': DataLoader(LiteralDataset(filenames[:n_utterances], speakers, False), batch_size,
                                    shuffle=True),
        'literal valid': DataLoader(LiteralDataset(filenames[-n_valid:], speakers, True), valid_batch_size,
                                    collate_fn=collate_fn_feat_padded),
        'suite train': DataLoader(train_part, batch_size, shuffle=True, pin_memory=device.type == 'cuda'),
        'suite valid': DataLoader(valid_part, valid_batch_size, collate_fn=collate_fn_feat_padded,
                                  pin_memory=device.type == 'cuda')}
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
    has_bfloat16, devices.has_bfloat16 = devices.has_bfloat16, lambda device: False
    compare('%d training steps, no bfloat16' % n_steps, literal_epoch, suite_epoch, n_pairs)
    devices.has_bfloat16 = has_bfloat16


def measure_augmentation(feat_dir, n_pairs, batch_size):
    """What each augmentation adds to a training step, data included: of a step, in percent."""
    train_data, _, n_classes = quietly(train.load_dataset, 10, train_dir=feat_dir)
    batch = [torch.stack(column) for column in zip(*((train_data[i][0], torch.tensor(train_data[i][1]))
                                                     for i in range(batch_size)))]
    loader = DataLoader(list(zip(*batch)), batch_size)  # one step, its samples at hand
    model = lab_model.background_resnet(128, n_classes).to(devices.get_device(True), memory_format=torch.channels_last)
    optimizer = train.create_optimizer('sgd', model, 0.01, 1e-4)
    for augment in [[name] for name in AUGMENTATIONS] + [AUGMENTATIONS]:
        augmented = AugmentedDataset(train_data, augment)
        shares = []
        for _ in range(1 + n_pairs):  # the first warms up
            step = seconds(quietly, train.train, loader, model, nn.CrossEntropyLoss(), optimizer, True, 1, n_classes)
            plain, more = (seconds(lambda: [data[i] for i in range(batch_size)]) for data in (train_data, augmented))
            shares.append(100 * (more - plain) / (step + plain))
        print('augment = %s: %.1f %% of a training step more (%.1f to %.1f)'
              % (augment, np.median(shares[1:]), min(shares[1:]), max(shares[1:])), flush=True)


def compare_enrolment(n_pairs, n_speakers, n_frames, test_frames):
    device = devices.get_device(True)
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n_frames, feature_size())) for _ in range(n_speakers)]
    model = lab_model.background_resnet(128, 240).to(device).eval()
    fast = lab_model.background_resnet(128, 240).to(device, memory_format=torch.channels_last).eval()
    fast.load_state_dict(model.state_dict())
    compare('d-vectors of %d speakers' % n_speakers,
            lambda: [literal_embedding(feature, model, test_frames, device) for feature in features],
            lambda: [lab_model.embed_feature(True, feature, fast, test_frames) for feature in features], n_pairs)
    difference = max((literal_embedding(feature, model, test_frames, device)
                      - lab_model.embed_feature(True, feature, fast, test_frames)).abs().max() for feature in features)
    print('largest difference of a component: %.1e' % difference)


def dataset_of(folder, n_files, n_frames, cache_gb):
    """A dataset of generated files of n_frames each, after trimming."""
    rng = np.random.default_rng(0)
    filenames = [str(Path(folder) / ('s%d' % n_frames) / ('%d.p' % i)) for i in range(n_files)]
    for filename in filenames:
        feature = rng.normal(size=(n_frames + 100, feature_size()))
        write_feature(filename, feature, 's%d' % n_frames)
    DB = pd.DataFrame({'filename': filenames, 'speaker_id': 's%d' % n_frames})
    return DvectorDataset(DB, read_MFB, [TruncatedInputfromMFB(), ToTensorInput()], {'s%d' % n_frames: 0},
                          cache_gb=cache_gb)


def measure_reading(folder):
    """What a sample of a file of 2 s costs, with the features in memory and in their files."""
    for gb in (1, 0):
        data = dataset_of(folder, 100, 200, gb)
        took = seconds(lambda: [data[i % 100] for i in range(2000)])
        print('a sample of a file of 2 s, %s: %.0f microseconds'
              % ('in memory' if gb else 'from its file', took / 2000 * 1e6), flush=True)


def steps_of_process(rank, n_processes, store, n_steps, batch_size, timings):
    """One process of a group: trains on its share of a batch of random numbers, as deep_dive/train.py does."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if n_processes > 1:
        dist.init_process_group('gloo', init_method='file://' + store, rank=rank, world_size=n_processes)
    n_share = batch_size // n_processes
    data = list(zip(torch.randn(batch_size * n_steps // n_processes, 1, feature_size(), 100), [0, 1] * 10 ** 6))
    model = lab_model.background_resnet(128, 240).to(memory_format=torch.channels_last)
    network = network_to_train(model)
    optimizer = train.create_optimizer('sgd', model, 0.01, 1e-4)
    epoch = (DataLoader(data, n_share), network, nn.CrossEntropyLoss(), optimizer, False, 1, 240)
    quietly(train.train, *epoch)
    timings[rank] = seconds(quietly, train.train, *epoch) / n_steps
    if n_processes > 1:
        dist.destroy_process_group()


def compare_processes(folder, n_pairs, n_steps, batch_size):
    timings = torch.zeros(2).share_memory_()
    took = {1: [], 2: []}
    for i in range(n_pairs):
        for n in (1, 2):
            store = '%s/store_%d_%d' % (folder, i, n)
            multiprocessing.spawn(steps_of_process, (n, store, n_steps, batch_size, timings), nprocs=n)
            took[n].append(float(timings[:n].max()))
    one, two = np.array(took[1]), np.array(took[2])
    print('a step of %d, one thread a process: one process %.3f s, two %.3f s (medians of %d): %.2f x (%.2f to %.2f)'
          % (batch_size, np.median(one), np.median(two), n_pairs, np.median(one / two), *np.sort(one / two)[[0, -1]]))
    n_gradients = sum(parameter.numel() for parameter in lab_model.background_resnet(128, 240).parameters())
    print('gradients: %.2f MB a step' % (4e-6 * n_gradients))


def measure_scoring(n_enrolled, embedding_size):
    """One test vector against n_enrolled speakers, on one thread."""
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((n_enrolled, embedding_size), np.float32)
    test = rng.standard_normal((1, embedding_size), np.float32)
    cosine_scores(test, gallery)
    took = [seconds(cosine_scores, test, gallery) for _ in range(5)]
    print('a test vector against %d enrolled speakers: %.2f s (median of 5)' % (n_enrolled, np.median(took)))


def main(
        # Settings
        feat_dir='',  # a folder of feature files; '': demo voices in a temporary folder
):
    n_pairs = 5  # timed pairs of each comparison
    n_utterances = 960  # in an epoch of this benchmark: 15 steps of 64
    batch_size, valid_batch_size = 64, 16  # as in train.py
    n_speakers, n_frames = 10, 1650  # ten enrolments of 16.5 s after trimming
    test_frames = 200  # as in enroll.py
    n_steps = 10  # of each group of processes
    n_enrolled, embedding_size = 10 ** 6, 128  # one test vector is scored against as many

    print('%d threads, bfloat16 in hardware: %s'
          % (torch.get_num_threads(), devices.has_bfloat16(devices.get_device(True))), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measure_reading(folder + '/generated')
        compare_processes(folder, n_pairs, n_steps, batch_size)
        if not feat_dir:
            feat_dir = folder + '/demo'
            demo_voices.make_train_features(feat_dir)
        compare_training(feat_dir, n_pairs, n_utterances, batch_size, valid_batch_size)
        measure_augmentation(feat_dir, n_pairs, batch_size)
    compare_enrolment(n_pairs, n_speakers, n_frames, test_frames)
    measure_scoring(n_enrolled, embedding_size)


if __name__ == '__main__':
    run_script(main, words=True)
