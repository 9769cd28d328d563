"""From feature file to batch: reading, cropping, padding, splitting, and every file that must be refused."""
import os

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

import SR_Dataset as dataset
import configure as c
import deep_dive.train
import train
from support import checks
from support.messages import LabError
from support.safe_files import write_pickles


def test_half_a_second_is_dropped_at_both_ends(lab, write_feat):
    feature, label = dataset.read_MFB(write_feat('s1/a.p', n_frames=200))
    whole = np.random.default_rng(0).normal(size=(200, 40))
    np.testing.assert_array_equal(feature, whole[50:150])
    assert label == 's1'


def test_shortest_utterance_that_is_accepted(lab, write_feat):
    assert len(dataset.read_MFB(write_feat('s1/a.p', n_frames=141))[0]) == 41
    with pytest.raises(LabError, match=r's1/b.p: 140 frames, 40 after trimming 0.5 s .* more than 40'):
        dataset.read_MFB(write_feat('s1/b.p', n_frames=140))
    with pytest.raises(LabError, match='60 frames, 0 after'):
        dataset.read_MFB(write_feat('s1/c.p', n_frames=60))


NAN = np.zeros((200, 40))
NAN[70, 3] = np.nan


@pytest.mark.parametrize('content, complaint', [
    ([1, 2], "a dict with 'feat' and 'label'"),
    ({'feat': np.zeros((200, 40))}, "a dict with 'feat' and 'label'"),
    ({'label': 's1'}, "a dict with 'feat' and 'label'"),
    ({'feat': [1, 2], 'label': 's1'}, "'feat' must be a float array"),
    ({'feat': np.zeros(200), 'label': 's1'}, "'feat' must be a float array"),
    ({'feat': np.zeros((200, 40)), 'label': None}, "'label' a name"),
    ({'feat': np.zeros((200, 40)), 'label': np.zeros(2)}, "'label' a name"),
    ({'feat': np.zeros((200, 26)), 'label': 's1'}, 'has 26 rows a frame, configure.py asks for 40'),
    ({'feat': np.zeros((200, 40)), 'label': 'two\nlines'}, "'label' a name"),
    ({'feat': np.zeros((200, 40)), 'label': ''}, "'label' a name"),
    ({'feat': np.zeros((200, 40)), 'label': 's1', 'settings': 'mfcc'},
     "'settings' and 'recording', if they are there"),
    ({'feat': np.zeros((200, 40)), 'label': 's1', 'settings': {'USE_MFCC': [1]}},
     "'settings' and 'recording'"),
    ({'feat': np.zeros((200, 40)), 'label': 's1', 'recording': -44}, "'settings' and 'recording'"),
    ({'feat': np.zeros((200, 40)), 'label': 's1', 'recording': {'bandwidth': 'wide'}},
     "'settings' and 'recording'"),
    ({'feat': np.zeros((200, 20)), 'label': 's1', 'settings': {'USE_MFCC': True, 'WIN_STEP': 0.02}},
     'WIN_STEP = 0.02 there, 0.01 in configure.py, USE_MFCC = True there, False in configure.py'),
    ({'feat': NAN, 'label': 's1'}, 'NaN, infinite'),
    ({'feat': np.full((200, 40), np.inf), 'label': 's1'}, 'NaN, infinite'),
    ({'feat': np.full((200, 40), 1e300), 'label': 's1'}, 'absurd'),
])
def test_unusable_feature_files_are_named_with_the_reason(lab, content, complaint):
    write_pickles('s1/bad.p', content)
    with pytest.raises(LabError, match='s1/bad.p: .*' + complaint):
        dataset.read_MFB('s1/bad.p')


def test_training_window_is_a_piece_of_the_utterance():
    torch.manual_seed(0)
    utterance = np.arange(150)[:, None] * np.ones((1, 40))
    starts = set()
    for _ in range(600):
        window = dataset.TruncatedInputfromMFB()(utterance)
        assert window.shape == (1, 100, 40)
        np.testing.assert_array_equal(window[0, :, 7], np.arange(100) + window[0, 0, 7])
        starts.add(window[0, 0, 0])
    assert starts == set(range(51))  # every start, the first and the last included


