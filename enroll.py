"""Enrol the speakers: one averaged d-vector for each.

    python enroll.py
    python enroll.py --cp_num=etri240     # with the trained model that comes with the project

Reads TEST_FEAT_DIR/<speaker>/enroll*.p or enroll*.wav (configure.py) and a checkpoint of train.py. Makes demo
voices if there are none. Writes embeddings.p and pictures into enroll_embeddings. Takes ten seconds.
"""
import sys

import configure as c
from DB_wav_reader import split_enroll_and_test
from model import get_embeddings, load_model, save_enroll_embeddings
from support.demo_voices import parameters_of_all, provide_test_features
from support.enrolments import forget_removed
from support.messages import TEST_RULES, LabError, check_settings, run_script
from support.pictures import draw_who_sounds_alike
from support.recordings import name_unused_files, same_origin


def enroll_per_spk(use_cuda, test_frames, model, DB, embedding_dir):
    """Average the d-vectors of the enrolment files of each speaker, and save them in embedding_dir.

    A sum stands for the average, because both have the same cosine with any d-vector. A speaker with a bad
    file is skipped, with a message. Returns dict speaker -> (1, embedding_size) of those who are left.
    """
    embeddings, recordings, skipped = {}, {}, set()
    print('Start to aggregate all the d-vectors per enroll speaker')
    for i in range(len(DB)):
        filename = DB['filename'][i]
        spk = DB['speaker_id'][i]
        try:
            activation = get_embeddings(use_cuda, filename, model, test_frames)  # (1, embedding_size)
            # LabError if it was not recorded like the speaker's other files
            recordings[spk] = same_origin(recordings.get(spk), filename, model.settings['level'])
        except (LabError, OSError, MemoryError) as error:
            print('Skipped %s: %s' % (spk, error), file=sys.stderr)
            skipped.add(spk)
            continue
        embeddings[spk] = embeddings.get(spk, 0) + activation
        print('Aggregates the activation (spk : %s)' % spk)

    embeddings = {spk: embeddings[spk] for spk in sorted(embeddings) if spk not in skipped}
    save_enroll_embeddings(embedding_dir, embeddings, model, recordings)
    for spk in embeddings:
        print('Save the embeddings for %s' % spk)
    return embeddings


def main(
        # Settings of the slides
        use_cuda=True,  # use a GPU if there is one
        log_dir='model_saved',  # where the checkpoints are saved
        embedding_size=128,  # dimension of a d-vector; None: what the checkpoint says
        cp_num=24,  # which checkpoint? 'best': lowest validation loss; 'etri240': the project's trained model
        n_classes=None,  # training speakers (slides: 240); None: what the checkpoint says
        test_frames=200,  # frames (10 ms apart) in a segment of the utterance; None: not cut
        embedding_dir='enroll_embeddings',  # where to save the embeddings

        # Beyond the slides
        test_dir=c.TEST_FEAT_DIR,  # where the enrolment files are
        plot=True,  # draw who sounds like whom
):
    check_settings(main, locals(), **TEST_RULES)

    # Load the model from the checkpoint
    model = load_model(use_cuda, log_dir, cp_num, embedding_size, n_classes)

    # Get the dataframe for the enroll DB
    provide_test_features(test_dir)
    forget_removed(embedding_dir, test_dir)
    enroll_DB, test_DB = split_enroll_and_test(test_dir)
    name_unused_files(test_dir, [*enroll_DB['filename'], *test_DB['filename']], set(enroll_DB['speaker_id']))

    # Perform the enrolment and save the results
    embeddings = enroll_per_spk(use_cuda, test_frames, model, enroll_DB, embedding_dir)
    if plot and len(embeddings) > 2:  # the picture also shows how demo voices were made
        draw_who_sounds_alike(embeddings, parameters_of_all(embeddings), embedding_dir)
    skipped = sorted(set(enroll_DB['speaker_id']) - set(embeddings))
    if skipped:
        raise LabError('Not enrolled, for the reasons above: %s. The others are enrolled.'
                       % ', '.join(skipped))


if __name__ == '__main__':
    run_script(main)
