"""The tiny speaker with a head that nobody has trained, but that moves a lot with what it hears."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from tiny_speaker import KEYS, make_speaker

from models.audio import logmel
from models.audio.align import scale_of
from models.records import AudioFeatures, Clip, HeadTrack, RefinedPoses, Weights
from tasks.bench.head import synthetic_branches
from tasks.places import Keys, Places

SPEAKER = Keys(speaker="egg")
PEOPLE = {
    "research": "basis: research\nresearch: {source: an archive, reason: a test}\n",
    "consent": "basis: consent\nconsent: {who: E. Gg, scope: tests, date: 2020-01-01, expiry: 2999-01-01, "
    f"evidence_sha256: '{'0' * 64}'}}\n",
}


def make_speaking_egg(root: Path) -> Places:
    places = make_speaker(root)
    clip, track = (kind.load(places.record(stage, SPEAKER)) for kind, stage in ((Clip, "ingest"), (HeadTrack, "track")))
    count = len(track.valid)
    save(places, "pose_refine", SPEAKER, RefinedPoses(track.world_to_camera, np.zeros((count, 4), np.float32)))
    values = logmel.extract(clip.sound, count, 16)
    save(places, "audio", KEYS, AudioFeatures("logmel", "1", 25.0, values, *scale_of(values), count / 25))
    branches = synthetic_branches((150, 40), "cpu")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for branch in branches:
            branch.motion.planes.table.normal_(0, 0.7, generator=generator)
            for name, parameter in branch.motion.audio.named_parameters():
                parameter.mul_(0 if name.endswith("bias") else 1.6)
            branch.motion.decoder.weights[-1].mul_(30)
    config = dataclasses.asdict(branches[0].motion.config)
    tensors = {**branches[0].tensors("face"), **branches[1].tensors("mouth")}
    save(
        places,
        "tg_fuse",
        KEYS,
        Weights("talking_gaussian", "fuse", {"face": config, "mouth": config}, tensors),
    )
    return places


def save(places: Places, stage: str, keys: Keys, record) -> None:
    folder = places.record(stage, keys)
    folder.mkdir(parents=True, exist_ok=True)
    record.save(folder)


def write_person(places: Places, basis: str) -> None:
    record = places.speaker_record("egg")
    record.write_text(f"name: egg\nsources: [egg.mp4]\n{PEOPLE.get(basis, 'basis: ' + basis)}")