def test_utterance_of_exactly_one_window_is_taken_whole():
    utterance = np.random.default_rng(0).normal(size=(100, 40))
    np.testing.assert_array_equal(dataset.TruncatedInputfromMFB()(utterance)[0], utterance)


def test_short_utterance_is_repeated():
    utterance = np.arange(41)[:, None] * np.ones((1, 40))
    for _ in range(50):
        window = dataset.TruncatedInputfromMFB()(utterance)[0, :, 0]
        np.testing.assert_array_equal(window, (np.arange(100) + window[0]) % 41)


def test_tensors_have_the_frequencies_as_rows():
    feature = np.random.default_rng(0).normal(size=(60, 40))
    train_tensor = dataset.ToTensorInput()(feature[None])
    dev_tensor = dataset.ToTensorDevInput()(feature)
    test_tensor = dataset.ToTensorTestInput()(feature)
    assert train_tensor.shape == dev_tensor.shape == (1, 40, 60) and test_tensor.shape == (1, 1, 40, 60)
    for tensor in (train_tensor[0], dev_tensor[0], test_tensor[0, 0]):
        assert tensor.dtype == torch.float32 and tensor[3, 5].item() == pytest.approx(feature[5, 3])


def test_batch_is_padded_by_repetition():
    lengths = (50, 120, 49, 60)
    batch = [(torch.arange(n, dtype=torch.float32).expand(1, 40, n),
              label) for label, n in enumerate(lengths)]
    features, labels = dataset.collate_fn_feat_padded(batch)
    assert features.shape == (4, 1, 40, 120) and labels.tolist() == [0, 1, 2, 3]
    for row, n in zip(features, lengths):
        np.testing.assert_array_equal(row[0, 11], np.arange(120) % n)


@pytest.mark.parametrize('n_files, ratio, n_valid',
                         [(10, 10, 1), (19, 10, 1), (20, 10, 2), (10, 50, 5), (3, 34, 1)])
def test_split_sizes(lab, write_feat, capsys, n_files, ratio, n_valid):
    names = {write_feat('train/s%d/%d.p' % (i % 2, i)) for i in range(n_files)}
    train_DB, valid_DB = train.split_train_dev('train', ratio)
    assert (len(train_DB), len(valid_DB)) == (n_files - n_valid, n_valid)
    assert set(train_DB['filename']) | set(valid_DB['filename']) == names
    assert not set(train_DB['filename']) & set(valid_DB['filename'])
    assert list(train_DB.index) == list(range(n_files - n_valid))
    share = 100 * n_valid / n_files
    assert capsys.readouterr().out == (
        '\nTraining set %d utts (%.1f%%)\nValidation set %d utts (%.1f%%)\nTotal %d utts\n'
        % (n_files - n_valid, 100 - share, n_valid, share, n_files))


def test_validation_speakers_without_a_training_utterance_are_counted(lab, capsys):
    of_train, of_valid = ['a', 'a', 'b', 'x'], ['a', 'c', 'c', 'd', 'b']
    checks.check_split('train', of_train, of_valid, 10)
    assert capsys.readouterr().out.startswith('Note: 2 of 4 validation speakers have no utterance in the training set')
    checks.check_split('train', of_train, ['a', 'b'], 10)
    assert capsys.readouterr().out == ''


def test_the_note_comes_before_the_training(lab, write_feat, capsys):
    for i in range(10):
        write_feat('train/s%d/only.p' % i)
    train.load_dataset(20, train_dir='train')
    out = capsys.readouterr().out
    assert 'Note: 2 of 2 validation speakers' in out and 'their accuracy stays 0' in out
    # deep_dive.train does not refuse them, either
    settings = {'train_dir': 'train', 'val_ratio': 20, 'n_epochs': 1, 'batch_size': 4, 'plot': False}
    deep_dive.train.main(**settings)
    assert os.path.exists('model_saved/checkpoint_1.pth')


def test_split_depends_on_the_seed_alone(lab, write_feat):
    for i in range(40):
        write_feat('train/s%d/%d.p' % (i % 2, i))
    first, again, other = (list(train.split_train_dev('train', 10,
                                                      seed=seed)[1]['filename']) for seed in (1, 1, 2))
    assert first == again and first != other


