"""Train a model for anybody: from folders of recordings to a checkpoint. This is the recipe of `voices`.

    python experiments/train_voices.py <folder> [folder ...] --log_dir=<new folder> --teacher=teacher.npz
    python experiments/train_voices.py <folder> [folder ...] --log_dir=<new folder>     # without a teacher
    python experiments/train_voices.py <folder> [folder ...] --log_dir=<next folder> --init_from=<folder>/going_on.pth
        --feature_dir=<folder> --quiet_share=0.2 ...     # a further stage, with people of whom there are features only

A folder holds <person>/<name>.wav. People of one name in two folders are one person. Four things happen:
1. The speech of each recording is cut out and kept in LOG_DIR/speech, so that it is read only once.
2. Each step draws people, a recording of each, and a piece of it. vary_piece() of deep_dive/acoustics.py makes it
   sound as if it came from another room, microphone or line. Half of the pieces are played faster or slower, which
   makes other people of them.
3. The network learns to find the person (AAM-softmax). With a teacher, it learns above all to give the vector that
   the teacher gave to the unchanged recording (knowledge distillation, Hinton et al. 2015). The teacher is a larger
   network that heard many thousands of people. Only its vectors are needed. Windows of the feature files of
   feature_dir are told apart by AAM alone, and with feature_weight by a softmax, too.
4. LOG_DIR/going_on.pth gets all that the next epoch needs: the same command goes on where it stopped. At the end,
   LOG_DIR/checkpoint_<epoch>.pth gets the averages of the parameters, and what a card of the model says is printed.

A step of 32 pieces takes 1.5 s on one plain core, and half of that on one with bfloat16. The settings ask for 30,000
steps. Afterwards find thresholds on people who were held out:
python -m own_voice.calibrate <folder> --log_dir=... --cp_num=... --into_checkpoint=...
"""
import copy
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from python_speech_features import get_filterbanks
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import project  # noqa: F401 (finds the lab)

import configure as c
from DB_wav_reader import read_DB_structure, read_feats_structure
from SR_Dataset import read_MFB
from absorb_wccn import absorb
from deep_dive.acoustics import change_speed, to_level, vary_piece
from deep_dive.losses import AAMSoftmaxLoss
from deep_dive.networks import background_network
from support.checks import FFT_LENGTH, feature_settings, path_parts, require_log_filterbank
from support.devices import get_device, mixed_precision
from support.messages import NAME, SHARE, LabError, check_settings, in_parallel, is_number, or_none, run_script, whole
from support.recordings import open_recording
from support.runs import save_checkpoint
from support.safe_files import written_whole

KEPT_LEVEL = -30  # dBFS: speech is kept at this level, because int16 would clip louder speech
MARGIN = 0.05  # seconds that are kept before and after the speech
MEAN_SECONDS = 4  # of a piece from which the mean of all people is computed
QUIETEST = 20  # dB: so much quieter are the pieces of quiet_share at most
SIZE = 192  # numbers of an embedding in the training, as many as the teacher's
N_WINDOWS, WINDOW_FRAMES = 8, 200  # from which the class of a speaker of feature_dir begins
KEPT = 128  # numbers of a d-vector afterwards, as many as in the slides
SPEEDS = 'a list of numbers, such as [0.88, 1.13]', lambda value: (
    isinstance(value, list) and all(is_number(speed, 0.5, 2) and speed != 1 for speed in value))
PART = 'a number from 0 to 1', lambda value: is_number(value, 0, 1)
LEVEL = 'a level in dBFS, from -60 to -10', lambda value: is_number(value, -60, -10)


# ------------------------------------------------------------------------------------------------- recordings

def speech_of(filename):
    """The speech of a recording at KEPT_LEVEL: (n_samples,) int16. Of a recording without speech: None."""
    try:
        audio = open_recording(filename).prepared(KEPT_LEVEL)
    except LabError as error:
        print('Skipped %s' % error)
        return None
    dropped = round((c.TRIM_SECONDS - MARGIN) * c.SAMPLE_RATE)
    return np.round(np.clip(audio[dropped:len(audio) - dropped], -1, 1) * 32767).astype(np.int16)


