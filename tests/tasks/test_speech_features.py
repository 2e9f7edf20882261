"""Features reach the stages in the shape that their extractor has, with weights from wherever they lie."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_speech import deepspeech_graph, deepspeech_layers, small_config, speech_like

from models.audio.align import scale_of
from models.errors import InputError, MachineError, MissingAssetError, UsageError
from models.records import AudioFeatures
from tasks.assets import candidates, find_asset, read_assets
from tasks.params import validate
from tasks.places import Places
from tasks.speech_features import AudioParams, extract

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "data" / "assets").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "assets.toml", tmp_path / "data" / "assets.toml")
    return Places(tmp_path)


def test_the_window_is_the_extractors_own_unless_one_is_asked_for(places: Places) -> None:
    sound = speech_like(1.0)
    features = extract(sound, 16000, 25, "logmel", AudioParams(), places)
    assert features.values.shape == (25, 80, 16)
    assert (features.extractor, features.rate_hz, features.seconds) == ("logmel", 25.0, 1.0)
    assert extract(sound, 16000, 25, "logmel", AudioParams(window=6), places).values.shape == (25, 80, 6)
    for wrong in (1, 65, "wide"):
        with pytest.raises(UsageError, match="window"):
            validate(AudioParams, {"window": wrong}, "audio")
    with pytest.raises(UsageError, match="44100 Hz"):
        extract(sound, 44100, 25, "logmel", AudioParams(), places)


def test_weights_put_into_the_projects_folder_are_used(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingAssetError, match="deepspeech"):
        extract(speech_like(1.0), 16000, 25, "deepspeech", AudioParams(), places)
    asset = read_assets(places)["deepspeech"]
    deepspeech_graph(places.root / "data" / "assets" / asset.file, deepspeech_layers())
    features = extract(speech_like(1.0), 16000, 25, "deepspeech", AudioParams(), places)
    assert features.values.shape == (25, 29, 16)
    assert features.values.std() > 0.1
    if not torch.cuda.is_available():
        monkeypatch.setenv("GAUSSTALK_DEVICE", "cuda")
        with pytest.raises(MachineError, match="CUDA"):
            extract(speech_like(1.0), 16000, 25, "deepspeech", AudioParams(), places)


def test_weights_are_found_in_the_hubs_cache(places: Places, tmp_path: Path) -> None:
    from transformers import HubertConfig, HubertForCTC

    with pytest.raises(MissingAssetError) as raised:
        find_asset(places, "hubert_large")
    assert "gausstalk fetch hubert_large" in raised.value.fix
    folder = tmp_path / "hub" / "models--facebook--hubert-large-ls960-ft" / "snapshots" / "0123abc"
    torch.manual_seed(0)
    sizes = {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 4, "num_conv_pos_embeddings": 4}
    HubertForCTC(HubertConfig(**small_config(**sizes, num_conv_pos_embedding_groups=16))).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"not read, because the same lies there as safetensors")
    assert find_asset(places, "hubert_large") == folder / "model.safetensors"
    assert extract(speech_like(1.0), 16000, 25, "hubert", AudioParams(), places).values.shape == (25, 1024, 2)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="pytorch_model.bin"):
        extract(speech_like(0.5), 16000, 12, "hubert", AudioParams(), places)


def test_only_the_hubs_assets_are_looked_for_as_safetensors(places: Places) -> None:
    for asset in read_assets(places).values():
        assert all(path.name != "model.safetensors" for path in candidates(places, asset)) or asset.hub


def test_features_that_are_no_numbers_go_no_further(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.audio import logmel
    from models.errors import GausstalkError

    monkeypatch.setattr(logmel, "extract", lambda *_: np.full((25, 80, 16), np.nan, np.float32))
    with pytest.raises(GausstalkError, match="no numbers"):
        extract(speech_like(1.0), 16000, 25, "logmel", AudioParams(), places)
    monkeypatch.setattr(logmel, "extract", lambda *_: np.zeros((25, 81, 16), np.float32))
    with pytest.raises(GausstalkError, match="shape"):
        extract(speech_like(1.0), 16000, 25, "logmel", AudioParams(), places)


def test_the_record_of_wide_features_goes_out_and_in(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 1024, 2)).astype(np.float32)
    AudioFeatures("hubert", "1", 25.0, values, *scale_of(values), 0.2).save(tmp_path)
    np.testing.assert_array_equal(AudioFeatures.load(tmp_path).values, values)


def test_the_record_says_what_the_features_are_and_how_large(places: Places) -> None:
    sound = speech_like(4.0)
    features = extract(sound, 16000, 100, "logmel", AudioParams(), places, learnt_from=np.arange(50))
    assert (features.revision, features.entries_hz, features.values.shape) == ("1", 50.0, (100, 80, 16))
    seen = features.values[:50]
    np.testing.assert_allclose(features.mean, seen.mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(features.deviation, seen.std((0, 2)), rtol=1e-4)
    assert features.quality["clipped_share"] == 0


def test_silence_and_clipping_are_said_and_recorded(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    silent = extract(np.zeros(16000, np.int16), 16000, 25, "logmel", AudioParams(), places)
    assert "silent" in caplog.text
    np.testing.assert_array_equal(silent.deviation, 1)
    loud = np.clip(speech_like(2.0).astype(int) * 40, -32768, 32767).astype(np.int16)
    clipped = extract(loud, 16000, 50, "logmel", AudioParams(), places)
    assert clipped.quality["clipped_share"] > 0.05
    assert "clipped" in caplog.text
    caplog.clear()
    assert extract(speech_like(2.0), 16000, 50, "logmel", AudioParams(), places).quality["silence_share"] < 1
    assert not caplog.text
