"""D-vectors and networks that leave the lab: they are those of the lab."""
import numpy as np
import pytest
import torch

from conftest import FirstFrame
from deep_dive import export
from model import background_resnet, embed_feature
from own_voice import embed


@pytest.fixture
def files(write_vector, lab, monkeypatch):
    monkeypatch.setattr(embed, 'load_model', lambda *arguments: FirstFrame())
    return [write_vector('t/a/1.p', 3, 4), write_vector('t/b/1.p', 0, 2)]


def test_d_vectors_of_files_and_of_a_folder(files, lab):
    embed.main(files[::-1], out='x.npz')
    found = np.load('x.npz')  # without allow_pickle
    assert list(found['names']) == ['t/b/1.p', 't/a/1.p'] and list(found['speakers']) == ['', '']
    assert found['vectors'].dtype == np.float32
    np.testing.assert_allclose(found['vectors'], [[0, 1], [0.6, 0.8]], atol=1e-6)
    embed.main(['t'], out='all/x.npz')
    assert list(np.load('all/x.npz')['names']) == files


def test_d_vectors_of_a_folder_of_kaldi(files, lab):
    (lab / 'wav.scp').write_text('u2 t/b/1.p\nu1 t/a/1.p\n')
    (lab / 'utt2spk').write_text('u1 김\nu2 lee\n', encoding='utf-8')
    embed.main(['.'])
    found = np.load('d_vectors.npz')
    assert list(found['names']) == ['u2', 'u1'] and list(found['speakers']) == ['lee', '김']
    np.testing.assert_allclose(found['vectors'], [[0, 1], [0.6, 0.8]], atol=1e-6)


def test_files_that_give_no_d_vector(files, lab, stopped_with, capsys):
    (lab / 'bad.wav').write_bytes(b'no wav')
    (lab / 'notes.txt').write_text('')
    (lab / 'empty').mkdir()
    for settings, complaint in (
            ({}, 'Name recordings or a folder'), ({'files': ['gone.wav']}, 'gone.wav: there is no such file'),
            ({'files': ['notes.txt']}, 'notes.txt: no recording'), ({'files': ['empty']}, 'empty holds no recording'),
            ({'files': ['bad.wav']}, 'No file can be used, for the reasons above. d_vectors.npz is not written'),
            ({'files': files, 'out': 'x.csv'}, "out = 'x.csv': it must be a name that ends with .npz")):
        assert complaint in stopped_with(embed.main, **settings)
    assert sorted(path.name for path in lab.iterdir()) == ['bad.wav', 'empty', 'notes.txt', 't']
    assert '1 of 3 files skipped' in stopped_with(embed.main, files=['bad.wav', *files])
    assert 'Skipped bad.wav: not a wav file' in capsys.readouterr().err
    assert list(np.load('d_vectors.npz')['names']) == files


def test_the_exported_network_gives_the_d_vectors_of_the_lab(lab, monkeypatch):
    torch.manual_seed(0)
    network = background_resnet(16, 3).eval()
    monkeypatch.setattr(export, 'load_model', lambda *arguments: network)
    export.main(out='x.pt2')
    embed_elsewhere = torch.export.load('x.pt2').module()
    for n_frames in (41, 150):
        feature = np.random.default_rng(n_frames).normal(size=(n_frames, 40))
        x = torch.from_numpy(np.float32(feature.T[None, None]))
        with torch.inference_mode():
            torch.testing.assert_close(embed_elsewhere(x), embed_feature(False, feature, network, None),
                                       atol=1e-5, rtol=0)


def test_a_network_that_cannot_be_exported_as_it_is(lab, monkeypatch, stopped_with):
    """Its answer depends on the example with which the file is made."""
    monkeypatch.setattr(export, 'load_model', lambda *arguments: DependsOnData().eval())
    assert 'This network cannot be exported' in stopped_with(export.main)
    assert "out = 'x.onnx': it must be a name that ends with .pt2" in stopped_with(export.main, out='x.onnx')
    assert list(lab.iterdir()) == []


class DependsOnData(FirstFrame):
    def forward(self, x):
        return (x[:, 0, :2, 0] if x.sum() > 0 else x[:, 0, 2:4, 0]), None
