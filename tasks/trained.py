"""Which heads of a speaker are trained."""

from __future__ import annotations

from models.audio import extractor as find_extractor
from models.errors import InputError
from models.records import AudioFeatures
from models.storage import RECORD_FILE
from tasks.methods import METHODS, TALKING_GAUSSIAN
from tasks.params import names_listed, read_yaml
from tasks.people import Speaker, load_speaker
from tasks.places import Keys, Places, check_name
from tasks.speech_features import AudioParams
from tasks.stage import keys_per_stage


def speaker_with_head(places: Places, speaker: str, extractor: str, method: str = TALKING_GAUSSIAN.name) -> Speaker:
    """Return a speaker of the project whose head is trained.

    Raises:
        UsageError: there is no such speaker.
        ConsentError: there is no valid basis for using this person's likeness.
        InputError: the head is not trained.
    """
    check_name(speaker, there=True)
    person = load_speaker(places, speaker)
    check_trained(places, speaker, extractor, method)
    return person


def usual_extractor(places: Places) -> str:
    """Return the extractor of the head that is meant where none is named: the first that params.yaml lists."""
    listed = read_yaml(places.params).get("extractors")
    return str(listed[0]) if isinstance(listed, list) and listed else "logmel"


def heard_by(places: Places, speaker: str, extractor: str) -> AudioParams:
    """Return how much sound a frame of a trained head hears, whatever params.yaml asks of the next one."""
    windows = AudioFeatures.load(places.record("audio", Keys(speaker=speaker, extractor=extractor))).values
    return AudioParams(window=windows.shape[2])


def check_trained(places: Places, speaker: str, extractor: str, method: str = TALKING_GAUSSIAN.name) -> None:
    """Refuse a head that is not there.

    Raises:
        InputError: it has not been trained, or is being trained anew; the message names those that are there.
        UsageError: there is no such extractor.
    """
    there = [(name, found) for name in METHODS for found in _trained(places, speaker, name)]
    if (method, extractor) in there:
        return
    wanted = METHODS[method]
    same = [found for name, found in there if name == method]
    option = "" if wanted is TALKING_GAUSSIAN else f" --method {method.replace('_', '')}"
    of_others = [f"{found} with {METHODS[name].title}" for name, found in there if name != method]
    find_extractor(extractor)
    known = names_listed(places.params, "extractors")
    first = "" if extractor in known else f"add {extractor} to extractors in params.yaml, then "
    raise InputError(
        f"{speaker} has no head for {extractor} that {wanted.title} has trained",
        f"trained: {', '.join([*same, *of_others]) or 'none'}",
        f"{first}gausstalk run {speaker}{option}" + (f"; or --extractor {same[0]}" if same else ""),
    )


def _trained(places: Places, speaker: str, method: str) -> list[str]:
    """Return the extractors that a method has a whole head for."""
    stages = METHODS[method].trained
    per_extractor = [stage for stage in stages if "extractor" in keys_per_stage(stage)]
    if not all((places.record(stage, Keys(speaker)) / RECORD_FILE).is_file() for stage in {*stages} - {*per_extractor}):
        return []
    found = [{path.parent.name for path in places.record(s, Keys(speaker)).glob(f"*/{RECORD_FILE}")}
             for s in per_extractor]  # fmt: skip
    return sorted(set.intersection(*found))
