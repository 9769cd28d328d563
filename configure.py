"""Settings that every script shares: where the data lies, and what a feature is.

Paths are relative to the folder in which you run. Feature files made with other values are refused. The
settings of one script (learning rate, threshold) are the arguments of its main().
"""

# Recordings: DIR/<speaker>/<utterance>.wav
TRAIN_WAV_DIR = 'train_wavs'  # your own training recordings, if you have any
TEST_WAV_DIR = 'test_wavs'  # DIR/<speaker>/enroll.wav and DIR/<speaker>/test.wav
SPEAKER_LEVEL = 1  # 1: DIR/<speaker>/x.wav; 2: DIR/<speaker>/<video>/x.wav, as in VoxCeleb

# Features: DIR/<speaker>/<utterance>.p. Other features need another folder, such as feat_mfcc
TRAIN_FEAT_DIR = 'feat_logfbank_nfilt40/train'
TEST_FEAT_DIR = 'feat_logfbank_nfilt40/test'  # recordings (wav) may be in it, too

# How a feature is made (DB_wav_reader.py)
SAMPLE_RATE = 16000  # Hz; recordings of another rate are resampled
CHANNEL = None  # 1, 2, ...: this channel of a recording; None: where speech is clearest; 'mean': average
WIN_LENGTH = 0.025  # seconds of audio in one frame
WIN_STEP = 0.01  # seconds from one frame to the next: 100 frames a second
FILTER_BANK = 40  # number of mel filters between 0 Hz and SAMPLE_RATE / 2; try 23, 64
ENERGY_FLOOR = 1e-5  # smaller filter energies are raised to this: -100 in units of 20*log10
LEVEL_DBFS = -44  # dBFS (0: full scale): level given to recordings, because of the floor; None: unchanged
USE_LOGSCALE = True  # 20*log10 of the energies, as published; False: the energies themselves
USE_MFCC = False  # mel cepstrum (MFCC) instead of the filterbank
N_CEPSTRUM = 20  # with USE_MFCC: the number of coefficients, at most FILTER_BANK; try 13, 40
USE_DELTA = False  # add the first and second differences between frames: three times as many columns
USE_SCALE = False  # divide each column by its standard deviation over the utterance

# What the network sees (SR_Dataset.py)
TRIM_SECONDS = 0.5  # seconds dropped at both ends of an utterance: silence in the published data
MIN_FRAMES = 40  # frames (0.4 s): an utterance must be longer than this after trimming
NUM_WIN_SIZE = 100  # frames of a training window: 1 second; try 200 (then test_frames=None: whole files)