def read_speech(folder, cache_dir):
    """DataFrame (filename, speaker_id, ...) of the recordings with speech in a folder, and the list of their speech.

    It is computed once, and kept in two files of cache_dir. It stays on the disk until a piece of it is needed.
    """
    DB, cache = read_DB_structure(folder), os.path.join(cache_dir, '_'.join(path_parts(folder)[1:]))
    index_file, audio_file = cache + '.index.npz', cache + '.npy'
    if not os.path.exists(index_file) or list(np.load(index_file)['filename']) != list(DB['filename']):
        speech = [audio if audio is not None else np.zeros(0, np.int16)
                  for audio in in_parallel(speech_of, DB['filename'], 'Speech of %s' % folder)]
        with written_whole(audio_file) as f:
            np.save(f, np.concatenate(speech))
        with written_whole(index_file) as f:  # last, because it says that both are there
            np.savez(f, filename=list(DB['filename']), stop=np.cumsum([len(audio) for audio in speech]))
    stop = np.load(index_file)['stop']
    speech = np.split(np.load(audio_file, mmap_mode='r'), stop[:-1])
    has_speech = np.diff(stop, prepend=0) > 0
    return DB[has_speech].reset_index(drop=True), [audio for audio, kept in zip(speech, has_speech) if kept]


def name_of(filename):
    """The name of a recording in a teacher's file: folder/person/name, without .wav."""
    return '/'.join(path_parts(os.path.splitext(filename)[0])[-3:])


def read_teacher(teacher, speed, filenames):
    """The teacher's vectors of some recordings at a speed, of unit length: (n, SIZE).

    teacher: an npz with 'files' and 'vectors'. Those of other speeds are in files beside it: teacher_0.88.npz.
    """
    stem, extension = os.path.splitext(teacher)
    npz_file = teacher if speed == 1 else '%s_%g%s' % (stem, speed, extension)
    if not os.path.exists(npz_file):
        raise LabError('%s: there is no such file. It must hold the vectors of a teacher at %g times the speed.\n'
                       'Make it, or leave this speed out of --speeds.' % (npz_file, speed))
    content = np.load(npz_file)
    vector_of = dict(zip(content['files'].tolist(), content['vectors'].astype(np.float64)))
    missing = [name for name in map(name_of, filenames) if name not in vector_of]
    if missing:
        raise LabError('%s has no vector of %d recordings, such as %s.' % (npz_file, len(missing), missing[0]))
    return unit(np.stack([vector_of[name_of(filename)] for filename in filenames]))