@pytest.mark.parametrize('n_files, ratio', [(9, 10), (10, 5), (10, 0), (10, 95), (1, 10)])
def test_empty_parts_of_the_split_are_refused(lab, write_feat, n_files, ratio):
    for i in range(n_files):
        write_feat('train/s%d/%d.p' % (i % 2, i))
    with pytest.raises(LabError, match='train has %d utterances: val_ratio = %d leaves' % (n_files, ratio)):
        train.split_train_dev('train', ratio)


def test_dataset_gives_features_and_speaker_numbers(lab, write_feat):
    for i in range(40):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 4, i), n_frames=250, seed=i)
    train_dataset, valid_dataset, n_classes = train.load_dataset(25)
    assert (len(train_dataset), len(valid_dataset), n_classes) == (30, 10, 4)
    feature, label = train_dataset[0]
    assert feature.shape == (1, 40, 100) and label in range(4)
    feature, label = valid_dataset[0]
    assert feature.shape == (1, 40, 150)
    filename = train.split_train_dev(c.TRAIN_FEAT_DIR, 25)[1]['filename'][0]
    assert 's%d' % label in filename
    np.testing.assert_allclose(feature[0].T, dataset.read_MFB(filename)[0], rtol=1e-6)


def test_features_beyond_the_budget_are_read_from_their_files(lab, write_feat):
    """Six files of 64 kB each hold 200 frames of 40 float64, of which 100 frames of float32 could stay in
    memory."""
    filenames = [write_feat('s%d/%d.p' % (i % 2, i), seed=i) for i in range(6)]
    DB = pd.DataFrame({'filename': filenames, 'speaker_id': ['s%d' % (i % 2) for i in range(6)]})
    read = []

    def read_and_note(filename):
        read.append(filename)
        return dataset.read_MFB(filename)
    options = read_and_note, [dataset.ToTensorDevInput()], {'s0': 0, 's1': 1}
    n_bytes = sum(map(os.path.getsize, filenames))
    in_memory = dataset.DvectorDataset(DB, *options, cache_gb=n_bytes / 2 * 1e-9)
    in_files = dataset.DvectorDataset(DB, *options, cache_gb=(n_bytes / 2 - 1) * 1e-9)
    assert in_memory.in_memory and not in_files.in_memory and in_files.features == []
    assert in_files.n_speakers == in_files.n_classes == 2
    assert read == filenames * 2  # every file was checked once
    read.clear()
    for i, filename in enumerate(filenames):
        (a, label_a), (b, label_b) = in_memory[i], in_files[i]
        assert torch.equal(a, b) and label_a == label_b == i % 2 and b.shape == (1, 40, 100)
        assert in_files.feature(i).dtype == in_memory.feature(i).dtype == np.float32
        assert read == [filename] * 2  # when it was asked for: once for the sample, once for the feature
        read.clear()
    write_feat('s0/0.p', seed=7)
    assert not torch.equal(in_files[0][0], in_memory[0][0])  # the file is another one now


def in_a_worker(filename):
    """Reads a file as read_MFB does. In a worker of a DataLoader, the feature is the number of the worker."""
    feature, label = dataset.read_MFB(filename)
    if get_worker_info() is not None:
        feature = np.full_like(feature, get_worker_info().id)
    return feature, label


def test_workers_of_a_data_loader_read_the_files(lab, write_feat):
    filenames = [write_feat('s%d/%d.p' % (i % 2, i), n_frames=220, seed=i) for i in range(8)]
    DB = pd.DataFrame({'filename': filenames, 'speaker_id': ['s%d' % (i % 2) for i in range(8)]})
    transforms, numbers = [dataset.ToTensorDevInput()], {'s0': 0, 's1': 1}
    in_files = dataset.DvectorDataset(DB, dataset.read_MFB, transforms, numbers, cache_gb=0)
    loader = DataLoader(in_files, batch_size=2, num_workers=2, collate_fn=dataset.collate_fn_feat_padded)
    for i, (features, labels) in enumerate(loader):
        assert labels.tolist() == [0, 1]
        for j in (0, 1):
            np.testing.assert_allclose(features[j, 0].T, dataset.read_MFB(filenames[2 * i + j])[0], rtol=1e-6)
    of_workers = dataset.DvectorDataset(DB, in_a_worker, transforms, numbers, cache_gb=0)
    ids = [int(features[0, 0, 0, 0]) for features, _ in DataLoader(of_workers, batch_size=2, num_workers=2)]
    assert ids == [0, 1, 0, 1]  # both processes have read files


