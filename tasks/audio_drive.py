"""Speech features of a drive, the recording that a head is made to say."""

from __future__ import annotations

from models.errors import InputError
from models.records import AudioFeatures
from tasks.media import FPS, SAMPLE_RATE, read_sound
from tasks.people import DRIVE_SECONDS
from tasks.speech_features import AudioParams, extract
from tasks.stage import Context, Stage, main

SHORTEST_S = 0.2

STAGE = Stage(name="audio_drive", per=("extractor", "drive"), params=AudioParams, gives=AudioFeatures, section="audio")


def run(context: Context[AudioParams]) -> AudioFeatures:
    """Compute the features of a drive, for as many frames as its sound lasts.

    Raises:
        InputError: the recording is missing, damaged, too short or too long.
    """
    drive = context.drive()
    path = context.places.raw_drive(str(context.keys.drive)) / drive.source
    sound = read_sound(path, SAMPLE_RATE, max_seconds=DRIVE_SECONDS)
    if len(sound) < SHORTEST_S * SAMPLE_RATE:
        said = f"{path}: {len(sound) / SAMPLE_RATE:.2f} s of sound"
        raise InputError(said, "nothing can be said in that time", "use a longer recording")
    frame_count = round(len(sound) / SAMPLE_RATE * FPS)
    return extract(sound, SAMPLE_RATE, frame_count, str(context.keys.extractor), context.params, context.places)


if __name__ == "__main__":
    main(STAGE, run)