def unit(vectors):
    """Vectors (n, size), each divided by its length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# ------------------------------------------------------------------------------------------------- batches

class Batches(Dataset):
    """Batch number `step` of an epoch: pieces (n_pieces, n_samples) float32, windows of features (n_windows, n_frames,
    FILTER_BANK), targets of the pieces (n_pieces, SIZE), classes of both (n_pieces + n_windows,).

    A person is drawn with a probability of the square root of the number of recordings: who has more is heard more
    often, but does not crowd out the others. A person at another speed is another class. The target of a piece is
    between the teacher's vector of its recording and the mean of that person. Both are less the mean of all: what all
    vectors share says nothing about anybody. Without a teacher, the targets are zeros. The windows are of the feature
    files in feature_dir. Their people are further classes.
    """

    def __init__(self, speech, people, filenames, settings):
        self.speech, self.s, self.epoch = speech, settings, 0
        self.feature_files, self.n_windows, self.n_feature_people = [], 0, 0
        if settings['feature_dir']:
            DB = read_feats_structure(settings['feature_dir'])
            self.feature_files = list(DB['filename'])
            self.n_windows = round(settings['feature_share'] * settings['batch_size'])
            if not 0 < self.n_windows < settings['batch_size']:
                raise LabError('feature_share = %g of batch_size = %d: a step needs pieces and windows. Set a larger '
                               'batch_size, or another feature_share.'
                               % (settings['feature_share'], settings['batch_size']))
            feature_people, self.feature_person = np.unique(DB['speaker_id'], return_inverse=True)
            self.n_feature_people = len(feature_people)
        self.names, self.person = np.unique(people, return_inverse=True)  # names, and the number of each recording's
        self.of_person = [np.flatnonzero(self.person == number) for number in range(len(self.names))]
        roots = np.sqrt([len(recordings) for recordings in self.of_person])
        self.chances = roots / roots.sum()
        self.speeds = [1, *settings['speeds']]
        self.n_classes = len(self.speeds) * len(self.names) + self.n_feature_people
        self.targets, self.centres = [], []  # of each speed: (n recordings, SIZE), (n people, SIZE)
        overall = read_teacher(settings['teacher'], 1, filenames).mean(axis=0) if settings['teacher'] else 0
        for speed in self.speeds if settings['teacher'] else []:
            vectors = unit(read_teacher(settings['teacher'], speed, filenames) - overall)
            centres = unit(np.stack([vectors[recordings].mean(axis=0) for recordings in self.of_person]))
            own = settings['own_share']
            self.targets.append(unit(own * vectors + (1 - own) * centres[self.person]).astype(np.float32))
            self.centres.append(centres.astype(np.float32))

    def __len__(self):
        return self.s['n_steps']

    def __getitem__(self, step):
        rng = np.random.default_rng([self.s['seed'], self.epoch, step])  # so each batch is the same in any process
        n_frames = round(rng.uniform(self.s['shortest'], self.s['longest']) / c.WIN_STEP)  # one length in a batch
        n_samples = round((c.WIN_LENGTH + (n_frames - 1) * c.WIN_STEP) * c.SAMPLE_RATE)
        pieces, targets, classes = [], [], []
        for person in rng.choice(len(self.names), self.s['batch_size'] - self.n_windows, p=self.chances):
            recording, k = rng.choice(self.of_person[person]), 0
            if len(self.speeds) > 1 and rng.random() < self.s['speed_share']:
                k = int(rng.integers(1, len(self.speeds)))
            pieces.append(self.piece(recording, self.speeds[k], n_samples, rng))
            targets.append(self.targets[k][recording] if self.targets else np.zeros(SIZE, np.float32))
            classes.append(k * len(self.names) + person)
        windows = np.zeros((self.n_windows, n_frames, c.FILTER_BANK), np.float32)
        for i, number in enumerate(rng.choice(len(self.feature_files), self.n_windows) if self.n_windows else []):
            windows[i] = self.window(self.feature_files[number], n_frames, rng)
            classes.append(len(self.speeds) * len(self.names) + self.feature_person[number])
        return np.stack(pieces), windows, np.stack(targets), np.array(classes)

    def window(self, filename, n_frames, rng):
        """A random window of a feature file, less its mean: (n_frames, FILTER_BANK). A shorter file is repeated."""
        feature, _ = read_MFB(filename)  # (all frames, FILTER_BANK)
        feature = np.tile(feature, (math.ceil(n_frames / len(feature)), 1))
        start = rng.integers(len(feature) - n_frames + 1)
        window = feature[start:start + n_frames]
        return window - window.mean(axis=0)

    def piece(self, recording, speed, n_samples, rng):
        """A random piece of a recording, changed: (n_samples,) float32."""
        audio = change_speed(self.cut(recording, math.ceil(n_samples * speed) + 1, rng), speed)[:n_samples]
        audio = vary_piece(audio, rng, lambda n, rng: self.cut(rng.integers(len(self.speech)), n, rng))
        level = self.s['level'] + 2 * rng.normal()  # levels are never measured well
        if rng.random() < self.s['quiet_share']:
            level -= rng.uniform(0, QUIETEST)  # the floor of the features cuts off more of it
        return to_level(audio, level).astype(np.float32)

    def cut(self, recording, n_samples, rng):
        """n_samples of a recording from a random place on: (n_samples,). A shorter one is repeated."""
        audio = self.speech[recording]
        audio = np.tile(audio, math.ceil(n_samples / len(audio)))
        start = rng.integers(len(audio) - n_samples + 1)
        return audio[start:start + n_samples] / 32767


def features_of(audio):
    """extract_features of a batch of pieces: (batch, n_samples) float32 -> (batch, 1, FILTER_BANK, n_frames).

    n_samples must fill the last frame, because extract_features fills it with zeros.
    """
    length, step = round(c.WIN_LENGTH * c.SAMPLE_RATE), round(c.WIN_STEP * c.SAMPLE_RATE)
    filters = torch.tensor(get_filterbanks(c.FILTER_BANK, FFT_LENGTH, c.SAMPLE_RATE).T, dtype=torch.float32)
    audio = torch.cat([audio[:, :1], audio[:, 1:] - 0.97 * audio[:, :-1]], dim=1)
    power = torch.fft.rfft(audio.unfold(1, length, step), FFT_LENGTH).abs() ** 2 / FFT_LENGTH  # (batch, n_frames, 257)
    log_energies = 20 * torch.log10((power @ filters.to(audio.device)).clamp(min=c.ENERGY_FLOOR))
    return (log_energies - log_energies.mean(dim=1, keepdim=True)).transpose(1, 2).unsqueeze(1)


# ------------------------------------------------------------------------------------------------- learning

OTHER_NETWORK = '%s: neither the going_on.pth nor the checkpoint of such a network. Name another file as init_from.'
LEARNS = ['model', 'average', 'criterion', 'optimizer']  # what going_on.pth holds the state of


def rate_at(step, n_steps, warm_up, decay):
    """The share of the learning rate in a step of all n_steps: it rises during warm_up, stays, and ends at nothing."""
    rising = min(1, (step + 1) / warm_up) if warm_up else 1
    left = n_steps - step
    return rising * (1 - math.cos(math.pi / 2 * left / decay) if left < decay else 1)


def follow(average, model, share):
    """Move the parameters of `average` towards those of `model` by this share of the way (Polyak & Juditsky 1992)."""
    with torch.no_grad():
        for there, here in zip(average.state_dict().values(), model.state_dict().values()):
            if there.is_floating_point():
                there.lerp_(here, share)
            else:
                there.copy_(here)  # BatchNorm counts its batches


def train_epoch(run, batches, s, device):
    """Train for one epoch. run: a dict of what learns, and of the steps so far. Returns what is printed."""
    model, criterion, optimizer = run['model'], run['criterion'], run['optimizer']
    model.train()
    criterion.train()
    sums, begin = np.zeros(3), time.perf_counter()
    loader = DataLoader(batches, batch_size=None, num_workers=s['num_workers'])
    shown = tqdm(loader, desc='Epoch %d' % (batches.epoch + 1), disable=None, leave=False)
    for pieces, windows, targets, classes in shown:
        rate = rate_at(run['step'], s['n_epochs'] * s['n_steps'], s['warm_up'], s['decay'])
        for group in optimizer.param_groups:
            group['lr'] = s['lr'] * rate * group['share']
        targets, classes = targets.to(device), classes.to(device)
        windows = windows.to(device).transpose(1, 2).unsqueeze(1)  # (n_windows, 1, FILTER_BANK, n_frames)
        x = torch.cat([features_of(pieces.to(device)), windows])  # (batch, 1, FILTER_BANK, n_frames)
        with mixed_precision(device):
            embedding, cosines = model(x)  # (batch, SIZE), (batch, n_classes)
        embedding, cosines = embedding.float(), cosines.float()
        aam = criterion(cosines, classes, embedding)
        nearness = F.cosine_similarity(embedding[:len(targets)], targets).mean()  # windows have no target
        loss = 1 - nearness + s['aam_weight'] * aam if s['teacher'] else aam
        if s['feature_weight'] and len(windows):
            n = len(targets)
            loss = loss + s['feature_weight'] * F.cross_entropy(criterion.scale * cosines[n:], classes[n:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run['of_network'], s['clip'])
        optimizer.step()
        follow(run['average'], model, max(1 - s['average'], 9 / (10 + run['step'])))  # at first it forgets fast
        run['step'] += 1
        sums += [float(loss.detach()), float(nearness.detach()), float(aam.detach())]
    if not math.isfinite(sums[0]):
        raise LabError('The loss is no number any more. Set a lower lr, and run this again: it goes on from the epoch\n'
                       'that was saved last.')
    return 'Epoch %d: loss %.4f, cosine to the teacher %.4f, AAM %.3f, learning rate %.2g, %.0f s' % (
        batches.epoch + 1, *sums / len(batches), s['lr'] * rate, time.perf_counter() - begin)


def begin_run(batches, s, device):
    """What learns, before the first step: a dict of model, average, criterion, optimizer and step."""
    torch.manual_seed(s['seed'])
    model = background_network(SIZE, batches.n_classes, 'conformer_large', pooling='attentive', head='cosine')
    if s['teacher']:  # the teacher knows where the people lie
        centres = torch.from_numpy(np.concatenate(batches.centres))  # (n people at all speeds, SIZE)
        model.last.weight.data[:len(centres)] = centres
    model = model.to(device)
    of_network = [parameter for name, parameter in model.named_parameters() if name != 'last.weight']
    optimizer = torch.optim.AdamW([  # share: of the learning rate
        {'params': [one for one in of_network if one.ndim > 1], 'weight_decay': s['wd'], 'share': 1},
        {'params': [one for one in of_network if one.ndim < 2], 'weight_decay': 0, 'share': 1},
        {'params': [model.last.weight], 'weight_decay': 0, 'share': 0.3}])
    criterion = AAMSoftmaxLoss(batches.n_classes, SIZE, s['ramp'], ramp=1).to(device)
    return {'model': model, 'average': copy.deepcopy(model), 'criterion': criterion, 'optimizer': optimizer, 'step': 0,
            'of_network': of_network}


def go_on(run, filename):
    """Give a run what going_on.pth holds. Returns the number of finished epochs."""
    state = torch.load(filename, map_location='cpu', weights_only=True)
    try:
        for name in LEARNS:
            run[name].load_state_dict(state[name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise LabError('%s: a run of other people, speeds or another network. Name the same folders, or a new '
                       'log_dir.' % filename) from error
    run['step'] = state['step']
    return state['epoch']


def begin_with(run, filename, batches, s, device):
    """Give a run the network of another one, and the margin of its loss.

    filename: a going_on.pth, or a checkpoint of save_average(), of which the margin begins anew. If the number of
    classes is another one, they stay as begin_run() made them, and those of feature_dir begin where their people are.
    """
    state, keeps_classes = torch.load(filename, map_location='cpu', weights_only=True), False
    if 'state_dict' in state:
        begin_with_checkpoint(run, filename, state['state_dict'], batches, s, device)
    else:
        try:
            for name in ('model', 'average'):
                parameters = state[name]
                keeps_classes = parameters['last.weight'].shape == run[name].last.weight.shape
                if not keeps_classes:
                    parameters['last.weight'] = run[name].last.weight.data
                run[name].load_state_dict(parameters)
            run['criterion'].load_state_dict(state['criterion'])
        except (RuntimeError, KeyError) as error:
            raise LabError(OTHER_NETWORK % filename) from error
    if not keeps_classes:
        begin_feature_people(run, batches, s, device)


def begin_with_checkpoint(run, filename, state_dict, batches, s, device):
    """Give a run the network of a checkpoint of save_average(), which has KEPT numbers where the training needs SIZE.

    The SIZE numbers are M times the KEPT ones. M brings a piece of each person nearest to the teacher's vector of that
    person (least squares). BatchNorm begins with the means and deviations of these numbers, so it changes nothing.
    """
    if not s['teacher']:
        raise LabError('init_from: a checkpoint has no layer of %d numbers, and only a teacher can say what they were. '
                       'Give a teacher, or a going_on.pth.' % SIZE)
    reduced = background_network(KEPT, 2, 'conformer_large', pooling='attentive', head='cosine')
    try:
        reduced.load_state_dict(state_dict)
    except RuntimeError as error:
        raise LabError(OTHER_NETWORK % filename) from error
    vectors = embeddings_of_people(reduced.to(device), batches, s, device)  # (n_people, KEPT)
    centres = torch.from_numpy(batches.centres[0])  # (n_people, SIZE)
    M = torch.linalg.lstsq(F.normalize(vectors), centres, rcond=1e-4).solution  # (KEPT, SIZE)
    numbers = vectors @ M  # (n_people, SIZE)
    state_dict = absorb(state_dict, torch.zeros(1, KEPT), M)
    mean, variance = numbers.mean(dim=0), numbers.var(dim=0)
    state_dict.update({'bn0.weight': torch.sqrt(variance + 1e-5), 'bn0.bias': mean,
                       'bn0.running_mean': mean, 'bn0.running_var': variance})
    for name in ('model', 'average'):
        run[name].load_state_dict({**state_dict, 'last.weight': run[name].last.weight.data})


@torch.inference_mode()
def begin_feature_people(run, batches, s, device):
    """Let the classes of the feature files begin at the mean embedding of some windows of their people."""
    model, rng, n_people = run['model'].eval(), np.random.default_rng(s['seed']), batches.n_feature_people
    for number in range(n_people):
        files = [batches.feature_files[i] for i in np.flatnonzero(batches.feature_person == number)[:N_WINDOWS]]
        windows = np.stack([batches.window(filename, WINDOW_FRAMES, rng) for filename in files])
        x = torch.from_numpy(windows).float().to(device).transpose(1, 2).unsqueeze(1)  # (n, 1, FILTER_BANK, n_frames)
        centre = F.normalize(model(x)[0]).mean(dim=0)  # (SIZE,)
        for name in ('model', 'average'):
            run[name].last.weight.data[number - n_people] = centre  # their classes are the last ones


def save(run, epoch, s):
    """Write going_on.pth, all that the next epoch needs."""
    state = {name: run[name].state_dict() for name in LEARNS}
    save_checkpoint(Path(s['log_dir'], 'going_on.pth'), {**state, 'step': run['step'], 'epoch': epoch})


def save_average(run, epoch, batches, s, device):
    """Write the averages of the parameters as a checkpoint that all programs of the lab read.

    The mean embedding of all people is subtracted: what all have in common says nothing about anybody. Of the
    rest, the KEPT directions remain in which people differ most (PCA), so that a d-vector has the size of the slides'.
    """
    vectors = embeddings_of_people(run['average'], batches, s, device)  # (n_people, SIZE)
    mean = vectors.mean(dim=0, keepdim=True)
    axes = torch.linalg.eigh((vectors - mean).T @ (vectors - mean))[1][:, -KEPT:]  # (SIZE, KEPT)
    state_dict = absorb({name: tensor.cpu() for name, tensor in run['average'].state_dict().items()}, mean, axes)
    state_dict['last.weight'] = torch.eye(2, KEPT)  # the classes are not needed any more
    save_checkpoint(Path(s['log_dir'], 'checkpoint_%d.pth' % epoch), {
        'epoch': epoch + 1, 'state_dict': state_dict, 'optimizer': {}, 'features': feature_settings(),
        **run['model'].settings, 'level': s['level'], 'embedding_size': KEPT, 'settings': s})


@torch.inference_mode()
def embeddings_of_people(model, batches, s, device):
    """The embedding of a piece of each person, neither changed nor at another speed: (n_people, SIZE), on the CPU."""
    model.eval()
    rng, n_samples, vectors = np.random.default_rng(s['seed']), round(MEAN_SECONDS * c.SAMPLE_RATE), []
    for recordings in batches.of_person:
        audio = to_level(batches.cut(recordings[0], n_samples, rng), s['level'])
        vectors.append(model(features_of(torch.from_numpy(audio.astype(np.float32))[None].to(device)))[0])
    return torch.cat(vectors).cpu()


def main(
        # Settings
        folders=[],  # the recordings: DIR/<person>/<name>.wav; try those of several corpora
        log_dir='model_anybody',  # where all that is written goes
        hold_out=None,  # a file with the names of people who are kept for tests, one a line
        teacher=None,  # an npz with the vectors of a teacher; None: without one
        speeds=[0.88, 1.13],  # other speeds; each makes another person of everybody
        speed_share=0.5,  # which share of the pieces is played at one of these speeds
        shortest=1.5,  # seconds of a piece
        longest=2.5,  # seconds of a piece; longer ones cost time and help with long recordings
        level=-24,  # dBFS: the speech is brought to this level, and tests have to do the same
        batch_size=32,  # pieces in a step
        n_steps=100,  # steps in an epoch
        n_epochs=300,  # epochs
        lr=8e-4,  # learning rate
        wd=0.05,  # weight decay
        warm_up=300,  # steps in which the learning rate rises
        decay=3000,  # last steps, in which it falls to nothing; 0: not, so that the run can be made longer
        clip=2.0,  # gradients longer than this are shortened
        average=0.998,  # the checkpoints hold averages of about 1 / (1 - average) steps
        aam_weight=0.05,  # weight of AAM beside the teacher
        ramp=3000,  # steps in which the margin of AAM rises to 0.2
        own_share=0.5,  # which share of a target is the recording; the rest is the person
        feature_dir=None,  # feature files of further people, all of whom are trained on; None: none
        feature_share=0.15,  # which share of a step is windows of them
        feature_weight=0.0,  # weight of telling them apart, beside aam_weight, because no teacher knows them; try 0.1
        quiet_share=0.0,  # which share of the pieces is up to 20 dB quieter, as the slides' features are; try 0.2
        init_from=None,  # begin with the network of another run's going_on.pth, or of a checkpoint: a further stage
        seed=0,  # of the network and of all that is drawn
        num_workers=0,  # processes that draw pieces; try 4 with a GPU
        use_cuda=True,  # use a GPU if there is one
):
    if not folders:
        raise LabError('Name a folder or more: each holds <person>/<name>.wav.')
    s = check_settings(main, locals(), hold_out=or_none(NAME), teacher=or_none(NAME), init_from=or_none(NAME),
                       feature_dir=or_none(NAME), feature_share=SHARE, quiet_share=PART, speeds=SPEEDS, level=LEVEL,
                       batch_size=whole(2), average=SHARE, decay=whole(0), warm_up=whole(0))
    require_log_filterbank('train_voices.py')

    # Read the recordings, and leave out the people who are kept for tests
    kept = set(Path(hold_out).read_text(encoding='utf-8').splitlines()) - {''} if hold_out else set()
    people, filenames, speech, card, left_out = [], [], [], [], set()
    for folder in folders:
        DB, audio = read_speech(folder, os.path.join(log_dir, 'speech'))
        left_out |= kept & set(DB['speaker_id'])
        rows = [row for row in zip(DB['speaker_id'], DB['filename'], audio) if row[0] not in kept]
        people += [person for person, _, _ in rows]
        filenames += [filename for _, filename, _ in rows]
        speech += [audio for _, _, audio in rows]
        hours = sum(len(audio) for _, _, audio in rows) / c.SAMPLE_RATE / 3600
        card.append('%s: %d people, %d recordings, %.2f hours of speech'
                    % (folder, len({person for person, _, _ in rows}), len(rows), hours))
    if kept - left_out:
        raise LabError('%s: no folder has %s. Correct the name, or nobody is kept.' % (hold_out, min(kept - left_out)))
    batches = Batches(speech, people, filenames, s)
    if feature_dir:
        card.append('%s: %d people, %d feature files'
                    % (feature_dir, len(set(batches.feature_person)), len(batches.feature_files)))
    card.append('Together %d people, at %d speeds. %d people are kept for tests. Seed %d.'
                % (len(batches.names), len(batches.speeds), len(kept), seed))
    print('\n'.join(card), flush=True)

    # Begin, or go on
    device, going_on = get_device(use_cuda), os.path.join(log_dir, 'going_on.pth')
    run, first = begin_run(batches, s, device), 0
    if os.path.exists(going_on):
        first = go_on(run, going_on)
    elif init_from:
        begin_with(run, init_from, batches, s, device)

    # Train
    for epoch in range(first, n_epochs):
        batches.epoch = epoch
        print(train_epoch(run, batches, s, device), flush=True)
        save(run, epoch + 1, s)
    save_average(run, n_epochs, batches, s, device)
    print('\n'.join(card))
    print('Written: %s' % os.path.join(log_dir, 'checkpoint_%d.pth' % n_epochs))


if __name__ == '__main__':
    run_script(main, words=True)
