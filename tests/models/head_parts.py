"""Small parts of a TalkingGaussian head: a field, a camera, motion networks."""

from dataclasses import replace

import numpy as np
import torch

from models.gaussians.camera import Camera
from models.gaussians.field import create_field
from models.methods.talking_gaussian import Config, FaceMotion, MouthMotion

CONFIG = Config(audio_size=6)


def face_motion(seed=0, **options):
    torch.manual_seed(seed)
    return FaceMotion(replace(CONFIG, **options), torch.Generator().manual_seed(seed))


def mouth_motion(seed=0, **options):
    torch.manual_seed(seed)
    return MouthMotion(replace(CONFIG, **options), torch.Generator().manual_seed(seed))


def field(count=60, seed=0):
    random = np.random.default_rng(seed)
    return create_field(random.uniform(-0.05, 0.05, (count, 3)), random.uniform(0, 1, (count, 3)), 1, opacity=0.6)


def camera(width=48, height=40):
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 0.6
    return Camera(pose, torch.tensor([[200.0, 0, width / 2], [0, 200, height / 2], [0, 0, 1]]), width, height)


def sound(frames=3):
    return torch.randn(frames, 8, 6, 16, generator=torch.Generator().manual_seed(5)) * 3
