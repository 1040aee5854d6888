"""Which weights the Gatys presets run with, and what the recipe says."""

import hashlib

import numpy as np
import pytest
import seeded
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import weights
from depthstyle.weights import registry

PICTURE = np.random.default_rng(0).random((24, 32, 3)).astype(np.float32)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Puts weights into the cache as a published file."""
    monkeypatch.setenv("DEPTHSTYLE_CACHE", str(tmp_path))

    def put(name):
        path = tmp_path / registry.published(name).filename
        save_file(seeded.encoder_weights(), path)
        return path

    return put


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_embedded_encoder_without_a_cache():
    session = ds.Session(PICTURE, PICTURE)
    origin = {"file": "encoder.safetensors", "sha256": sha256(weights.EMBEDDED)}
    assert session.recipe["network_weights"] == origin


@pytest.mark.parametrize("preset", ["size-invariant", "lapstyle"])
def test_published_vgg19_once_it_is_in_the_cache(cached, preset):
    path = cached("vgg19")
    session = ds.Session(PICTURE, PICTURE, preset=preset)
    assert session.recipe["network_weights"] == {"file": path.name, "sha256": sha256(path)}
    wanted = seeded.encoder_weights()
    for key, array in session.perception.weights.items():
        np.testing.assert_array_equal(array, wanted[key])
    session.step(1)


def test_a_preset_finds_its_network_in_the_cache(cached):
    with pytest.raises(ds.WeightsError, match=r"needs those of vgg16.*weights get vgg16, or give"):
        ds.Session(PICTURE, PICTURE, preset="001-vgg16")
    path = cached("vgg16")
    layers = {"content_layers": ["relu3_1"], "style_layers": ["relu1_1"]}
    session = ds.Session(PICTURE, PICTURE, preset="001-vgg16", **layers)
    assert session.recipe["network_weights"]["sha256"] == sha256(path)


def test_the_callers_weights_come_first(cached, tmp_path):
    cached("vgg19")
    arrays = weights.embedded()
    assert ds.Session(PICTURE, PICTURE, weights=arrays).recipe["network_weights"] is None
    session = ds.Session(PICTURE, PICTURE, weights=weights.EMBEDDED)
    assert session.recipe["network_weights"]["file"] == "encoder.safetensors"


def test_a_damaged_file_in_the_cache_is_named(cached):
    path = cached("vgg19")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ds.WeightsError, match=path.name):
        ds.Session(PICTURE, PICTURE)
