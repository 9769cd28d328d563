"""Settings that every script shares: where the data lies and what a feature is.

Paths are relative to the folder you run the scripts from, as in the slides. Hyperparameters of one script (learning
rate, threshold, ...) stand in that script's main().
"""


# Folders of wav files, DIR/<speaker>/<utterance>.wav
TRAIN_WAV_DIR = 'train_wavs'  # your own training recordings, if you have any
TEST_WAV_DIR = 'test_wavs'  # DIR/<speaker>/enroll.wav and DIR/<speaker>/test.wav
SPEAKER_LEVEL = 1  # folders from a file up to its speaker's; VoxCeleb's <speaker>/<video>/<utterance>.wav takes 2

# Feature extraction (DB_wav_reader.py). Feature files and checkpoints made with other values are refused, except of
# LEVEL_DBFS, which is about wavs; an enrolment made with another LEVEL_DBFS is refused
SAMPLE_RATE = 16000  # Hz; wavs of another rate are resampled to it
WIN_LENGTH = 0.025  # seconds of one analysis window
WIN_STEP = 0.01  # seconds from one window to the next: 100 frames a second
FILTER_BANK = 40  # mel filters between 0 Hz and SAMPLE_RATE / 2: the rows of a feature map; try 23, 64
LEVEL_DBFS = -44  # speech in wavs is brought to this level, its ends are found by it; None: the published recipe alone
ENERGY_FLOOR = 1e-5  # filter energies below it count as this much: -100 in units of 20*log10
USE_MFCC = False  # mel cepstrum in place of the filterbank
N_CEPSTRUM = 20  # its coefficients that are kept, FILTER_BANK at most: the rows of a feature map then; try 13, 40
USE_LOGSCALE = True  # 20*log10 of the energies; False: the energies themselves. A cepstrum is of logarithms either way
USE_DELTA = False  # append first and second differences from frame to frame: three times as many rows
USE_SCALE = False  # divide each row by its standard deviation over the utterance

# Folders of feature files, DIR/<speaker>/<utterance>.p; wavs will do, too, in that of the test. For the real corpus
# write here where you cloned it (README)
FEAT_DIR = 'feat_%s_nfilt%d%s%s' % ('mfcc' if USE_MFCC else 'logfbank' if USE_LOGSCALE else 'fbank', FILTER_BANK,
                                    '_delta' * USE_DELTA, '_scale' * USE_SCALE)  # feat_logfbank_nfilt40
TRAIN_FEAT_DIR = FEAT_DIR + '/train'
TEST_FEAT_DIR = FEAT_DIR + '/test'

# What the network sees (SR_Dataset.py)
TRIM_SECONDS = 0.5  # dropped at both ends of every utterance: recorded silence
MIN_FRAMES = 40  # an utterance must be longer than this after trimming
NUM_WIN_SIZE = 100  # frames of one training sample: 1 second