def test_workers_draw_different_windows(lab, write_feat):
    filename = write_feat('s0/0.p', n_frames=2000)
    DB = pd.DataFrame({'filename': [filename] * 8, 'speaker_id': ['s0'] * 8})
    transforms = [dataset.TruncatedInputfromMFB(), dataset.ToTensorInput()]
    in_files = dataset.DvectorDataset(DB, dataset.read_MFB, transforms, {'s0': 0}, cache_gb=0)
    drawn = []
    for _ in range(2):  # the same seed gives the same windows
        torch.manual_seed(0)
        batches = [features for features, _ in DataLoader(in_files, batch_size=4, num_workers=2)]
        assert [batch.shape for batch in batches] == [(4, 1, 40, 100)] * 2
        drawn.append(torch.cat(batches))
    assert torch.equal(*drawn) and len({sample.numpy().tobytes() for sample in drawn[0]}) == 8


def test_a_recording_is_a_feature_too(lab, monkeypatch, capsys):
    """read_MFB makes the feature of a recording, and prints what is wrong with it."""
    feature = np.random.default_rng(0).normal(size=(200, 40))
    monkeypatch.setattr(dataset, 'open_recording', lambda filename: filename)
    for level in (-44, -70):
        facts = {'seconds': 3.0, 'level': level, 'noise': 40.0, 'clipped': 0.0, 'floor': 0.5, 'voiced': 0.9,
                 'lasting': 0.0, 'changing': 9.0}
        monkeypatch.setattr(dataset, 'feature_of', lambda recording, level: (feature, facts))
        trimmed, label = dataset.read_MFB('me/a.m4a')
        np.testing.assert_array_equal(trimmed, feature[50:150])
        assert label == 'me' and capsys.readouterr().out == ('' if level == -44 else (
            'Note: me/a.m4a: 3.0 s of speech at -70 dBFS, 0.00 % of the samples clipped, 50 % of the cells '
            'on the '
            'floor: record at a higher level\n'))


def test_speaker_with_all_files_in_the_validation_set_still_counts(lab, write_feat):
    for i in range(20):
        write_feat('%s/%s/%02d.p' % (c.TRAIN_FEAT_DIR, 'ab'[i == 0], i))
    for seed in range(30):
        _, valid_dataset, n_classes = train.load_dataset(50, seed=seed)
        assert n_classes == 2
        [valid_dataset[i] for i in range(10)]


def test_one_speaker_is_not_enough(lab, write_feat):
    for i in range(20):
        write_feat('%s/alone/%02d.p' % (c.TRAIN_FEAT_DIR, i))
    with pytest.raises(LabError, match='%s has only one speaker' % c.TRAIN_FEAT_DIR):
        train.load_dataset(10)


def test_a_label_that_contradicts_its_folder_is_refused(lab, write_feat):
    for i in range(20):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 2, i), label='s2' if i == 7 else None)
    with pytest.raises(LabError, match="s1/07.p: its label is 's2', but it lies in the folder of 's1'"):
        train.load_dataset(10)


def test_a_bad_file_is_found_before_the_first_epoch(lab, write_feat, stopped_with, capsys):
    for i in range(20):
        write_feat('%s/s%d/%02d.p' % (c.TRAIN_FEAT_DIR, i % 2, i))
    write_feat('%s/s1/07.p' % c.TRAIN_FEAT_DIR, n_frames=130)
    assert 's1/07.p: 130 frames, 30 after trimming' in stopped_with(train.main)
    assert 'Train Epoch' not in capsys.readouterr().out
    assert not (lab / 'model_saved').exists()
